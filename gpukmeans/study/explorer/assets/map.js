// The map: all rows as points, drawn pixel by pixel; zoomed in, as the images that they are.

const MOST_MOVING = 250_000;  // points that are drawn in a frame while the map moves; of more, every n-th
const THUMB = [22, 64];  // sides of an image on the map, in CSS pixels

class RowMap {
  /**
   * @param {HTMLElement} box  holds the canvases
   * @param {Study} study
   */
  constructor(box, study) {
    this.box = box;
    this.study = study;
    this.points = new Points(study.arrays.x, study.arrays.y);
    this.base = element("canvas", { role: "img", "aria-label": `Map of ${whole(study.held)} ${study.rows}` });
    this.over = element("canvas.over", { "aria-hidden": "true" });
    box.append(this.base, this.over);
    this.context = this.base.getContext("2d", { alpha: false });
    this.overContext = this.over.getContext("2d");
    this.pictures = null;
    this.showImages = false;  // at any zoom
    this.selection = null;  // a Set of rows
    this.hovered = -1;
    this.lasso = [];
    this.pixels = new Uint32Array(study.held);  // the colour of each place in the grid's order
    this.colourBy("cluster");
    this.resize();
    new ResizeObserver(() => this.resize()).observe(box);
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => this.repaint());
  }

  resize() {
    const { width, height } = this.box.getBoundingClientRect();
    if (!width || !height) return;
    const ratio = Math.min(devicePixelRatio || 1, 2);
    const [w, h] = [Math.round(width * ratio), Math.round(height * ratio)];
    if (this.image && w === this.width && h === this.height) return;
    const middle = this.image ? this.toMap(width / 2, height / 2) : null;
    [this.ratio, this.width, this.height] = [ratio, w, h];
    for (const canvas of [this.base, this.over]) Object.assign(canvas, { width: w, height: h });
    this.image = this.context.createImageData(w, h);
    this.buffer = new Uint32Array(this.image.data.buffer);
    if (middle && !this.whole) this.moveTo(...middle, this.scale);
    else this.reset();
    this.draw();  // a canvas is cleared by its new size
  }

  /** Show everything. */
  reset() {
    const { x, y } = this.points.extent;
    const edge = 0.08 * Math.min(this.width, this.height);
    const spacing = this.spacing([0, 0, SPAN, SPAN], this.study.held);
    const around = this.study.image && this.isNear(spacing) ? Math.max(edge, this.thumbSize(spacing)) : edge;
    const fit = Math.min((this.width - around) / (x[1] - x[0] + 1), (this.height - around) / (y[1] - y[0] + 1));
    this.fitScale = fit;
    this.moveTo((x[0] + x[1]) / 2, (y[0] + y[1]) / 2, fit);
    this.whole = true;  // until it is moved: in a box of another size, too
  }

  /** How far apart points lie, in canvas pixels, if the canvas shows a box with so many: where rows are, as islands are small. */
  spacing(box, inSight) {
    return Math.sqrt((this.width * this.height * this.points.filled(...box)) / Math.max(inSight, 1));
  }

  /** Whether points lie so far apart, in canvas pixels, that images have room. */
  isNear(spacing) {
    return spacing > 0.5 * THUMB[0] * this.ratio;
  }

  /** The side of an image where points lie so far apart, in canvas pixels. */
  thumbSize(spacing) {
    return Math.round(Math.min(Math.max(0.9 * spacing, THUMB[0] * this.ratio), THUMB[1] * this.ratio));
  }

  /** Put a point of the map into the middle, `scale` canvas pixels for each unit of the map. */
  moveTo(x, y, scale) {
    this.scale = Math.min(Math.max(scale, (this.fitScale ?? scale) / 2), 16);
    this.left = x - this.width / 2 / this.scale;
    this.top = y - this.height / 2 / this.scale;
    this.request();
  }

  /** From CSS pixels in the box to the map, and back. */
  toMap(x, y) {
    return [this.left + (x * this.ratio) / this.scale, this.top + (y * this.ratio) / this.scale];
  }

  toBox(x, y) {
    return [((x - this.left) * this.scale) / this.ratio, ((y - this.top) * this.scale) / this.ratio];
  }

  pan(dx, dy) {
    this.moves();
    this.left -= (dx * this.ratio) / this.scale;
    this.top -= (dy * this.ratio) / this.scale;
    this.request();
  }

  /** Note that the map moves; once it rests, all points are drawn. */
  moves() {
    this.whole = false;
    clearTimeout(this.resting);
    this.resting = setTimeout(() => { this.resting = null; this.request(); }, 150);
  }

  /** Zoom by a factor about a point of the box. */
  zoom(factor, x = this.width / this.ratio / 2, y = this.height / this.ratio / 2) {
    this.moves();
    const [mapX, mapY] = this.toMap(x, y);
    this.scale = Math.min(Math.max(this.scale * factor, this.fitScale / 2), 16);
    this.left = mapX - (x * this.ratio) / this.scale;
    this.top = mapY - (y * this.ratio) / this.scale;
    this.request();
  }

  /** The row under a point of the box; -1 if there is none near. An image on the map counts as a whole. */
  rowAt(x, y) {
    for (const thumb of this.thumbs ?? []) {
      if (Math.abs(x * this.ratio - thumb.x) <= thumb.size / 2 && Math.abs(y * this.ratio - thumb.y) <= thumb.size / 2) {
        return thumb.row;
      }
    }
    return this.points.nearest(...this.toMap(x, y), (12 * this.ratio) / this.scale);
  }

  /** @param {"cluster"|"class"|"margin"} kind */
  colourBy(kind) {
    this.kind = kind;
    const { arrays, colours: ofClusters, classColours, held } = this.study;
    let values = arrays.label;
    let palette = ofClusters.map((_, c) => pixel(ofClusters[this.study.mergedInto[c]]));
    if (kind === "class") [values, palette] = [arrays.class, classColours.map(pixel)];
    if (kind === "margin") {
      palette = Array.from({ length: 256 }, (_, i) => pixel(ramp(i / 255)));
      values = this.ranks ??= marginRanks(arrays.margin);
    }
    const faded = palette.map((colour) => fade(colour, styled("--map"), 0.86));
    for (let at = 0; at < held; at++) {
      const row = this.points.rows[at];
      this.pixels[at] = (this.selection && !this.selection.has(row) ? faded : palette)[values[row]];
    }
    this.request();
  }

  /** Let rows stand out from the others; null: none. */
  select(rows) {
    this.selection = rows && new Set(rows);
    this.repaint();
  }

  repaint() {
    this.paper = this.texts = null;
    this.colourBy(this.kind);
  }

  /** Draw in the next frame. */
  request() {
    this.frame ??= requestAnimationFrame(() => { this.frame = null; this.draw(); });
  }

  draw() {
    if (!this.buffer) return;
    const [w, h, s] = [this.width, this.height, this.scale];
    this.buffer.fill(pixel(styled("--map")));
    const box = [this.left, this.top, this.left + w / s, this.top + h / s];
    const inSight = this.points.count(...box);
    const every = this.resting ? Math.ceil(inSight / MOST_MOVING) : 1;
    const apart = this.spacing(box, inSight);
    const ready = this.pictures?.exist && this.study.arrays.thumbnails;
    const zoomedIn = ready && this.isNear(apart);
    const largest = Math.round((zoomedIn ? 3 : 9) * this.ratio);
    const size = Math.max(1, Math.min(largest, Math.round(0.75 * apart)));
    if (zoomedIn || !ready || !this.showImages) this.points.runs(...box, (from, to) => this.drawPoints(from, to, size, every));
    this.thumbs = [];
    if (ready && (zoomedIn || this.showImages)) this.drawThumbs(box, apart);
    this.context.putImageData(this.image, 0, 0);
    this.drawOver();
  }

  /** Every n-th point from one place to another, as discs of a diameter in canvas pixels. */
  drawPoints(from, to, size, every) {
    const { buffer, width: w, height: h, scale: s, left, top, pixels } = this;
    const { x: xs, y: ys } = this.points;
    if (size === 1) {
      for (let at = from; at < to; at += every) {
        const x = Math.floor((xs[at] - left) * s);
        const y = Math.floor((ys[at] - top) * s);
        if (x >= 0 && x < w && y >= 0 && y < h) buffer[y * w + x] = pixels[at];
      }
      return;
    }
    const half = size / 2;
    const widths = Array.from({ length: size }, (_, i) =>
      (size === 2 ? 2 : Math.round(2 * Math.sqrt(Math.max(half * half - (i + 0.5 - half) ** 2, 0)))));
    for (let at = from; at < to; at += every) {
      const x = Math.round((xs[at] - left) * s - half);
      const y = Math.round((ys[at] - top) * s - half);
      if (x < -size || x >= w || y < -size || y >= h) continue;
      for (let i = Math.max(0, -y); i < size && y + i < h; i++) {
        const begin = x + ((size - widths[i]) >> 1);
        const line = (y + i) * w;
        const end = Math.min(begin + widths[i], w);
        for (let p = Math.max(begin, 0); p < end; p++) buffer[line + p] = pixels[at];
      }
    }
  }

  /** Images in place of points, as many as do not hide each other; each in the colour of its point. */
  drawThumbs([left, top, right, bottom], spacing) {
    const size = this.thumbSize(spacing);
    const taken = new Map();
    const unit = (value) => Math.floor(value / size);
    this.points.runs(left, top, right, bottom, (from, to) => {
      for (let at = from; at < to; at++) {
        const row = this.points.rows[at];
        if (this.selection && !this.selection.has(row)) continue;
        const x = Math.round((this.points.x[at] - this.left) * this.scale);
        const y = Math.round((this.points.y[at] - this.top) * this.scale);
        if (x < 0 || y < 0 || x >= this.width || y >= this.height) continue;
        let free = true;
        for (let j = -1; j <= 1 && free; j++) {
          for (let i = -1; i <= 1 && free; i++) {
            const other = taken.get((unit(y) + j) * 4096 + unit(x) + i);
            if (other && Math.abs(other.x - x) < size && Math.abs(other.y - y) < size) free = false;
          }
        }
        if (!free) continue;
        const thumb = { row, x, y, size };
        taken.set(unit(y) * 4096 + unit(x), thumb);
        this.thumbs.push(thumb);
        this.drawThumb(thumb, this.pixels[at]);
      }
    });
  }

  /** One image: its values are the share of ink over the map's colour, between pixels in proportion. */
  drawThumb({ row, x, y, size }, colour) {
    const { buffer, width: w, height: h, study, ratio } = this;
    const { smallHeight, smallWidth, channels, large } = study.image;
    const values = this.pictures.thumbnail(row);
    const paper = large === "dark" ? styledOnce(this) : [0, 0, 0];
    const ink = [colour & 255, (colour >> 8) & 255, (colour >> 16) & 255];
    const side = size - Math.max(1, Math.round(ratio));
    const longest = Math.max(smallHeight, smallWidth);
    const [height, width] = [Math.round((side * smallHeight) / longest), Math.round((side * smallWidth) / longest)];
    for (let j = 0; j < height; j++) {
      const py = y - (height >> 1) + j;
      if (py < 0 || py >= h) continue;
      const fromY = Math.min(Math.max(((j + 0.5) * smallHeight) / height - 0.5, 0), smallHeight - 1);
      const y0 = Math.floor(fromY);
      const [y1, fy] = [Math.min(y0 + 1, smallHeight - 1), fromY - y0];
      for (let i = 0; i < width; i++) {
        const px = x - (width >> 1) + i;
        if (px < 0 || px >= w) continue;
        const fromX = Math.min(Math.max(((i + 0.5) * smallWidth) / width - 0.5, 0), smallWidth - 1);
        const x0 = Math.floor(fromX);
        const [x1, fx] = [Math.min(x0 + 1, smallWidth - 1), fromX - x0];
        let packed = 0xff000000;
        for (let c = 0; c < 3; c++) {
          const channel = channels === 3 ? c : 0;
          const value = (row0, column) => values[(row0 * smallWidth + column) * channels + channel];
          const upper = value(y0, x0) * (1 - fx) + value(y0, x1) * fx;
          const lower = value(y1, x0) * (1 - fx) + value(y1, x1) * fx;
          const share = upper * (1 - fy) + lower * fy;
          const shown = channels === 3 ? share : paper[c] + ((ink[c] - paper[c]) * share) / 255;
          packed |= Math.round(shown) << (8 * c);
        }
        buffer[py * w + px] = packed >>> 0;
      }
    }
  }

  /** The names of clusters in sight, [name, x, y] in the box, the largest first: whole, else the number, else none. */
  labels() {
    const { study, ratio } = this;
    const [w, h] = [this.width / ratio, this.height / ratio];
    const placed = [];
    const free = (x, y, wide) => placed.every((other) => Math.abs(other.x - x) > (other.wide + wide) / 2 || Math.abs(other.y - y) > 15);
    const middles = (this.middles ??= middlesOf(study));
    this.texts ??= study.names.map((called, c) => {
      const twice = study.names.indexOf(called) !== study.names.lastIndexOf(called);
      const whole = clipped(twice ? study.clusterName(c) : called, 170, "600 13px");
      return (called === `cluster ${c}` ? [String(c)] : [whole, String(c)]).map((text) => [text, textWidth(text, "600 13px") + 6]);
    });
    const order = study.names.map((_, c) => c).filter((c) => study.mergedInto[c] === c && !Number.isNaN(middles[c][0]));
    for (const c of order.sort((a, b) => study.sizes[b] - study.sizes[a])) {
      const [x, y] = this.toBox(...middles[c]);
      if (x < 0 || y < 0 || x > w || y > h) continue;
      for (const [name, wide] of this.texts[c]) {
        const inside = Math.min(Math.max(x, wide / 2), w - wide / 2);
        const line = [0, 16, -16].map((by) => y + by).find((at) => free(inside, at, wide));
        if (line === undefined) continue;
        placed.push({ name, x: inside, y: line, wide });
        break;
      }
    }
    return placed.map(({ name, x: left, y: top }) => [name, left, top]);
  }

  /** What lies over the points: names of clusters, the row that is pointed at, the lasso. */
  drawOver() {
    const { overContext: context, ratio } = this;
    context.setTransform(ratio, 0, 0, ratio, 0, 0);
    context.clearRect(0, 0, this.width, this.height);
    const [ink, paper] = [css(styled("--ink")), css(styled("--map"))];
    if (this.kind === "cluster" && this.study.k <= 64 && !this.thumbs.length) {
      Object.assign(context, { font: `600 13px ${getComputedStyle(document.body).fontFamily}`, textAlign: "center", textBaseline: "middle" });
      Object.assign(context, { lineWidth: 4, strokeStyle: paper, fillStyle: ink, lineJoin: "round" });
      for (const [name, x, y] of this.labels()) {
        context.strokeText(name, x, y);
        context.fillText(name, x, y);
      }
    }
    if (this.hovered >= 0) {
      const thumb = this.thumbs.find(({ row }) => row === this.hovered);
      const at = this.toBox(this.study.arrays.x[this.hovered], this.study.arrays.y[this.hovered]);
      Object.assign(context, { lineWidth: 2, strokeStyle: ink });
      context.beginPath();
      if (thumb) context.rect(at[0] - thumb.size / 2 / ratio, at[1] - thumb.size / 2 / ratio, thumb.size / ratio, thumb.size / ratio);
      else context.arc(...at, 7, 0, 2 * Math.PI);
      context.stroke();
    }
    if (this.lasso.length > 1) {
      Object.assign(context, { lineWidth: 1.5, strokeStyle: ink, fillStyle: "rgb(110 140 220 / 18%)" });
      context.beginPath();
      for (const point of this.lasso) context.lineTo(...this.toBox(...point));
      context.closePath();
      context.fill();
      context.stroke();
    }
  }
}

