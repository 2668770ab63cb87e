// The content of the page: what Python wrote into it, or what a server answers.

const NO_CLASS = 65535;
const KINDS = {
  uint8: Uint8Array, uint16: Uint16Array, uint32: Uint32Array, int64: BigInt64Array, float32: Float32Array,
  float64: Float64Array,
};

/** The bytes of a text in base64. */
function fromBase64(text) {
  if (Uint8Array.fromBase64) return Uint8Array.fromBase64(text);
  const binary = atob(text);
  const bytes = new Uint8Array(binary.length);
  for (let i = 0; i < binary.length; i++) bytes[i] = binary.charCodeAt(i);
  return bytes;
}

/** An array as `packed` in page.py made it: as it is, or deflated, with the bytes of equal place in a number together. */
async function unpack(array) {
  if (!array.deflated) return new KINDS[array.dtype](fromBase64(array.bytes).buffer);
  const stream = new Blob([fromBase64(array.bytes)]).stream().pipeThrough(new DecompressionStream("deflate"));
  const planes = new Uint8Array(await new Response(stream).arrayBuffer());
  const Kind = KINDS[array.dtype];
  const size = Kind.BYTES_PER_ELEMENT;
  if (size === 1) return planes;
  const n = planes.length / size;
  const bytes = new Uint8Array(planes.length);
  for (let place = 0; place < size; place++) {
    for (let i = 0, at = place, from = place * n; i < n; i++, at += size) bytes[at] = planes[from + i];
  }
  return new Kind(bytes.buffer);
}

/** Everything that is known; arrays have an entry for each row that the page holds. */
class Study {
  /**
   * @param {Object} content  plain values
   * @param {Object} arrays  functions that return packed arrays, by name
   */
  constructor(content, arrays) {
    Object.assign(this, content);
    this.packed = arrays;
    this.arrays = {};
    this.names = Array.from({ length: this.k }, (_, c) => content.names?.[c] ?? `cluster ${c}`);
    this.mergedInto = Array.from({ length: this.k }, (_, c) => c);
    this.colours = colours(this.k);
    this.classColours = colours(this.classes?.length ?? 0);
  }

  /** Inflate the arrays of these names that the page has. */
  async load(names) {
    await Promise.all(names.filter((name) => this.packed[name]).map(async (name) => {
      this.arrays[name] = await unpack(this.packed[name]());
      delete this.packed[name];  // the text is no longer needed
    }));
  }

  /** What the map needs at first. */
  async loadPoints() {
    await this.load(["x", "y", "label"]);
    this.held = this.arrays.x.length;
  }

  /** All the rest, once the browser has read the whole page. */
  async loadRest() {
    if (document.readyState === "loading") await new Promise((resolve) => { addEventListener("DOMContentLoaded", resolve); });
    readEmbedded(this, this.packed);
    await this.load(Object.keys(this.packed));
    this.shownAt = new Map(Array.from(this.arrays.shown, (row, i) => [row, i]));
    this.idTexts = this.arrays.ids ? new TextDecoder().decode(this.arrays.ids).split("\n") : null;
  }

  /** What a row is called: its id, or its place in the file. */
  rowName(i) {
    if (this.idTexts) return this.idTexts[i];
    return `row ${whole(this.arrays.row[i])}`;
  }

  classOf(i) {
    const index = this.arrays.class?.[i];
    return index === undefined ? null : this.classes[index];
  }

  /** "3 · name", or what the cluster has been called by hand. */
  clusterName(c) {
    return this.names[c] === `cluster ${c}` ? this.names[c] : `${c} · ${this.names[c]}`;
  }

  /** The rows of a cluster, of a class, or of both, that the page holds. */
  rowsOf(cluster, classIndex = null) {
    const found = [];
    for (let i = 0; i < this.held; i++) {
      if (this.arrays.label[i] === cluster && (classIndex === null || this.arrays.class[i] === classIndex)) found.push(i);
    }
    return found;
  }
}

/** Take what the page holds, so far as the browser has read it, out of it. */
function readEmbedded(content, arrays) {
  for (const script of document.querySelectorAll("script.content")) {
    Object.assign(content, JSON.parse(script.textContent));
    script.remove();
  }
  for (const script of document.querySelectorAll("script.array")) {
    arrays[script.dataset.name] = () => JSON.parse(script.textContent);
    script.remove();
  }
}

/** The study that is embedded in the page. */
function embeddedStudy() {
  const [content, arrays] = [{}, {}];
  readEmbedded(content, arrays);
  return new Study(content, arrays);
}
