// How rows flow from the clusters of one clustering to those of another.

/**
 * A diagram of bands.
 * @param {{from: string[], clusters: number[], to: string[], counts: number[][], titles: string[]}} flow
 */
function flowDiagram({ from, clusters, to, counts, titles }) {
  const total = counts.flat().reduce((a, b) => a + b, 0) || 1;
  const [w, gap] = [chartWidth(760), 6];
  const edge = roomFor([...from, ...to, ...titles], w / 4) + 8;
  const h = Math.max(320, 22 * Math.max(from.length, to.length)) + 24;
  const stack = (sizes) => {
    const scale = (h - 24 - gap * (sizes.length - 1)) / total;
    let y = 24;
    return sizes.map((size) => {
      const node = { y, height: size * scale, used: 0, scale };
      y += node.height + gap;
      return node;
    });
  };
  const left = stack(counts.map((line) => line.reduce((a, b) => a + b, 0)));
  const right = stack(to.map((_, j) => counts.reduce((sum, line) => sum + line[j], 0)));
  const palette = colours(Math.max(...clusters) + 1);
  const bands = counts.flatMap((line, i) => line.map((count, j) => {
    if (!count) return [];
    const [a, b] = [left[i], right[j]];
    const [y1, y2, d1, d2] = [a.y + a.used, b.y + b.used, count * a.scale, count * b.scale];
    a.used += d1;
    b.used += d2;
    return shape("path", { d: `M${edge},${y1} C${w / 2},${y1} ${w / 2},${y2} ${w - edge},${y2} v${d2} C${w / 2},${y2 + d2} ${w / 2},${y1 + d1} ${edge},${y1 + d1} z`,
      fill: css(palette[clusters[i]]), "fill-opacity": 0.45 }, shape("title", {}, `${from[i]} to ${to[j]}: ${whole(count)}`));
  }));
  const names = (nodes, texts, x, anchor) => nodes.map((node, i) => shape("text",
    { x, y: node.y + node.height / 2 + 4, "text-anchor": anchor }, clipped(texts[i], edge - 8)));
  return shape("svg", { viewBox: `0 0 ${w} ${h}`, width: w, role: "img", "aria-label": `Flow of rows from ${titles[0]} to ${titles[1]}` },
    shape("text", { x: edge - 8, y: 12, "text-anchor": "end", class: "soft" }, clipped(titles[0], edge - 8)),
    shape("text", { x: w - edge + 8, y: 12, class: "soft" }, clipped(titles[1], edge - 8)),
    bands, names(left, from, edge - 8, "end"), names(right, to, w - edge + 8, "start"));
}
