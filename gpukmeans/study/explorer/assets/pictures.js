// Rows and centers as pictures.

/** Turns values of rows into canvases: full size where the page holds it, else a thumbnail. */
class Pictures {
  constructor(study) {
    this.study = study;
    const { image } = study;
    this.size = image ? image.height * image.width * image.channels : 0;
    this.small = image ? image.smallHeight * image.smallWidth * image.channels : 0;
  }

  get exist() {
    return Boolean(this.study.image);
  }

  /** A canvas that shows values from 0 to 255; `alt` says what they are. */
  canvas(values, { small = false, alt = "", width = null } = {}) {
    const { image } = this.study;
    const [h, w] = small ? [image.smallHeight, image.smallWidth] : [image.height, image.width];
    const made = element(image.channels === 1 && image.large === "dark" ? "canvas.picture.ink" : "canvas.picture", { width: w, height: h, role: "img", "aria-label": alt, title: alt });
    if (width) Object.assign(made.style, { width: `${width}px`, height: `${(width * h) / w}px` });
    this.paint(made, values);
    return made;
  }

  /** Whether large values are drawn dark: ink on paper, by day; photographs are as they are. */
  get inked() {
    return this.study.image.channels === 1 && this.study.image.large === "dark" && !dark();
  }

  /** Fill a canvas with values from 0 to 255. */
  paint(canvas, values) {
    const context = canvas.getContext("2d");
    const data = context.createImageData(canvas.width, canvas.height);
    const { channels } = this.study.image;
    const { inked } = this;
    for (let p = 0, at = 0; at < data.data.length; p += channels, at += 4) {
      for (let c = 0; c < 3; c++) {
        const value = values[p + (channels === 3 ? c : 0)];
        data.data[at + c] = inked ? 255 - value : value;
      }
      data.data[at + 3] = 255;
    }
    context.putImageData(data, 0, 0);
  }

  /** The values of a thumbnail, 0 to 255, or null where the page holds none. */
  thumbnail(i) {
    const packed = this.study.arrays.thumbnails;
    if (!packed) return null;
    const bytes = (this.small + 1) >> 1;
    const values = new Uint8Array(this.small);
    for (let p = 0, at = i * bytes; p < this.small; p++) {
      values[p] = 17 * (p % 2 ? packed[at + (p >> 1)] & 15 : packed[at + (p >> 1)] >> 4);
    }
    return values;
  }

  /** A row as a canvas, or null. */
  row(i, width = 48) {
    if (!this.exist) return null;
    const alt = this.rowText(i);
    const at = this.study.shownAt?.get(i);
    if (at !== undefined) {
      return this.canvas(this.study.arrays.pixels.subarray(at * this.size, (at + 1) * this.size), { alt, width });
    }
    const values = this.thumbnail(i);
    return values && this.canvas(values, { small: true, alt, width });
  }

  /** A center as a canvas, or null. */
  center(c, width = null) {
    if (!this.exist) return null;
    const values = this.study.arrays.centers.subarray(c * this.size, (c + 1) * this.size);
    return this.canvas(values, { alt: `centroid of cluster ${this.study.clusterName(c)}`, width });
  }

  /** What a row is, in words. */
  rowText(i) {
    const { study } = this;
    const ofClass = study.classOf(i);
    return `${study.rowName(i)}, cluster ${study.clusterName(study.arrays.label[i])}`
      + (ofClass === null ? "" : `, ${study.className} ${ofClass}`) + `, margin ${short(study.arrays.margin[i])}`;
  }

  /** Rows side by side, each of which can be chosen; of many the first, and how many more there are. */
  wall(rows, choose, { width = 44, most = 120 } = {}) {
    const list = element("ul.wall");
    const add = (from) => {
      for (const i of rows.slice(from, from + most)) {
        const picture = this.row(i, width);
        list.append(element("li", {}, element(picture ? "button" : "button.texted",
          { type: "button", "aria-label": this.rowText(i), title: this.rowText(i), "data-row": i, onclick: () => choose(i) },
          picture ?? this.study.rowName(i))));
      }
      const left = rows.length - from - most;
      if (left > 0) {
        const more = element("button.more", { type: "button", onclick: () => { more.remove(); add(from + most); } },
          `${whole(left)} more`);
        list.after(more);
      }
    };
    const box = element("div", {}, list);
    add(0);
    return box;
  }
}
