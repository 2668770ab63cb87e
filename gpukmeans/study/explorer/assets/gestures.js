// How the map is moved and asked: mouse, wheel, fingers, keys.

class Gestures {
  /**
   * @param {RowMap} map
   * @param {{hover: function(number), choose: function(number), selected: function(number[])}} tell
   */
  constructor(map, tell) {
    this.map = map;
    this.tell = tell;
    this.lassoing = false;
    this.pointers = new Map();  // of fingers, or the mouse, that are down: id -> [x, y]
    this.travelled = 0;
    const { box } = map;
    box.tabIndex = 0;
    box.setAttribute("role", "application");
    box.setAttribute("aria-label", "Map. Arrow keys move, plus and minus zoom, 0 shows all, Enter asks for the row in the middle.");
    box.addEventListener("pointerdown", (event) => this.down(event));
    box.addEventListener("pointermove", (event) => this.move(event));
    for (const end of ["pointerup", "pointercancel"]) box.addEventListener(end, (event) => this.up(event));
    // A finger leaves when it is lifted: what it has tapped stays.
    box.addEventListener("pointerleave", (event) => event.pointerType === "touch" || this.pointers.size || this.hover(-1));
    box.addEventListener("wheel", (event) => this.wheel(event), { passive: false });
    box.addEventListener("dblclick", (event) => map.zoom(2, ...this.place(event)));
    box.addEventListener("keydown", (event) => this.key(event));
  }

  place(event) {
    const { left, top } = this.map.box.getBoundingClientRect();
    return [event.clientX - left, event.clientY - top];
  }

  hover(row) {
    if (row === this.map.hovered) return;
    this.map.hovered = row;
    this.map.drawOver();
    this.tell.hover(row);
  }

  down(event) {
    this.map.box.setPointerCapture(event.pointerId);
    this.pointers.set(event.pointerId, this.place(event));
    this.travelled = this.pointers.size > 1 ? Infinity : 0;
    if (this.pointers.size > 1) this.map.lasso = [];
    else if (this.lassoing || event.shiftKey) this.map.lasso = [this.map.toMap(...this.place(event))];
  }

  move(event) {
    const here = this.place(event);
    const before = this.pointers.get(event.pointerId);
    if (!before) {
      this.hover(this.map.rowAt(...here));
      return;
    }
    const [dx, dy] = [here[0] - before[0], here[1] - before[1]];
    this.travelled += Math.hypot(dx, dy);
    if (this.pointers.size > 1) {
      const [other] = [...this.pointers].filter(([id]) => id !== event.pointerId).map(([, place]) => place);
      const spread = (place) => Math.hypot(place[0] - other[0], place[1] - other[1]) || 1;
      this.map.pan(dx / 2, dy / 2);
      this.map.zoom(spread(here) / spread(before), (here[0] + other[0]) / 2, (here[1] + other[1]) / 2);
    } else if (this.map.lasso.length) {
      this.map.lasso.push(this.map.toMap(...here));
      this.map.drawOver();
    } else {
      this.map.pan(dx, dy);
    }
    this.pointers.set(event.pointerId, here);
  }

  up(event) {
    if (!this.pointers.delete(event.pointerId)) return;
    const { lasso } = this.map;
    this.map.lasso = [];
    if (lasso.length > 2) this.tell.selected(this.map.points.within(lasso));
    else if (event.type === "pointerup" && this.travelled < 5) {
      const row = this.map.rowAt(...this.place(event));
      this.hover(row);
      this.tell.choose(row);
    }
    this.map.drawOver();
  }

  wheel(event) {
    event.preventDefault();
    const pixels = event.deltaMode === 1 ? 16 * event.deltaY : event.deltaY;
    this.map.zoom(Math.exp(-Math.max(-200, Math.min(200, pixels)) / (event.ctrlKey ? 80 : 300)), ...this.place(event));
  }

  key(event) {
    const step = event.shiftKey ? 160 : 40;
    const act = {
      ArrowLeft: () => this.map.pan(step, 0),
      ArrowRight: () => this.map.pan(-step, 0),
      ArrowUp: () => this.map.pan(0, step),
      ArrowDown: () => this.map.pan(0, -step),
      "+": () => this.map.zoom(1.4),
      "=": () => this.map.zoom(1.4),
      "-": () => this.map.zoom(1 / 1.4),
      0: () => this.map.reset(),
      Escape: () => this.tell.selected(null),
      Enter: () => {
        const { width, height } = this.map.box.getBoundingClientRect();
        const row = this.map.points.nearest(...this.map.toMap(width / 2, height / 2), SPAN);
        this.hover(row);
        this.tell.choose(row);
      },
    }[event.key];
    if (!act || event.ctrlKey || event.metaKey || event.altKey) return;
    event.preventDefault();
    act();
  }
}

