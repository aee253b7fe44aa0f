// Drawing: lanes of spans, hand-overs, the ruler, the whole session in small.
//
// A span that is narrower than a pixel is not drawn by itself: each column of pixels shows the state that took most of its time. So a million spans cost
// one pass over those that are in view, and at most one rectangle a pixel and lane.

const THREAD_HEIGHT = 28;
const PROCESS_HEIGHT = 26;
const OVERVIEW_HEIGHT = 52;
const RULER_HEIGHT = 24;
const FONT = '10.5px ui-monospace, "SF Mono", Menlo, Consolas, "DejaVu Sans Mono", monospace';
const LETTER = 6.4;
/** More hand-overs than this in view would be a thicket: the toolbar says how many there are instead. */
const MOST_PASSES = 1200;
/** States that are counted in the overview, the lowest first: those that run, and those that are kept from it. */
const COUNTED = ["running", "native", "runnable", "gil", "lock"];
/** States whose colour is dark enough for white letters. */
const WHITE_ON = new Set(["native", "lock", "queue"]);

/** A context that draws in CSS pixels, sharp on every screen. */
function fitted(canvas, width, height) {
  const ratio = devicePixelRatio || 1;
  const [w, hgt] = [Math.round(width * ratio), Math.round(height * ratio)];
  if (canvas.width !== w || canvas.height !== hgt) {
    canvas.width = w;
    canvas.height = hgt;
    canvas.style.width = `${width}px`;
    canvas.style.height = `${height}px`;
  }
  const context = canvas.getContext("2d");
  context.setTransform(ratio, 0, 0, ratio, 0, 0);
  context.clearRect(0, 0, width, height);
  return context;
}

/** The patterns of the states, in the colours of the theme. */
function makePatterns() {
  const tile = (size, paint) => {
    const canvas = document.createElement("canvas");
    canvas.width = canvas.height = size;
    const context = canvas.getContext("2d");
    context.strokeStyle = context.fillStyle = theme.colours.pattern;
    context.lineWidth = 1.3;
    paint(context, size);
    return context.createPattern(canvas, "repeat");
  };
  const lines = (context, ...all) => {
    context.beginPath();
    for (const [x0, y0, x1, y1] of all) {
      context.moveTo(x0, y0);
      context.lineTo(x1, y1);
    }
    context.stroke();
  };
  return {
    slash: tile(6, (context) => lines(context, [-1, 7, 7, -1], [-1, 1, 1, -1], [5, 7, 7, 5])),
    cross: tile(6, (context) => lines(context, [-1, 7, 7, -1], [-1, -1, 7, 7])),
    dots: tile(4, (context) => context.fillRect(1, 1, 1.5, 1.5)),
    bars: tile(5, (context) => lines(context, [0.5, 0, 0.5, 5])),
  };
}

/** Paints the spans of one thread; returns how many rectangles that took. */
function drawSpans(context, scene, spans, top, height) {
  const { view, data, patterns, focus } = scene;
  const weights = new Float64Array(data.states.length);
  let [column, runState, runFrom, runUntil, drawn] = [-1, -1, 0, 0, 0];

  const paint = (state, left, right) => {
    const look = data.states[state];
    const tall = Math.max(2, Math.round(height * look.height));
    context.globalAlpha = focus === null || focus === state ? 1 : 0.14;
    context.fillStyle = theme.colours[look.id];
    context.fillRect(left, top + height - tall, right - left, tall);
    if (look.pattern && right - left > 3) {
      context.fillStyle = patterns[look.pattern];
      context.fillRect(left, top + height - tall, right - left, tall);
    }
    drawn++;
  };
  const endRun = () => {
    if (runState >= 0) paint(runState, runFrom, runUntil);
    runState = -1;
  };
  /** What was too narrow: the column gets the state of most of its time. */
  const endColumn = () => {
    if (column < 0) return;
    let most = 0;
    for (let state = 1; state < weights.length; state++) if (weights[state] > weights[most]) most = state;
    if (runState !== most || runUntil < column) {
      endRun();
      [runState, runFrom] = [most, column];
    }
    runUntil = column + 1;
    weights.fill(0);
    column = -1;
  };

  for (let index = firstAfter(spans.until, view.from); index < spans.count && spans.from[index] < view.until; index++) {
    const left = view.x(spans.from[index]);
    const right = view.x(spans.until[index]);
    if (right - left < 1) {
      const here = Math.floor((left + right) / 2);
      if (here !== column) endColumn();
      column = here;
      weights[spans.state[index]] += spans.until[index] - spans.from[index];
      continue;
    }
    endColumn();
    endRun();
    const from = Math.max(-2, Math.round(left));
    const until = Math.min(view.width + 2, Math.max(Math.round(right), from + 1));
    // A hair between neighbours, so that two spans of one state are two.
    paint(spans.state[index], from, until - from > 5 ? until - 1 : until);
    if (until - from > 40) drawLabel(context, scene, spans, index, Math.max(from, 0), Math.min(until, view.width), top, height);
  }
  endColumn();
  endRun();
  context.globalAlpha = 1;
  return drawn;
}

