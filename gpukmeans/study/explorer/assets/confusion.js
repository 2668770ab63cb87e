// Which classes went to which clusters; a cell shows its images.

function confusionSection(study, pictures) {
  if (!study.counts) {
    return study.classes ? section("confusion", "Clusters and classes", `There are ${whole(study.classes.length)} classes, too many for a table.`) : null;
  }
  const shown = element("div", { id: "cell", "aria-live": "polite" });
  const facts = element("div.hover");
  let chosen = null;

  function open(button, c, j) {
    chosen?.classList.remove("chosen");
    chosen = button;
    button.classList.add("chosen");
    const rows = study.rowsOf(c, j).sort((a, b) => study.arrays.margin[b] - study.arrays.margin[a]);
    facts.replaceChildren();
    shown.replaceChildren(
      element("h3", {}, `${study.className} ${study.classes[j]} in cluster ${study.clusterName(c)}: ${whole(study.counts[c][j])} ${study.rows}`,
        element("span.hint", {}, rows.length < study.counts[c][j] ? ` of which ${whole(rows.length)} are in this page` : " the surest first")),
      pictures.wall(rows, (row) => facts.replaceChildren(...rowFacts(study, pictures, row))), facts);
  }

  const head = element("tr", {}, element("th.text", { scope: "col" }, "cluster"),
    study.classes.map((name) => element("th", { scope: "col" }, cut(name))), element("th", { scope: "col" }, "all"));
  const largest = (c) => study.counts[c].indexOf(Math.max(...study.counts[c]));
  const order = study.counts.map((_, c) => c).sort((a, b) => largest(a) - largest(b) || study.sizes[b] - study.sizes[a]);
  const lines = order.map((c) => {
    const counts = study.counts[c];
    const size = study.sizes[c];
    return element("tr", {}, element("th", { scope: "row" }, cut(study.clusterName(c))), counts.map((count, j) => {
      const share = size ? count / size : 0;
      const button = count ? element("button", { type: "button", "data-cluster": c, "data-class": j,
        "aria-label": `${whole(count)} of ${study.className} ${study.classes[j]} in cluster ${study.clusterName(c)}`,
        style: { background: `color-mix(in srgb, var(--accent) ${Math.round(10 + 90 * share)}%, var(--card))`, color: share > 0.75 ? "var(--accent-ink)" : "inherit" },
        onclick: () => open(button, c, j) }, whole(count)) : "";
      return element("td", {}, button);
    }), element("td", {}, whole(size)));
  });
  const made = element(study.classes.length > 8 ? "table.cells.narrow" : "table.cells", {}, element("thead", {}, head), element("tbody", {}, lines));
  return section("confusion", "Clusters and classes",
    `How many ${study.rows} of each ${study.className} are in each cluster, the darker the larger their share of the cluster. Choose a cell to see them.`,
    element("div.scroll", {}, made), shown);
}
