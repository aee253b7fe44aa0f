// What the page shows: read from the element it is in, and laid out for drawing.

/** How a state is drawn: the share of the lane's height (the nearer to running, the higher) and a pattern. */
const LOOKS = {
  running: [1, ""],
  native: [1, "bars"],
  runnable: [0.78, "slash"],
  gil: [0.78, "slash"],
  lock: [0.62, "cross"],
  queue: [0.46, ""],
  event: [0.46, "dots"],
  join: [0.34, ""],
  io: [0.34, ""],
  sleep: [0.2, ""],
  stopped: [0.46, "cross"],
  unknown: [0.14, ""],
};

function readData() {
  const [data, rows] = ["data", "rows"].map((id) => {
    const element = document.getElementById(id);
    element.remove();
    return element.textContent;
  });
  return layOut(JSON.parse(data), new Rows(rows));
}

/** What there may be a million of: numbers of seven bits a byte, the low ones first. How they follow each other, `rows.rs` says. */
class Rows {
  constructor(base64) {
    this.bytes = atob(base64);
    this.at = 0;
  }

  next() {
    let [number, weight] = [0, 1];
    for (;;) {
      if (this.at >= this.bytes.length) throw new Error("it was cut off");
      const byte = this.bytes.charCodeAt(this.at++);
      // No bits: a time may have more than 32 of them.
      number += (byte & 127) * weight;
      if (byte < 128) return number;
      weight *= 128;
    }
  }
}

function layOut(data, rows) {
  data.states = data.states.map((state, index) => ({ ...state, index, height: LOOKS[state.id][0], pattern: LOOKS[state.id][1] }));
  data.places = data.places.map(([name, file, line, source]) => ({ function: name, file, line, source }));
  data.spans = 0;
  data.threads = [];
  data.processes.forEach((process, index) => {
    process.index = index;
    process.threads.forEach((thread, number) => {
      Object.assign(thread, { process, number, id: data.threads.length, spans: columns(thread.spans, rows) });
      thread.sums = sums(thread.spans, data.states.length);
      thread.seen = thread.sums.reduce((sum, nanos) => sum + nanos, 0);
      data.spans += thread.spans.count;
      data.threads.push(thread);
    });
  });
  data.passes = passColumns(data, rows);
  return data;
}

/** The spans of a thread, a column for each of what a span has; -1 where it has none. */
function columns(count, rows) {
  const spans = {
    count,
    from: new Float64Array(count),
    until: new Float64Array(count),
    state: new Uint8Array(count),
    place: new Int32Array(count),
    thing: new Int32Array(count),
    holder: new Int32Array(count),
  };
  let time = 0;
  for (let index = 0; index < count; index++) {
    const head = rows.next();
    spans.state[index] = head & 15;
    spans.from[index] = time += rows.next();
    spans.until[index] = time += rows.next();
    spans.place[index] = head & 16 ? rows.next() : -1;
    spans.thing[index] = head & 32 ? rows.next() : -1;
    spans.holder[index] = head & 64 ? rows.next() : -1;
  }
  return spans;
}

function sums(spans, states) {
  const nanos = new Array(states).fill(0);
  for (let index = 0; index < spans.count; index++) nanos[spans.state[index]] += spans.until[index] - spans.from[index];
  return nanos;
}

/** Passes in the order of their times, with threads by their number among all. */
function passColumns(data, rows) {
  const all = [];
  let longest = 0;
  for (let count = 0; count < data.passes; count++) {
    const thread = () => {
      const [process, number] = [rows.next(), rows.next()];
      return data.processes[process]?.threads[number]?.id ?? -1;
    };
    const [from, at, to, later, thing] = [thread(), rows.next(), thread(), rows.next(), rows.next() - 1];
    if (from < 0 || to < 0) continue;
    longest = Math.max(longest, later);
    all.push({ from, at, to, until: at + later, thing });
  }
  all.sort((a, b) => a.at - b.at);
  return { all, moments: Float64Array.from(all, (pass) => pass.at), longest };
}

/** The first index in the sorted column whose value is greater than this. */
function firstAfter(column, value) {
  let [low, high] = [0, column.length];
  while (low < high) {
    const middle = (low + high) >> 1;
    if (column[middle] > value) high = middle;
    else low = middle + 1;
  }
  return low;
}

/** The index of the thread's span at this moment, or -1. */
function spanAt(spans, time) {
  const index = firstAfter(spans.until, time);
  return index < spans.count && spans.from[index] <= time ? index : -1;
}
