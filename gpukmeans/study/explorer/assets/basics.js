// Elements, numbers and colours.

/**
 * Make an element. Texts become text nodes, never HTML: names come from strangers' files.
 * @param {string} tag  "div", or "div.some.class"
 * @param {Object} properties  properties of the element; "on…" are listeners, others with a dash are attributes
 * @param {...(Node|string|number|null|Array)} children
 */
function element(tag, properties = {}, ...children) {
  const [name, ...classes] = tag.split(".");
  const made = document.createElement(name);
  if (classes.length) made.className = classes.join(" ");
  for (const [key, value] of Object.entries(properties)) {
    if (key.startsWith("on")) made.addEventListener(key.slice(2), value);
    else if (key === "style") Object.assign(made.style, value);
    else if (key.includes("-") || key === "role") made.setAttribute(key, value);
    else made[key] = value;
  }
  made.append(...children.flat(Infinity).filter((child) => child !== null && child !== undefined).map(
    (child) => (child instanceof Node ? child : String(child))));
  return made;
}

/** The same for SVG, where all properties are attributes. */
function shape(tag, attributes = {}, ...children) {
  const made = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  made.append(...children.flat(Infinity));
  return made;
}

/** A whole number with commas; the first toLocaleString takes 20 ms, in which the map is drawn. */
const whole = (value) => String(Math.round(value)).replace(/\B(?=(\d{3})+$)/g, ",");
const percent = (share) => (Number.isFinite(share) ? `${(100 * share).toFixed(1)}%` : "–");

/** A number in about `digits` digits; a dash for what is none. */
function short(value, digits = 4) {
  if (value === null || value === undefined || !Number.isFinite(value)) return "–";
  if (value !== 0 && (Math.abs(value) >= 1e7 || Math.abs(value) < 1e-3)) return value.toExponential(Math.max(digits - 2, 0));
  return Number(value.toPrecision(digits)).toLocaleString("en-US", { maximumSignificantDigits: digits });
}

const TEN_COLOURS = [
  [66, 105, 208], [239, 160, 24], [255, 100, 84], [60, 177, 160], [60, 155, 70],
  [245, 122, 176], [152, 92, 236], [110, 170, 245], [156, 107, 78], [132, 138, 150],
];

/** Distinct colours [r, g, b]: ten that were chosen, or hues a golden angle apart in three lightnesses. */
function colours(n) {
  if (n <= TEN_COLOURS.length) return TEN_COLOURS.slice(0, n);
  return Array.from({ length: n }, (_, i) => fromHue((i * 137.508) % 360, 0.62, [0.5, 0.62, 0.4][i % 3]));
}

/** A colour [r, g, b] of a hue in degrees, saturation and lightness from 0 to 1. */
function fromHue(hue, saturation, lightness) {
  const most = saturation * Math.min(lightness, 1 - lightness);
  return [0, 8, 4].map((shift) => {
    const k = (shift + hue / 30) % 12;
    return Math.round(255 * (lightness - most * Math.max(-1, Math.min(k - 3, 9 - k, 1))));
  });
}

/** From doubtful (0, a strong red) over amber to certain (1, a calm blue): [r, g, b]. */
function ramp(share) {
  const stops = [[196, 24, 60], [240, 138, 54], [196, 196, 176], [92, 150, 206], [40, 84, 160]];
  const at = Math.min(Math.max(share, 0), 1) * (stops.length - 1);
  const left = Math.min(Math.floor(at), stops.length - 2);
  return stops[left].map((value, i) => Math.round(value + (stops[left + 1][i] - value) * (at - left)));
}

const css = ([r, g, b]) => `rgb(${r} ${g} ${b})`;
/** A pixel of ImageData as one 32-bit number, in the order of little-endian machines. */
const pixel = ([r, g, b]) => ((255 << 24) | (b << 16) | (g << 8) | r) >>> 0;
const dark = () => matchMedia("(prefers-color-scheme: dark)").matches && !matchMedia("print").matches;

/** The colour [r, g, b] that the style gives a name, as "--map". */
function styled(name) {
  const text = getComputedStyle(document.documentElement).getPropertyValue(name).trim();
  return [1, 3, 5].map((at) => parseInt(text.length === 4 ? text[(at + 1) / 2].repeat(2) : text.slice(at, at + 2), 16));
}

/** A table: the first line is its head; the first cell of every other names it. Columns of texts begin at the left. */
function table(lines, { caption = "", kind = "" } = {}) {
  const [head, ...body] = lines;
  const isNumber = (cell) => /^[-+]?[\d.,]+(e[-+]\d+)?%?$/.test(cell instanceof Node ? cell.textContent : cell);
  const texts = head.map((_, i) => i === 0 || !body.some((line) => isNumber(line[i])));
  return element(`table${kind}`, {},
    caption ? element("caption", {}, caption) : null,
    element("thead", {}, element("tr", {}, head.map((cell, i) => element(texts[i] ? "th.text" : "th", { scope: "col" }, cell)))),
    element("tbody", {}, body.map((line) => element("tr", {},
      line.map((cell, i) => (i ? element(texts[i] ? "td.text" : "td", {}, cell) : element("th", { scope: "row" }, cell)))))));
}

/** A section of the page, and its place in the list of sections. */
function section(id, title, about, ...children) {
  const made = element("section", { id, "aria-labelledby": `${id}-title` },
    element("h2", { id: `${id}-title` }, title), about ? element("p.about", {}, about) : null, children);
  return made;
}

/** The width of a chart: its texts keep their size on a phone. */
const chartWidth = (wide) => Math.max(300, Math.min(wide, innerWidth - 70));

/** The width of a text in CSS pixels, in the page's own font. */
function textWidth(text, size = "12px") {
  const context = (textWidth.context ??= document.createElement("canvas").getContext("2d"));
  context.font = `${size} ${textWidth.family ??= getComputedStyle(document.body).fontFamily}`;
  return context.measureText(text).width;
}

/** A text of at most so many CSS pixels; what is left out is an ellipsis. */
function clipped(text, width, size) {
  if (textWidth(text, size) <= width) return text;
  const kept = Array.from(text);  // no half of a character
  do kept.pop(); while (kept.length && textWidth(`${kept.join("")}…`, size) > width);
  return `${kept.join("")}…`;
}

/** How much room names need beside a chart, at most. */
const roomFor = (names, most) => Math.min(most, Math.max(...names.map((name) => textWidth(name))) + 2);