/** What the span is about, in it where it is high enough, else above it. */
function drawLabel(context, { data }, spans, index, left, right, top, height) {
  const state = data.states[spans.state[index]];
  const place = data.places[spans.place[index]];
  const thing = data.things[spans.thing[index]];
  const isWork = state.id === "running" || state.id === "native";
  const said = isWork ? place?.function : thing?.what || (state.id === "gil" ? "GIL" : state.name);
  const room = Math.floor((right - left - 10) / LETTER);
  if (!said || room < 4) return;
  const isInside = state.height > 0.6;
  const middle = isInside ? top + height * (1 - state.height / 2) + 3.5 : top + height * (1 - state.height) - 3;
  const text = said.length > room ? `${said.slice(0, room - 1)}…` : said;
  if (isInside && state.pattern) {
    // Letters on a pattern need a ground.
    context.fillStyle = theme.colours[state.id];
    context.fillRect(left + 3, middle - 10, text.length * LETTER + 4, 13);
  }
  context.fillStyle = !isInside ? theme.colours.dim : WHITE_ON.has(state.id) ? "#fff" : "#10151f";
  context.fillText(text, left + 5, middle);
}

/** The threads of a collapsed process, one upon the other. */
function drawTogether(context, scene, process, top, height) {
  const { view, data } = scene;
  const width = Math.ceil(view.width);
  const bins = countStates(process.threads, data, view.from, view.until, width);
  drawStack(context, bins, width, top, height, Math.max(1, process.threads.length / 2));
}

/** How many threads are in each counted state, in each of so many equal parts of the time. */
function countStates(threads, data, from, until, parts) {
  const bins = COUNTED.map(() => new Float32Array(parts));
  const which = data.states.map((state) => COUNTED.indexOf(state.id));
  const scale = parts / (until - from);
  for (const { spans } of threads) {
    for (let index = firstAfter(spans.until, from); index < spans.count && spans.from[index] < until; index++) {
      const bin = bins[which[spans.state[index]]];
      if (!bin) continue;
      const left = Math.max(0, (spans.from[index] - from) * scale);
      const right = Math.min(parts, (spans.until[index] - from) * scale);
      const [first, last] = [Math.floor(left), Math.min(Math.floor(right), parts - 1)];
      if (first >= last) {
        if (first < parts) bin[first] += right - left;
        continue;
      }
      bin[first] += first + 1 - left;
      for (let at = first + 1; at < last; at++) bin[at] += 1;
      bin[last] += right - last;
    }
  }
  return bins;
}

/** Counts, one upon the other; the highest sum is as high as there is room. */
function drawStack(context, bins, width, top, height, least = 1) {
  let most = least;
  for (let x = 0; x < width; x++)
    most = Math.max(
      most,
      bins.reduce((sum, bin) => sum + bin[x], 0),
    );
  const base = new Float32Array(width);
  bins.forEach((bin, which) => {
    context.fillStyle = theme.colours[COUNTED[which]];
    context.beginPath();
    context.moveTo(0, top + height);
    for (let x = 0; x < width; x++) {
      const low = top + height - (base[x] / most) * height;
      base[x] += bin[x];
      const high = top + height - (base[x] / most) * height;
      if (low - high > 0.05) context.rect(x, high, 1, low - high);
    }
    context.fill();
  });
}

