// Draw an image by hand and see which centroids are nearest.

function drawingSection(study, pictures) {
  if (!study.image || study.image.channels !== 1) return null;
  const { height, width } = study.image;
  const scale = 224 / Math.max(height, width);
  const pad = element(study.image.large === "dark" ? "canvas.pad.picture.inked" : "canvas.pad.picture", { width: Math.round(width * scale), height: Math.round(height * scale), role: "img", "aria-label": "a pad to draw on" });
  const seen = pictures.canvas(new Uint8Array(pictures.size), { alt: "what is compared", width: 84 });
  const answer = element("ol.wall");
  const pen = pad.getContext("2d", { willReadFrequently: true });
  let last = null;

  function clear() {
    pen.fillStyle = "#000";
    pen.fillRect(0, 0, pad.width, pad.height);
    pictures.paint(seen, new Uint8Array(pictures.size));
    answer.replaceChildren();
  }
  function stroke(event) {
    const box = pad.getBoundingClientRect();
    const here = [((event.clientX - box.left) * pad.width) / box.width, ((event.clientY - box.top) * pad.height) / box.height];
    Object.assign(pen, { strokeStyle: "#fff", lineWidth: 2.4 * scale, lineCap: "round", lineJoin: "round" });
    pen.beginPath();
    pen.moveTo(...(last ?? here));
    pen.lineTo(...here);
    pen.stroke();
    last = here;
  }
  function compare() {
    const values = centred(averaged(pen.getImageData(0, 0, pad.width, pad.height), width, height), width, height);
    pictures.paint(seen, values);
    const range = study.image.highest - study.image.lowest;
    const nearest = study.names.map((_, c) => [distance(values, study.arrays.centers, c * pictures.size) * (range / 255), c])
      .sort(([a], [b]) => a - b).slice(0, 5);
    answer.replaceChildren(...nearest.map(([far, c]) => element("li", { "data-cluster": c }, pictures.center(c, 64),
      element("small", {}, study.clusterName(c), element("br"), element("span.hint", {}, short(far))))));
  }
  pad.addEventListener("pointerdown", (event) => { pad.setPointerCapture(event.pointerId); last = null; stroke(event); });
  pad.addEventListener("pointermove", (event) => { if (event.buttons) { stroke(event); compare(); } });
  pad.addEventListener("pointerup", compare);
  clear();
  return section("draw", "Draw one", "It is centred by its ink, brought to the size of the images, and compared with the centroids in 256 greys.",
    element("div.drawn", {}, element("div", {}, pad, element("div.bar", { style: { marginTop: "10px" } }, element("button", { type: "button", onclick: clear }, "Clear"))),
      element("div", {}, element("h3", {}, "As compared"), seen), element("div", {}, element("h3", {}, "Nearest centroids, with distances"), answer)));
}

/** The pad in the size of the images, by averages: values of 0 to 255. */
function averaged(image, width, height) {
  const sums = new Float64Array(width * height);
  const counts = new Float64Array(width * height);
  for (let y = 0; y < image.height; y++) {
    for (let x = 0; x < image.width; x++) {
      const at = Math.floor((y * height) / image.height) * width + Math.floor((x * width) / image.width);
      sums[at] += image.data[4 * (y * image.width + x)];
      counts[at]++;
    }
  }
  return Uint8Array.from(sums, (sum, at) => Math.round(sum / (counts[at] || 1)));
}

/** An image moved so that the middle of its ink is its own, as those of MNIST are. */
function centred(values, width, height) {
  let [ink, sumX, sumY] = [0, 0, 0];
  values.forEach((value, at) => { ink += value; sumX += value * (at % width); sumY += value * Math.floor(at / width); });
  if (!ink) return values;
  const dx = Math.round((width - 1) / 2 - sumX / ink);
  const dy = Math.round((height - 1) / 2 - sumY / ink);
  return values.map((_, at) => {
    const [x, y] = [(at % width) - dx, Math.floor(at / width) - dy];
    return x >= 0 && x < width && y >= 0 && y < height ? values[y * width + x] : 0;
  });
}

function distance(values, centers, from) {
  let sum = 0;
  for (let p = 0; p < values.length; p++) sum += (values[p] - centers[from + p]) ** 2;
  return Math.sqrt(sum);
}
