// Closest calls, what else the study found, and its numbers.

const FIRST_CALLS = 12;
const LONG_TABLE = 40;  // lines, above which it scrolls by itself

/** Rows between two clusters, each with both centroids. */
function callsSection(study, pictures) {
  if (!study.calls.length) return null;
  const about = `The ${study.rows} that are nearly as close to another centroid as to their own; the margin is the difference of the two distances.`;
  if (!pictures.exist) {
    const lines = study.calls.slice(0, 20).map((i) => [cut(study.rowName(i)), ...(study.classes ? [cut(study.classOf(i))] : []),
      cut(study.clusterName(study.arrays.label[i])), cut(study.clusterName(study.arrays.second[i])), short(study.arrays.distance[i]), short(study.arrays.margin[i], 3)]);
    return section("calls", "Closest calls", about, element("div.scroll.whole", {}, table([
      [study.ids ? "id" : "row", ...(study.classes ? [cut(study.className)] : []), "cluster", "next nearest", "distance", "margin"], ...lines])));
  }
  const side = (c, title) => element("div", {}, pictures.center(c, 60), title, element("br"), study.clusterName(c));
  const cards = study.calls.map((i) => element("div.call", { "data-row": i },
    side(study.arrays.label[i], "own"), element("div", {}, pictures.row(i, 72)), side(study.arrays.second[i], "next"),
    element("p", {}, study.rowName(i), study.classes ? `, ${study.className} ${study.classOf(i)}` : "", `, margin ${short(study.arrays.margin[i], 3)}`)));
  const list = element("div.calls", {}, cards.slice(0, FIRST_CALLS));
  const more = cards.length <= FIRST_CALLS ? null : element("button.more", { type: "button", style: { marginTop: "12px" },
    onclick: () => { list.append(...cards.slice(FIRST_CALLS)); more.remove(); } }, `${cards.length - FIRST_CALLS} more`);
  return section("calls", "Closest calls", about, list, more);
}

/** Whatever the study has beside: a picture, a table, a flow. */
function extraSections(study) {
  return study.extras.map((extra, i) => section(`extra-${i}`, extra.title, extra.about,
    extra.picture ? element("div.scroll.whole", {}, element("img.extra", { src: `data:image/png;base64,${extra.picture}`, alt: extra.about || extra.title })) : null,
    extra.flow ? flowDiagram(extra.flow) : null,
    extra.table.length ? element(extra.table.length > LONG_TABLE ? "div.scroll" : "div.scroll.whole", {}, table(extra.table)) : null));
}

function numbersSection(study) {
  const files = element("div.bar.screen", {},
    element("button", { type: "button", onclick: () => save(labelsFile(study), "labels.csv") }, "Save labels as CSV"));
  return section("numbers", "Numbers", `${whole(study.n)} ${study.rows} of ${whole(study.features)} features; source: ${study.source}.`,
    files, element("div.two", {},
      element("div", {}, table([["measure", "value"], ...study.metrics], { kind: ".wide" })),
      element("div", {}, table([["the fit", ""], ...study.facts], { kind: ".wide" }))),
    study.notes.length ? [element("h3", {}, "Notes"), study.notes.map((note) => element("p", {}, note))] : null);
}

/** The first lines of the page. */
function headline(study) {
  document.getElementById("title").textContent = study.title;
  document.getElementById("lead").textContent = `${whole(study.n)} ${study.rows} of ${whole(study.features)} features`
    + (study.classes ? `, compared with ${whole(study.classes.length)} known classes (${study.className})` : "") + ".";
  const right = accuracy(study);
  const kept = study.mergedInto.filter((to, from) => to === from).length;
  const tiles = [
    ["clusters", whole(kept)],
    ...(right === null ? [] : [["accuracy by cluster names", percent(right)]]),
    ...(study.silhouette ? [[`${study.silhouette.kind} silhouette`, study.silhouette.mean.toFixed(3)]] : []),
    ...(study.iterations.length ? [["iterations", whole(study.iterations.length)]] : []),
    ["largest, smallest cluster", `${whole(Math.max(...study.sizes))}, ${whole(Math.min(...study.sizes))}`],
  ];
  document.getElementById("tiles").replaceChildren(...tiles.map(([name, value]) => element("div", {}, element("dt", {}, name), element("dd", {}, value))));
  document.getElementById("messages").replaceChildren(...study.warnings.map((text) => element("div", {}, text)));
}