/** The section of the map: its buttons, and beside it what it shows. */
function mapSection(study, pictures, openCluster) {
  const box = element("div.canvas");
  const hover = element("div.hover.screen");
  const legend = element("div");
  const chosen = element("div");
  const idle = "Point at the map to see a row; click to open its cluster.";
  hover.append(element("p.hint", {}, idle));

  const kinds = ["cluster", ...(study.classes ? ["class"] : []), ...(study.k > 1 ? ["margin"] : [])];
  const byKind = kinds.map((kind) => element("button", { type: "button", "aria-pressed": String(kind === "cluster"), onclick: () => {
    for (const other of byKind) other.setAttribute("aria-pressed", String(other === byKind[kinds.indexOf(kind)]));
    map.colourBy(kind);
    showLegend();
  } }, kind === "class" ? study.className : kind));
  const toggle = (text, act) => {
    const button = element("button", { type: "button", "aria-pressed": "false", onclick: () => {
      const on = button.getAttribute("aria-pressed") !== "true";
      button.setAttribute("aria-pressed", String(on));
      act(on);
    } }, text);
    return button;
  };
  const lasso = toggle("Lasso", (on) => { gestures.lassoing = on; box.classList.toggle("lasso", on); });
  const images = study.image ? toggle("Images", (on) => { map.showImages = on; map.request(); }) : null;
  const press = (text, label, act) => element("button", { type: "button", "aria-label": label, title: label, onclick: act }, text);
  const bar = element("div.bar", {},
    element("span.hint", {}, "Colour"), element("div.group", { role: "group", "aria-label": "Colour by" }, byKind),
    element("span.gap"), images, lasso,
    element("div.group", { role: "group", "aria-label": "Zoom" },
      press("−", "zoom out", () => map.zoom(1 / 1.6)), press("+", "zoom in", () => map.zoom(1.6)),
      press("All", "show all", () => { map.reset(); tell.selected(null); })));

  const tell = {
    hover(row) {
      hover.replaceChildren(...(row < 0 ? [element("p.hint", {}, idle)] : rowFacts(study, pictures, row)));
    },
    choose(row) {
      if (row < 0) return;
      tell.hover(row);
      openCluster(study.mergedInto[study.arrays.label[row]], false);
    },
    selected(rows) {
      map.select(rows?.length ? rows : null);
      chosen.replaceChildren(...(rows ? selectionFacts(study, pictures, rows, (row) => tell.hover(row)) : []));
    },
  };
  function showLegend() {
    legend.replaceChildren(...legendOf(study, map.kind));
  }

  const sampled = study.held < study.n ? ` Shown is a random sample of ${whole(study.held)} of ${whole(study.n)}.` : "";
  const made = section("map", "Map",
    `Each point is one of the ${study.rows}, placed by ${study.mapName}.${sampled}`
      + (study.image ? " Zoom in, and the points become the images themselves." : ""),
    bar, element("div.map", {}, box, element("div.aside", {}, element("h3.screen", {}, "Under the pointer"), hover, chosen, legend)),
    element("p.hint", { style: { margin: "10px 0 0" } }, "Drag to move, wheel or pinch to zoom, Shift and drag for a lasso; or arrow keys, + and −."));
  const map = new RowMap(box, study);
  const gestures = new Gestures(map, tell);
  showLegend();
  return { made, map, tell, showLegend };
}

/** A row in words and as a picture. */
function rowFacts(study, pictures, i) {
  const ofClass = study.classOf(i);
  const second = study.arrays.second?.[i] ?? NO_CLASS;
  const pairs = [
    ["", study.rowName(i)],
    ["cluster", study.clusterName(study.arrays.label[i])],
    ...(ofClass === null ? [] : [[study.className, ofClass]]),
    ...(study.arrays.distance ? [["distance", short(study.arrays.distance[i])]] : []),
    ...(second === NO_CLASS ? [] : [["margin", short(study.arrays.margin[i])], ["next nearest", study.clusterName(second)]]),
  ];
  return [pictures.row(i, 84) ?? "", element("dl", { "data-row": i },
    pairs.map(([name, value]) => [element("dt", {}, name || "row"), element("dd", {}, value)]))];
}

/** What the lasso holds. */
function selectionFacts(study, pictures, rows, choose) {
  const counts = new Map();
  const by = study.classes ? study.arrays.class : study.arrays.label;
  for (const i of rows) counts.set(by[i], (counts.get(by[i]) ?? 0) + 1);
  const most = [...counts].sort(([, a], [, b]) => b - a).slice(0, 6);
  return [
    element("h3", {}, `${whole(rows.length)} ${study.rows} in the lasso`),
    element("p.hint", {}, most.map(([index, n]) =>
      `${study.classes ? `${study.className} ${study.classes[index]}` : study.clusterName(index)}: ${whole(n)}`).join(", ")),
    pictures.wall(rows, choose, { width: 34, most: 60 }),
  ];
}

/** What the colours mean. */
function legendOf(study, kind) {
  if (kind === "margin") {
    const stops = Array.from({ length: 9 }, (_, i) => css(ramp(i / 8))).join(", ");
    return [element("div.ramp", { style: { background: `linear-gradient(90deg, ${stops})` } }),
      element("p.hint", {}, "Left: as near to another centroid as to the own. Right: far from all others. In ranks.")];
  }
  const all = kind === "class" ? study.classes : study.names.map((_, c) => study.clusterName(c));
  const palette = kind === "class" ? study.classColours : study.colours;
  const kept = all.map((name, i) => [name, i]).filter(([, i]) => kind === "class" || study.mergedInto[i] === i);
  const list = element("ul.legend", {}, kept.slice(0, 100).map(([name, i]) => element("li", { title: name },
    element("span.dot", { style: { background: css(palette[i]) } }), element("span", {}, name))));
  return kept.length > 100 ? [list, element("p.hint", {}, `and ${whole(kept.length - 100)} more`)] : [list];
}
