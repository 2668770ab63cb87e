// Clusters renamed and merged by hand, and how often their names are right.

/** Counts of classes in a cluster, those merged into it included. */
function mergedCounts(study, cluster) {
  const sums = new Array(study.classes.length).fill(0);
  study.counts.forEach((line, c) => {
    if (study.mergedInto[c] === cluster) line.forEach((count, j) => { sums[j] += count; });
  });
  return sums;
}

/** Rows of a cluster, those merged into it included. */
function mergedSize(study, cluster) {
  return study.sizes.reduce((sum, size, c) => sum + (study.mergedInto[c] === cluster ? size : 0), 0);
}

/**
 * The share of rows whose class is that of their cluster: the class that a cluster is called by hand, if it is called
 * like one, else its most frequent class.  Null without classes.
 */
function accuracy(study) {
  if (!study.counts) return null;
  let right = 0;
  for (let c = 0; c < study.k; c++) {
    if (study.mergedInto[c] !== c) continue;
    const counts = mergedCounts(study, c);
    const called = study.classes.indexOf(study.names[c]);
    right += called >= 0 ? counts[called] : Math.max(...counts);
  }
  return right / study.n;
}

/** Move a cluster, and those that were merged into it, into another; into itself: apart again. */
function merge(study, cluster, into) {
  const target = study.mergedInto[into];
  study.mergedInto.forEach((old, c) => {
    if (c === cluster || (old === cluster && target !== cluster)) study.mergedInto[c] = c === cluster && into === cluster ? c : target;
  });
}

/** A file of the labels as they are called now, made in the browser. */
function labelsFile(study) {
  const quoted = (value) => {
    const text = /^[=+\-@\t\r]/.test(value) && Number.isNaN(Number(value)) ? `'${value}` : String(value);
    return /[",\n\r]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
  };
  const lines = [`${study.ids ? "id" : "row"},cluster,name,margin`];
  for (let i = 0; i < study.held; i++) {
    const c = study.mergedInto[study.arrays.label[i]];
    const margin = study.arrays.margin[i];
    lines.push([quoted(study.idTexts ? study.idTexts[i] : study.arrays.row[i]), c, quoted(study.names[c]),
      Number.isNaN(margin) ? "" : margin].join(","));
  }
  return new Blob([lines.join("\n"), "\n"], { type: "text/csv" });
}

/** Let the browser save a file. */
function save(blob, name) {
  const link = element("a", { href: URL.createObjectURL(blob), download: name });
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
}

/** The fields of a cluster's page that rename and merge it. */
function namingFields(study, cluster, changed) {
  const name = element("input", { type: "text", value: study.names[cluster], maxLength: 120, "aria-label": "name of the cluster",
    onchange: () => { study.names[cluster] = name.value.trim() || `cluster ${cluster}`; changed(); } });
  const others = study.names.map((_, c) => c).filter((c) => c !== cluster && study.mergedInto[c] === c);
  const into = element("select", { "aria-label": "merge into another cluster", onchange: () => {
    merge(study, cluster, Number(into.value));
    changed();
  } }, element("option", { value: cluster }, study.mergedInto[cluster] === cluster ? "merge into …" : "apart again"),
  others.map((c) => element("option", { value: c, selected: study.mergedInto[cluster] === c }, study.clusterName(c))));
  return element("div.bar.screen", {}, element("label.field", {}, "Name", name), study.k > 1 ? into : null);
}
