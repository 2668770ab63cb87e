// What a page does that `gpukmeans explore` serves: other fits, while you look.

const WAIT = 350;  // milliseconds between two questions how far a fit is, and after the slider has stopped

/** A request to the server of this page. */
async function ask(path, body) {
  const answer = await fetch(path, body === undefined ? {} : { method: "POST", body: JSON.stringify(body) });
  const told = await answer.json();
  if (!answer.ok) throw new Error(told.error);
  return told;
}

/** The controls of a page that is served; a report has none. */
function startLive({ live, k }) {
  if (!live) return;
  const told = element("output.field", { role: "status" });
  const number = element("output", {}, whole(k));
  const clusters = element("input", { type: "range", min: 1, max: Math.min(live.most, 64), value: k, "aria-label": "number of clusters" });
  const exact = element("input", { type: "number", min: 1, max: live.most, value: k, "aria-label": "number of clusters, exactly" });
  const seed = element("input", { type: "number", min: 0, max: 2 ** 32 - 1, value: live.seed, "aria-label": "seed" });
  const choice = (label, names) => element("select", { "aria-label": label },
    names.map((name) => element("option", { value: name, selected: name === live[label] }, name)));
  const init = choice("init", ["k-means++", "k-means||", "two-level", "random"]);
  const algorithm = choice("algorithm", ["k-means", "mini-batch", "bisecting", "spherical"]);
  const backend = choice("backend", ["auto", "numpy", "cupy"]);
  const cancel = element("button", { type: "button", disabled: true, onclick: () => ask("/cancel", {}).catch(failed) }, "Cancel");
  let waiting = null;
  let running = false;
  let again = false;  // something has changed while a fit ran

  const failed = (error) => { told.replaceChildren(element("span.error", {}, error.message)); };
  const later = () => { clearTimeout(waiting); waiting = setTimeout(fit, WAIT); };

  async function fit() {
    if (running) {
      again = true;
      ask("/cancel", {}).catch(failed);
      return;
    }
    running = true;
    cancel.disabled = false;
    try {
      let state = await ask("/fit", { clusters: Number(exact.value), seed: Number(seed.value), init: init.value, algorithm: algorithm.value, backend: backend.value });
      while (state.running) {
        told.textContent = state.text;
        await new Promise((resolve) => { setTimeout(resolve, WAIT); });
        state = await ask("/state");
      }
      if (state.error && !again) failed(new Error(state.error));
      if (!state.error) {
        const { content, arrays } = await ask("/content");
        const study = new Study(content, Object.fromEntries(Object.entries(arrays).map(([name, array]) => [name, () => array])));
        if (!arrays.thumbnails && page.study.arrays.thumbnails) study.arrays.thumbnails = page.study.arrays.thumbnails;
        await show(study);
        told.textContent = `fit ${state.version}`;
      }
    } catch (error) {
      failed(error);
    }
    running = false;
    cancel.disabled = true;
    if (again) {
      again = false;
      fit();
    }
  }
  clusters.addEventListener("input", () => { exact.value = clusters.value; number.textContent = clusters.value; later(); });
  exact.addEventListener("change", () => { clusters.value = exact.value; number.textContent = exact.value; later(); });
  for (const field of [seed, init, algorithm, backend]) field.addEventListener("change", later);
  const saved = (name) => element("a", { href: `/${name}`, download: name }, element("button", { type: "button", tabIndex: -1 }, name));
  document.getElementById("main").prepend(section("live", "Fit again", "Move the slider, and the page follows.",
    element("div.bar", {}, element("label.field.long", {}, "Clusters", clusters, number), exact),
    element("div.bar", {}, [["Algorithm", algorithm], ["Start", init], ["Seed", seed], ["Backend", backend]].map(([name, field]) => element("label.field", {}, name, field)), cancel),
    element("div.bar", {}, told, element("span.gap"), ["labels.csv", "model.npz", "report.html"].map(saved))));
}
