// The film of the fit: centers from the seeds to convergence.

function filmSection(study, pictures) {
  const chart = !study.iterations.length ? null : [element("h3", {}, `How many ${study.rows} moved in each iteration`), iterationChart(study)];
  if (typeof study.film === "string") return study.film || chart ? section("film", "The fit", study.film, chart) : null;
  const { at, k } = study.film;
  const frames = Array.from({ length: k }, (_, c) => pictures.canvas(new Uint8Array(pictures.small), { small: true, alt: `cluster ${c}` }));
  const told = element("output.field", {});
  const slider = element("input", { type: "range", min: 0, max: at.length - 1, value: at.length - 1, "aria-label": "frame of the film", oninput: () => show(Number(slider.value)) });
  const play = element("button.main", { type: "button", onclick: () => (timer ? stop() : start()) }, "Play");
  let timer = null;

  function show(frame) {
    slider.value = frame;
    told.textContent = at[frame] === 0 ? "the seeds" : `after iteration ${at[frame]} of ${at.at(-1)}`;
    frames.forEach((canvas, c) => {
      const from = (frame * k + c) * pictures.small;
      pictures.paint(canvas, study.arrays.film.subarray(from, from + pictures.small));
    });
  }
  function stop() {
    clearInterval(timer);
    timer = null;
    play.textContent = "Play";
  }
  function start() {
    let frame = 0;
    play.textContent = "Stop";
    show(frame);
    timer = setInterval(() => {
      if (frame + 1 >= at.length) stop();
      else show(++frame);
    }, 450);
  }
  show(at.length - 1);
  const some = k < study.k ? ` Shown are the first ${k} of ${whole(study.k)} clusters.` : "";
  return section("film", "The film of the fit", `From the seeds, which are ${study.rows} themselves, to the centroids at the end.${some}`,
    element("div.bar.screen", {}, play, slider, told),
    element("div.frames", {}, frames.map((canvas, c) => element("div", {}, canvas, element("small", {}, String(c))))), chart);
}