/** Arrows from who passed something on to who got it. Returns how many there are in view. */
function drawPasses(context, scene, height) {
  const { view, data, rowOf, scroll } = scene;
  const { all, moments, longest } = data.passes;
  let at = firstAfter(moments, view.from - longest - 1);
  const seen = new Set();
  const arrows = [];
  let count = 0;
  for (; at < all.length && all[at].at < view.until; at++) {
    const pass = all[at];
    if (pass.until < view.from) continue;
    count++;
    if (seen.size > MOST_PASSES || pass.from === pass.to) continue;
    const [from, to] = [rowOf[pass.from], rowOf[pass.to]];
    if (!from || !to || from === to) continue;
    const [x0, x1] = [view.x(pass.at), view.x(pass.until)];
    const [y0, y1] = [from.y + from.height / 2 - scroll, to.y + to.height / 2 - scroll];
    if (Math.max(y0, y1) < 0 || Math.min(y0, y1) > height) continue;
    const key = `${Math.round(x0)},${y0},${y1}`;
    if (!seen.has(key)) arrows.push([x0, y0, x1, y1]);
    seen.add(key);
  }
  if (seen.size > MOST_PASSES) return { count, drawn: 0 };
  context.strokeStyle = context.fillStyle = theme.colours.ink;
  context.globalAlpha = Math.max(0.25, 0.75 - arrows.length / 400);
  context.lineWidth = 1.1;
  for (const [x0, y0, x1, y1] of arrows) drawArrow(context, x0, y0, x1, y1);
  context.globalAlpha = 1;
  return { count, drawn: arrows.length };
}

function drawArrow(context, x0, y0, x1, y1) {
  const down = Math.sign(y1 - y0);
  const bend = Math.max(6, Math.min(40, (x1 - x0) / 2));
  context.beginPath();
  context.moveTo(x0, y0);
  context.bezierCurveTo(x0 + bend, y0 + down * 4, x1 - bend / 2, y1 - down * 16, x1, y1 - down * 4);
  context.stroke();
  context.beginPath();
  context.moveTo(x1, y1);
  context.lineTo(x1 - 3, y1 - down * 6);
  context.lineTo(x1 + 3, y1 - down * 6);
  context.fill();
}

/** The lanes in view, with what lies over them. */
function drawLanes(canvas, scene, width, height) {
  const context = fitted(canvas, width, height);
  const { view, data, rows, scroll, selected, hovered, moments, withPasses } = scene;
  context.font = FONT;
  context.textBaseline = "alphabetic";
  context.fillStyle = theme.colours.line;
  for (const time of view.ticks().times) context.fillRect(Math.round(view.x(time)), 0, 1, height);
  let [drawn, lanes] = [0, 0];
  for (const row of rows) {
    const top = row.y - scroll;
    if (top + row.height < 0 || top > height) continue;
    lanes++;
    if (row.kind === "process") {
      context.fillStyle = theme.colours.sunk;
      context.fillRect(0, top, width, row.height);
      context.fillStyle = theme.colours.line;
      context.fillRect(0, top, width, 1);
      context.fillRect(0, top + row.height - 1, width, 1);
      const [from, until] = [view.x(row.process.began), view.x(row.process.ended ?? data.length)];
      context.fillStyle = theme.colours.faint;
      context.fillRect(Math.max(0, from), top + row.height - 3, Math.max(1, Math.min(width, until) - Math.max(0, from)), 2);
      if (row.collapsed) drawTogether(context, scene, row.process, top + 3, row.height - 6);
      continue;
    }
    if (selected?.thread === row.thread) {
      context.fillStyle = theme.colours["note-soft"];
      context.fillRect(0, top, width, row.height);
    }
    context.fillStyle = theme.colours.line;
    context.fillRect(0, top + row.height - 1, width, 1);
    drawn += drawSpans(context, scene, row.thread.spans, top + 3, row.height - 5);
  }
  for (const { at, level } of moments) {
    const x = Math.round(view.x(at));
    if (x < 0 || x > width) continue;
    context.fillStyle = theme.colours[level];
    context.globalAlpha = 0.7;
    context.fillRect(x, 0, 1, height);
    context.globalAlpha = 1;
  }
  for (const [mark, colour] of [
    [hovered, "ink"],
    [selected, "focus"],
  ])
    if (mark) drawMark(context, scene, mark, theme.colours[colour]);
  const passes = withPasses ? drawPasses(context, scene, height) : { count: 0, drawn: 0 };
  return { drawn, lanes, passes };
}

