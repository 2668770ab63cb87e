// Small charts in SVG.

/** Bars from the left: [name, share of the width, text, colour]. */
function barChart(bars, alt) {
  const [w, line] = [chartWidth(520), 24];
  const left = roomFor(bars.map(([name]) => String(name)), w / 3) + 8;
  const long = w - left - 8 - Math.max(...bars.map(([, , text]) => textWidth(text)));
  return shape("svg", { viewBox: `0 0 ${w} ${bars.length * line}`, width: w, role: "img", "aria-label": alt },
    bars.map(([name, share, text, colour], i) => shape("g", { transform: `translate(0 ${i * line})` },
      shape("title", {}, `${name}: ${text}`),
      shape("text", { x: left - 8, y: 16, "text-anchor": "end" }, clipped(String(name), left - 8)),
      shape("rect", { x: left, y: 5, width: Math.max(1, long * share), height: 14, rx: 3, fill: css(colour) }),
      shape("text", { x: left + 8 + long * share, y: 16, class: "soft" }, text))));
}

/** Bars to both sides of a middle: [name, signed length, text]. */
function signedBars(bars) {
  const w = chartWidth(520);
  const [line, half] = [24, Math.min(80, w / 6)];
  const middle = w - half - 12 - Math.max(...bars.map(([, , text]) => textWidth(text)));
  const longest = Math.max(...bars.map(([, by]) => Math.abs(by)), 1e-12);
  return shape("svg", { viewBox: `0 0 ${w} ${bars.length * line}`, width: w, role: "img", "aria-label": "features that set the cluster apart" },
    bars.map(([name, by, text], i) => {
      const length = (half * Math.abs(by)) / longest;
      return shape("g", { transform: `translate(0 ${i * line})` },
        shape("title", {}, `${name}: ${text}`),
        shape("text", { x: middle - half - 8, y: 16, "text-anchor": "end" }, clipped(name, middle - half - 8)),
        shape("rect", { x: by < 0 ? middle - length : middle, y: 5, width: Math.max(1, length), height: 14, rx: 3, fill: css(by < 0 ? [92, 150, 206] : [240, 138, 54]) }),
        shape("text", { x: middle + half + 8, y: 16, class: "soft" }, text));
    }));
}

/** The silhouettes of every cluster: their profile from the best row to the worst, and the mean. */
function silhouetteSection(study) {
  const found = study.silhouette;
  if (!found) return section("silhouettes", "Silhouettes", "They need at least two clusters with rows, and fewer clusters than rows.");
  const order = study.sizes.map((_, c) => c).filter((c) => study.sizes[c]).sort((a, b) => found.means[b] - found.means[a]);
  const shown = order.length > 40 ? [...order.slice(0, 20), ...order.slice(-20)] : order;
  const points = study.arrays.profile.length / study.k;
  const least = Math.min(-0.1, ...study.arrays.profile.filter((value) => !Number.isNaN(value)));
  const [w, line, right] = [chartWidth(760), 34, 52];
  const left = roomFor(shown.map((c) => study.clusterName(c)), w / 3) + 12;
  const x = (value) => left + ((value - least) / (1 - least)) * (w - left - right);
  const h = shown.length * line + 26;
  const profile = (c, i) => {
    const y = i * line + 3;
    const step = (line - 8) / (points - 1);
    const edge = Array.from({ length: points }, (_, p) => `${x(study.arrays.profile[c * points + p]).toFixed(1)},${(y + p * step).toFixed(1)}`);
    return shape("g", {}, shape("title", {}, `cluster ${study.clusterName(c)}: mean ${short(found.means[c], 3)}`),
      shape("polygon", { points: `${x(0)},${y} ${edge.join(" ")} ${x(0)},${y + line - 8}`, fill: css(study.colours[c]) }),
      shape("text", { x: left - 12, y: y + 17, "text-anchor": "end" }, clipped(study.clusterName(c), left - 12)),
      shape("text", { x: w, y: y + 17, "text-anchor": "end", class: "soft" }, found.means[c].toFixed(3)));
  };
  const ticks = [0, 0.25, 0.5, 0.75, 1].map((value) => shape("g", {},
    shape("line", { x1: x(value), x2: x(value), y1: 0, y2: h - 22, class: "grid" }),
    shape("text", { x: x(value), y: h - 6, "text-anchor": "middle", class: "soft" }, String(value))));
  const mean = shape("line", { x1: x(found.mean), x2: x(found.mean), y1: 0, y2: h - 22, stroke: css(styled("--ink")), "stroke-dasharray": "4 4" });
  const middle = order.length > shown.length ? ` Shown are the best and the worst 20 of ${whole(order.length)} clusters.` : "";
  const kind = found.kind === "simplified"
    ? "Simplified: by distances to the centroids (--silhouette exact takes those to all rows, and mostly is lower)."
    : "Exact: by the distances to all rows.";
  return section("silhouettes", "Silhouettes",
    `How much nearer each of the ${study.rows} is to its own cluster than to the next: 1 is far from all others, 0 in between, below 0 nearer to another. ${kind} Dashed: the mean of all, ${found.mean.toFixed(3)}.${middle}`,
    shape("svg", { viewBox: `0 0 ${w} ${h}`, width: w, role: "img", "aria-label": `Silhouettes of ${shown.length} clusters, mean ${found.mean.toFixed(3)}` },
      ticks, shown.map(profile), mean));
}

/** Rows that moved in each iteration, on a logarithmic scale. */
function iterationChart(study) {
  const moved = study.iterations;
  const [w, h, left] = [chartWidth(520), 170, 62];
  const most = Math.log10(Math.max(...moved, 10));
  const x = (i) => left + (i * (w - left - 10)) / Math.max(moved.length - 1, 1);
  const y = (n) => 8 + (1 - (n ? Math.log10(n) + 0.3 : 0) / (most + 0.3)) * (h - 34);
  const ticks = Array.from({ length: Math.floor(most) + 1 }, (_, p) => 10 ** p);
  return shape("svg", { viewBox: `0 0 ${w} ${h}`, width: w, role: "img", "aria-label": `${study.rows} that moved in each of ${moved.length} iterations` },
    ticks.map((n) => shape("g", {}, shape("line", { x1: left, x2: w, y1: y(n), y2: y(n), class: "grid" }),
      shape("text", { x: left - 8, y: y(n) + 4, "text-anchor": "end", class: "soft" }, whole(n)))),
    shape("polyline", { points: moved.map((n, i) => `${x(i)},${y(n)}`).join(" "), fill: "none", stroke: css(styled("--accent")), "stroke-width": 2 }),
    shape("text", { x: left, y: h - 4, class: "soft" }, "iteration 1"),
    shape("text", { x: w - 4, y: h - 4, "text-anchor": "end", class: "soft" }, String(moved.length)));
}
