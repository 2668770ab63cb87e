// All clusters as cards, and one of them in full.

const FIRST_CARDS = 60;

class Clusters {
  /** @param {function()} changed  called when a cluster has been renamed or merged */
  constructor(study, pictures, changed) {
    Object.assign(this, { study, pictures, changed, chosen: null, most: FIRST_CARDS });
    this.cards = element("div.cards");
    this.detail = element("div", { id: "cluster" });
    this.made = section("clusters", "Clusters", pictures.exist
      ? "Each by its centroid. Choose one to see its members and its doubtful cases."
      : "Choose one to see what sets it apart, its members and its doubtful cases.",
      this.cards, this.detail);
    this.show();
  }

  show() {
    const { study } = this;
    const order = study.names.map((_, c) => c).filter((c) => study.mergedInto[c] === c);
    this.cards.replaceChildren(...order.slice(0, this.most).map((c) => this.card(c)));
    if (order.length > this.most) {
      this.cards.append(element("button.more", { type: "button", onclick: () => { this.most += 240; this.show(); } },
        `${whole(order.length - this.most)} more`));
    }
    if (this.chosen !== null) this.open(this.chosen, false);
  }

  card(c) {
    const { study, pictures } = this;
    const size = mergedSize(study, c);
    const counts = study.counts && size ? mergedCounts(study, c) : null;
    const best = counts ? counts.indexOf(Math.max(...counts)) : -1;
    const share = counts ? counts[best] / size : size / study.n;
    const told = counts ? `${percent(share)} ${study.className} ${study.classes[best]}` : `${percent(share)} of all`;
    return element("button.card", { type: "button", "data-cluster": c, "aria-current": String(c === this.chosen), onclick: () => this.open(c) },
      pictures.center(c),
      element("span.name", {}, element("span.dot", { style: { background: css(study.colours[c]) } }), element("span", { title: study.clusterName(c) }, study.clusterName(c))),
      element("small", {}, size ? `${whole(size)} ${study.rows}` : "empty"), size ? element("small", { title: told }, told) : null,
      element("div.share", {}, element("i", { style: { width: `${100 * share}%`, background: css(study.colours[c]) } })));
  }

  /** Show a cluster in full. */
  open(c, scroll = true) {
    this.chosen = c;
    for (const card of this.cards.children) card.setAttribute("aria-current", String(Number(card.dataset.cluster) === c));
    const { study, pictures } = this;
    const pick = (row) => facts.replaceChildren(...rowFacts(study, pictures, row));
    const facts = element("div.hover", {});
    const size = study.sizes[c];
    const mean = study.silhouette?.means[c];
    const pairs = [
      [study.rows, whole(size)], ["share of all", percent(size / study.n)], ["mean distance", short(study.radii[c])],
      ...(study.silhouette ? [["silhouette", short(mean, 3)]] : []),
    ];
    const merged = study.mergedInto.map((to, from) => [to, from]).filter(([to, from]) => to === c && from !== c).map(([, from]) => from);
    const walls = [["typical", "Most typical", "nearest to the centroid"], ["doubtful", "Most doubtful", "of the smallest margins: they might as well be in another cluster"],
      ["farthest", "Farthest", "from the centroid"]].map(([kind, title, why]) => {
      const rows = study.members[kind][c];
      return rows.length ? [element("h3", {}, title, element("span.hint", {}, ` ${why}`)), pictures.exist
        ? pictures.wall(rows, pick) : featureTable(study, rows, c)] : [];
    });
    this.detail.replaceChildren(element("div.detail", { "data-cluster": c },
      element("div", {}, bigCenter(pictures, c),
        element("h3", {}, study.clusterName(c)), namingFields(study, c, this.changed),
        element("dl.pairs", {}, pairs.map(([name, value]) => [element("dt", {}, name), element("dd", {}, value)])),
        merged.length ? element("p.about", {}, "With ", merged.map((from) => study.clusterName(from)).join(", "), "; ",
          element("button", { type: "button", onclick: () => { for (const from of merged) study.mergedInto[from] = from; this.changed(); } }, "apart again")) : null),
      element("div", {}, size ? null : element("p.notice", {}, "No row belongs to this cluster."),
        study.counts && size ? classBars(study, c) : null, featureBars(study, c),
        walls, pictures.exist ? facts : null)));
    if (scroll) this.detail.scrollIntoView({ block: "start" });
  }
}

function bigCenter(pictures, c) {
  const made = pictures.center(c);
  made?.classList.add("big");
  return made ?? "";
}

/** How many rows of each class a cluster has, the largest first. */
function classBars(study, c) {
  const counts = mergedCounts(study, c);
  const size = mergedSize(study, c);
  const order = counts.map((count, j) => [count, j]).filter(([count]) => count).sort(([a], [b]) => b - a);
  const bars = order.slice(0, 8).map(([count, j]) => [study.classes[j], count / size, `${whole(count)} (${percent(count / size)})`, study.classColours[j]]);
  return [element("h3", {}, `Which ${study.className}`, order.length > 8 ? element("span.hint", {}, ` the first 8 of ${order.length}`) : null),
    barChart(bars, `Shares of each ${study.className} in cluster ${c}`)];
}

/** Rows of a table, with the features in which clusters differ most; the cluster's center first. */
function featureTable(study, rows, c) {
  const m = study.featureNames.length;
  const shown = Math.min(m, 12);
  const of = (array, at) => Array.from({ length: shown }, (_, j) => short(array[at * m + j]));
  return element("div.scroll", {}, table([
    [study.ids ? "id" : "row", ...(study.classes ? [study.className] : []), "margin", ...study.featureNames.slice(0, shown)].map(cut),
    ["center", ...(study.classes ? [""] : []), "", ...of(study.arrays.centers, c)],
    ...rows.slice(0, 8).map((i) => [cut(study.rowName(i)), ...(study.classes ? [cut(study.classOf(i))] : []), short(study.arrays.margin[i], 3),
      ...of(study.arrays.features, study.shownAt.get(i))]),
  ]));
}

/** A name that may be long: cut where it is shown, whole when pointed at. */
function cut(text) {
  return element("span.cut", { title: text }, text);
}

/** In which features a center lies far from the mean, in standard deviations. */
function featureBars(study, c) {
  if (!study.featureNames) return null;
  const m = study.featureNames.length;
  const away = study.featureNames.map((name, j) => {
    const value = study.arrays.centers[c * m + j];
    return [name, (value - study.featureMeans[j]) / (study.featureDeviations[j] || 1), value];
  }).sort(([, a], [, b]) => Math.abs(b) - Math.abs(a)).slice(0, 10);
  return [element("h3", {}, "What sets it apart", element("span.hint", {}, " standard deviations from the mean of all rows")),
    signedBars(away.map(([name, by, value]) => [name, by, `${by > 0 ? "+" : ""}${by.toFixed(2)} (${short(value)})`]))];
}
