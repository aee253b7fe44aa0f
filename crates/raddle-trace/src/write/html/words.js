// How numbers and things are said, and how elements are made.

/** An element. Text is always text: what comes from the program never becomes markup. */
function h(tag, attributes, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes ?? {})) {
    if (value === undefined || value === null || value === false) continue;
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (name === "style") for (const [key, text] of Object.entries(value)) element.style.setProperty(key, text);
    else element.setAttribute(name, value === true ? "" : value);
  }
  const there = children.flat(Infinity).filter((child) => child !== null && child !== undefined && child !== false);
  element.append(...there.map((child) => (typeof child === "string" ? clean(child) : child)));
  return element;
}

/** Without what turns the order of letters round, or cannot be seen: such characters become escapes. */
function clean(text) {
  return text.replace(/[\0-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]/g, (character) => `\\u{${character.codePointAt(0).toString(16)}}`);
}

const digits = (value) => (value >= 99.95 ? value.toFixed(0) : value >= 9.995 ? value.toFixed(1) : value.toFixed(2));

/** A length of time, from nanoseconds. */
function duration(nanos) {
  const seconds = nanos / 1e9;
  if (seconds >= 3600) return `${Math.floor(seconds / 3600)} h ${Math.floor((seconds / 60) % 60)} min`;
  if (seconds >= 100) return `${Math.floor(seconds / 60)} min ${Math.floor(seconds % 60)} s`;
  if (seconds >= 0.9995) return `${digits(seconds)} s`;
  if (nanos >= 999_500) return `${digits(nanos / 1e6)} ms`;
  if (nanos >= 999.5) return `${digits(nanos / 1e3)} µs`;
  return `${nanos.toFixed(0)} ns`;
}

/** A moment, told as exactly as `step` nanoseconds. */
function moment(nanos, step) {
  const [unit, name] = step >= 1e6 ? [1e9, "s"] : step >= 1e3 ? [1e6, "ms"] : [1e3, "µs"];
  const places = Math.max(0, Math.min(6, Math.ceil(Math.log10(unit / step) - 1e-9)));
  return `${(nanos / unit).toFixed(places)} ${name}`;
}

const percent = (share) => (share > 0 && share < 0.005 ? "< 1 %" : `${Math.round(share * 100)} %`);
const plural = (count, one, many = `${one}s`) => `${count.toLocaleString("en")} ${count === 1 ? one : many}`;
const seconds = (value) => duration(value * 1e9);

/** From one number of seconds to another. */
function range([low, high]) {
  const [a, b] = [seconds(low), seconds(high)];
  if (a === b) return a;
  const [number, unit] = a.split(" ");
  return a.split(" ").length === 2 && b.endsWith(` ${unit}`) ? `${number} to ${b}` : `${a} to ${b}`;
}

function placeText(place) {
  if (!place) return "";
  const of = place.function && place.function !== "<module>" ? ` in ${place.function}` : "";
  return `${place.file}:${place.line}${of}`;
}