function styledOnce(map) {
  return map.paper ??= styled("--map");
}

/** A colour as a pixel, nearer to the paper. */
function fade(colour, paper, share) {
  return pixel(paper.map((to, c) => Math.round(((colour >> (8 * c)) & 255) * (1 - share) + to * share)));
}

/** The mean place of every cluster on the map; NaN for empty ones. */
function middlesOf({ arrays, k, held }) {
  const sums = Array.from({ length: k }, () => [0, 0, 0]);
  for (let i = 0; i < held; i++) {
    const sum = sums[arrays.label[i]];
    sum[0] += arrays.x[i];
    sum[1] += arrays.y[i];
    sum[2]++;
  }
  return sums.map(([x, y, n]) => [x / n, y / n]);
}

/** Of each margin its rank, 0 to 255; NaN counts as the largest. */
function marginRanks(margins) {
  const sorted = Float32Array.from(margins).sort();
  const ends = Array.from({ length: 255 }, (_, i) => sorted[Math.floor(((i + 1) * sorted.length) / 256)]);
  return Uint8Array.from(margins, (value) => {
    let [low, high] = [0, 255];
    while (low < high) {
      const middle = (low + high) >> 1;
      if (ends[middle] <= value) low = middle + 1;
      else high = middle;
    }
    return Number.isNaN(value) ? 255 : low;
  });
}
