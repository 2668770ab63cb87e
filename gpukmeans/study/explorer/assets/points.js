// Where rows lie: sorted by the cells of a grid, so that those in sight, or near the pointer, are found at once.

const SPAN = 65536;  // the map's coordinates are 16-bit numbers

class Points {
  /** @param {Uint16Array} x, y  of each row */
  constructor(x, y) {
    const n = x.length;
    this.n = n;
    this.side = Math.min(256, Math.max(1, 2 ** Math.round(Math.log2(Math.sqrt(n / 4 + 1)))));
    this.cell = SPAN / this.side;
    const cellOf = (i) => Math.floor(y[i] / this.cell) * this.side + Math.floor(x[i] / this.cell);
    this.start = new Uint32Array(this.side * this.side + 1);
    for (let i = 0; i < n; i++) this.start[cellOf(i) + 1]++;
    for (let c = 0; c < this.start.length - 1; c++) this.start[c + 1] += this.start[c];
    const next = this.start.slice(0, -1);
    this.rows = new Uint32Array(n);  // place in the order of cells -> row
    this.x = new Float32Array(n);
    this.y = new Float32Array(n);
    for (let i = 0; i < n; i++) {
      const at = next[cellOf(i)]++;
      this.rows[at] = i;
      this.x[at] = x[i];
      this.y[at] = y[i];
    }
  }

  /** The lowest and highest coordinates. */
  get extent() {
    const ends = (values) => {
      let [low, high] = [values[0], values[0]];
      for (const value of values) {
        if (value < low) low = value;
        if (value > high) high = value;
      }
      return [low, high];
    };
    return { x: ends(this.x), y: ends(this.y) };
  }

  /** The first and last column, and the first and last row, of the cells that touch a box. */
  cells(left, top, right, bottom) {
    return [left, right, top, bottom].map((value) => Math.min(Math.max(Math.floor(value / this.cell), 0), this.side - 1));
  }

  /** Call `visit(from, to)` for each run of places whose cells touch a box. */
  runs(left, top, right, bottom, visit) {
    if (right < 0 || bottom < 0 || left >= SPAN || top >= SPAN) return;
    const [first, last, upper, lower] = this.cells(left, top, right, bottom);
    for (let row = upper; row <= lower; row++) {
      visit(this.start[row * this.side + first], this.start[row * this.side + last + 1]);
    }
  }

  /** How many rows lie in cells that touch a box. */
  count(left, top, right, bottom) {
    let found = 0;
    this.runs(left, top, right, bottom, (from, to) => { found += to - from; });
    return found;
  }

  /** The share of the cells in a box that hold rows. */
  filled(left, top, right, bottom) {
    const [first, last, upper, lower] = this.cells(left, top, right, bottom);
    let full = 0;
    for (let row = upper; row <= lower; row++) {
      for (let c = row * this.side + first; c <= row * this.side + last; c++) full += this.start[c + 1] > this.start[c];
    }
    return full / ((last - first + 1) * (lower - upper + 1));
  }

  /** The row nearest to a point, within a radius; -1 if there is none. */
  nearest(x, y, radius) {
    let [best, least] = [-1, radius * radius];
    this.runs(x - radius, y - radius, x + radius, y + radius, (from, to) => {
      for (let at = from; at < to; at++) {
        const square = (this.x[at] - x) ** 2 + (this.y[at] - y) ** 2;
        if (square < least || (square === least && this.rows[at] < best)) [best, least] = [this.rows[at], square];
      }
    });
    return best;
  }

  /** The rows within a polygon of points [x, y], rising. */
  within(polygon) {
    const xs = polygon.map(([x]) => x);
    const ys = polygon.map(([, y]) => y);
    const found = [];
    this.runs(Math.min(...xs), Math.min(...ys), Math.max(...xs), Math.max(...ys), (from, to) => {
      for (let at = from; at < to; at++) if (inside(this.x[at], this.y[at], polygon)) found.push(this.rows[at]);
    });
    return found.sort((a, b) => a - b);
  }
}

/** Whether a point lies in a polygon: a ray from it crosses the sides an odd number of times. */
function inside(x, y, polygon) {
  let odd = false;
  for (let i = 0, j = polygon.length - 1; i < polygon.length; j = i++) {
    const [[x1, y1], [x2, y2]] = [polygon[i], polygon[j]];
    if (y1 > y !== y2 > y && x < ((x2 - x1) * (y - y1)) / (y2 - y1) + x1) odd = !odd;
  }
  return odd;
}