/** A frame around a span, and a line to who holds what it waits for. */
function drawMark(context, scene, { thread, index, x: pointer }, colour) {
  const { view, rowOf, scroll } = scene;
  const row = rowOf[thread.id];
  if (!row || row.kind !== "thread" || index < 0) return;
  const { spans } = thread;
  const [left, right] = [Math.max(-3, view.x(spans.from[index])), Math.min(view.width + 3, view.x(spans.until[index]))];
  context.strokeStyle = colour;
  context.lineWidth = 1.5;
  context.strokeRect(left, row.y - scroll + 1.5, Math.max(2, right - left), row.height - 3);
  const holder = thread.process.threads[spans.holder[index]];
  const other = holder && rowOf[holder.id];
  if (!other || other === row) return;
  const x = Math.min(Math.max(pointer ?? (left + right) / 2, Math.max(left, 8)), Math.min(right, view.width - 8));
  context.fillStyle = colour;
  context.lineWidth = 2;
  drawArrow(context, x, row.y + row.height / 2 - scroll, x, other.y + (other.y < row.y ? other.height - 2 : 2) - scroll);
}

/** Moments of time, and flags of findings. Returns the flags' places, for the pointer. */
function drawRuler(canvas, scene, width) {
  const context = fitted(canvas, width, RULER_HEIGHT);
  const { view, moments } = scene;
  context.font = FONT;
  const { step, times } = view.ticks();
  for (const time of times) {
    const x = Math.round(view.x(time));
    context.fillStyle = theme.colours.line;
    context.fillRect(x, 12, 1, 12);
    context.fillStyle = theme.colours.dim;
    if (x < width - 60) context.fillText(moment(time, step), x + 4, 18);
  }
  const flags = [];
  for (const { at, level, index } of moments) {
    const x = Math.round(view.x(at));
    if (x < -1 || x > width + 1) continue;
    context.fillStyle = theme.colours[level];
    context.beginPath();
    context.moveTo(x, RULER_HEIGHT);
    context.lineTo(x - 5, RULER_HEIGHT - 8);
    context.lineTo(x - 5, 4);
    context.lineTo(x + 5, 4);
    context.lineTo(x + 5, RULER_HEIGHT - 8);
    context.fill();
    context.fillStyle = theme.colours.card;
    context.fillText(level === "note" ? "i" : "!", x - 3, 14);
    flags.push({ x, index });
  }
  return flags;
}

/** What of the overview stays the same while the view changes. */
function overviewPicture({ view, data }, width) {
  const canvas = document.createElement("canvas");
  const parts = Math.ceil(width);
  drawStack(fitted(canvas, width, OVERVIEW_HEIGHT), countStates(data.threads, data, 0, view.length, parts), parts, 4, OVERVIEW_HEIGHT - 4);
  return canvas;
}

/** The whole session: how many threads run or want to, and the part that is looked at. */
function drawOverview(canvas, scene, width) {
  const context = fitted(canvas, width, OVERVIEW_HEIGHT);
  const { view, moments } = scene;
  scene.picture ??= overviewPicture(scene, width);
  context.drawImage(scene.picture, 0, 0, width, OVERVIEW_HEIGHT);
  const x = (time) => (time / view.length) * width;
  for (const { at, level } of moments) {
    context.fillStyle = theme.colours[level];
    context.fillRect(Math.round(x(at)) - 1, 0, 2, OVERVIEW_HEIGHT);
  }
  const [left, right] = [x(view.from), Math.max(x(view.until), x(view.from) + 2)];
  context.fillStyle = theme.colours.card;
  context.globalAlpha = 0.65;
  context.fillRect(0, 0, left, OVERVIEW_HEIGHT);
  context.fillRect(right, 0, width - right, OVERVIEW_HEIGHT);
  context.globalAlpha = 1;
  if (view.span < view.length * 0.999) {
    context.strokeStyle = theme.colours.accent;
    context.lineWidth = 1.5;
    context.strokeRect(left, 0.75, right - left, OVERVIEW_HEIGHT - 1.5);
  }
}
