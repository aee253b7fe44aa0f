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

async function readData() {
  const element = document.getElementById("data");
  const text = element.dataset.kind === "deflate" ? await inflate(element.textContent) : element.textContent;
  element.remove();
  return layOut(JSON.parse(text));
}

async function inflate(base64) {
  if (!globalThis.DecompressionStream) throw new Error("this browser is too old to unpack the report: it has no DecompressionStream");
  const binary = atob(base64);
  const bytes = new Uint8Array(binary.length);
  for (let at = 0; at < binary.length; at++) bytes[at] = binary.charCodeAt(at);
  return new Response(new Blob([bytes]).stream().pipeThrough(new DecompressionStream("deflate"))).text();
}

function layOut(data) {
  data.states = data.states.map((state, index) => ({ ...state, index, height: LOOKS[state.id][0], pattern: LOOKS[state.id][1] }));
  data.places = data.places.map(([name, file, line, source]) => ({ function: name, file, line, source }));
  data.spans = 0;
  data.threads = [];
  data.processes.forEach((process, index) => {
    process.index = index;
    process.threads.forEach((thread, number) => {
      Object.assign(thread, { process, number, id: data.threads.length, spans: columns(thread.spans) });
      thread.sums = sums(thread.spans, data.states.length);
      thread.seen = thread.sums.reduce((sum, nanos) => sum + nanos, 0);
      data.spans += thread.spans.count;
      data.threads.push(thread);
    });
  });
  data.passes = passColumns(data);
  return data;
}

/** Six numbers a span, as the page has them, become a column each. */
function columns(rows) {
  const count = rows.length / 6;
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
  for (let index = 0, at = 0; index < count; index++, at += 6) {
    spans.from[index] = time += rows[at];
    spans.until[index] = time += rows[at + 1];
    spans.state[index] = rows[at + 2];
    spans.place[index] = rows[at + 3] - 1;
    spans.thing[index] = rows[at + 4] - 1;
    spans.holder[index] = rows[at + 5] - 1;
  }
  return spans;
}

function sums(spans, states) {
  const nanos = new Array(states).fill(0);
  for (let index = 0; index < spans.count; index++) nanos[spans.state[index]] += spans.until[index] - spans.from[index];
  return nanos;
}

/** Passes in the order of their times, with threads by their number among all. */
function passColumns(data) {
  const rows = data.passes;
  const thread = (process, number) => data.processes[process]?.threads[number]?.id ?? -1;
  const all = [];
  let longest = 0;
  for (let at = 0; at + 6 < rows.length; at += 7) {
    const pass = {
      from: thread(rows[at], rows[at + 1]),
      at: rows[at + 2],
      to: thread(rows[at + 3], rows[at + 4]),
      until: rows[at + 2] + rows[at + 5],
      thing: rows[at + 6] - 1,
    };
    if (pass.from < 0 || pass.to < 0) continue;
    longest = Math.max(longest, rows[at + 5]);
    all.push(pass);
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
