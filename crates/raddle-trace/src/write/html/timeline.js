// The timeline: what is shown of it, and what pointer and keys do.

class Timeline {
  constructor(data) {
    this.data = data;
    this.view = new View(data.length, () => this.redraw());
    this.collapsed = new Set();
    this.filter = "";
    this.scene = {
      view: this.view,
      data,
      rows: [],
      rowOf: [],
      scroll: 0,
      selected: null,
      hovered: null,
      focus: null,
      picture: null,
      patterns: null,
      withPasses: true,
      moments: data.report.findings.flatMap(({ at, level }, index) => (at === null ? [] : [{ at, level, index }])),
    };
    this.build();
    this.listen();
    theme.watchers.push(() => this.refresh());
    new ResizeObserver(() => this.refresh()).observe(this.lanes);
    this.layOut();
  }

  // What it is made of.

  build() {
    const button = (text, label, act) => h("button", { type: "button", title: label, "aria-label": label, onclick: act }, text);
    const used = this.data.states.filter((state) => this.data.threads.some((thread) => thread.sums[state.index] > 0));
    this.legend = h(
      "div",
      { class: "legend", role: "group", "aria-label": "States: choose one to see it alone" },
      used.map((state) => this.legendButton(state)),
    );
    this.search = h("input", { type: "search", placeholder: "filter threads  ( / )", "aria-label": "Filter threads by name" });
    this.passes = h("input", { type: "checkbox", checked: true });
    this.passWords = h("span", {}, "hand-overs");
    this.range = h("span", { class: "range" });
    const zoom = h(
      "span",
      { class: "zoom" },
      button("−", "Zoom out (S or -)", () => this.view.zoom(1.6)),
      button("fit", "Show all (0)", () => this.view.fit()),
      button("+", "Zoom in (W or +)", () => this.view.zoom(1 / 1.6)),
    );
    this.overview = h("canvas", { class: "overview", "aria-hidden": "true" });
    this.ruler = h("canvas", { "aria-hidden": "true" });
    this.canvas = h("canvas", { role: "img", "aria-label": "Lanes of threads over time" });
    this.gutter = h("div", { class: "gutter" });
    this.lanes = h(
      "div",
      {
        class: "lanes",
        tabindex: "0",
        role: "group",
        "aria-label": "Timeline. Arrow keys choose lanes and move in time, brackets go from span to span.",
      },
      this.gutter,
      this.canvas,
    );
    this.tip = h("div", { class: "tip", hidden: true, role: "tooltip" });
    const corner = h("div", { class: "corner" }, "threads that run, or want to");
    const above = h("div", { class: "above" }, corner, h("div", {}, this.overview, this.ruler));
    this.frame = h("div", { class: "frame" }, above, this.lanes, this.tip);
    this.detail = h("div", { class: "detail", "aria-live": "polite" });
    this.element = section(
      "timeline",
      "Timeline",
      null,
      h(
        "div",
        { class: "toolbar" },
        this.search,
        zoom,
        h("label", { hidden: !this.data.passes.all.length }, this.passes, this.passWords),
        this.range,
      ),
      this.legend,
      this.frame,
      this.detail,
    );
    this.tell();
  }

  legendButton(state) {
    const press = (event) => {
      this.scene.focus = this.scene.focus === state.index ? null : state.index;
      for (const other of this.legend.children)
        other.setAttribute("aria-pressed", String(other === event.currentTarget && this.scene.focus !== null));
      this.redraw();
    };
    return h("button", { type: "button", "aria-pressed": "false", title: `See “${state.name}” alone`, onclick: press }, swatch(state), state.name);
  }

  /** Which lanes there are, and where. */
  layOut() {
    const wanted = this.filter.toLowerCase();
    const fits = (thread) => !wanted || `${thread.name} ${thread.tid} ${thread.process.pid}`.toLowerCase().includes(wanted);
    const rows = [];
    let y = 0;
    const push = (row, height) => {
      rows.push({ ...row, y, height });
      y += height;
    };
    this.scene.rowOf = [];
    for (const process of this.data.processes) {
      const threads = process.threads.filter(fits);
      if (!threads.length && wanted) continue;
      const collapsed = this.collapsed.has(process.index) && !wanted;
      push({ kind: "process", process, collapsed }, PROCESS_HEIGHT);
      const head = rows.at(-1);
      for (const thread of threads) {
        if (collapsed) this.scene.rowOf[thread.id] = head;
        else {
          push({ kind: "thread", process, thread }, THREAD_HEIGHT);
          this.scene.rowOf[thread.id] = rows.at(-1);
        }
      }
    }
    this.scene.rows = rows;
    this.height = y;
    this.gutter.style.height = `${Math.max(y, THREAD_HEIGHT)}px`;
    this.gutter.replaceChildren(...rows.map((row) => this.gutterRow(row)));
    if (!rows.length) this.gutter.append(h("p", { class: "none", style: { padding: "4px 10px" } }, "no such thread"));
    this.markRows();
    this.refresh();
  }

  gutterRow(row) {
    const place = { top: `${row.y}px`, height: `${row.height}px` };
    if (row.kind === "process") {
      const { process, collapsed } = row;
      const name = `${process.program} ${process.pid}`;
      const toggle = () => this.toggle(process);
      const button = h(
        "button",
        {
          type: "button",
          "aria-expanded": String(!collapsed),
          "aria-label": `${collapsed ? "Show" : "Hide"} the threads of ${name}`,
          onclick: toggle,
        },
        collapsed ? "▶" : "▼",
      );
      const label = h("span", { class: "label", title: process.command.join(" ") }, process.program);
      return (row.element = h(
        "div",
        { class: "lane process", style: place, ondblclick: toggle },
        button,
        label,
        h("span", { class: "what" }, String(process.pid)),
      ));
    }
    const { thread } = row;
    const label = h("span", { class: "label", title: `${thread.name}, thread ${thread.tid}` }, thread.name);
    const what = thread.exception
      ? "✗ ended by an exception"
      : thread.function !== null
        ? this.data.places[thread.function]?.function
        : thread.daemon
          ? "daemon"
          : "";
    row.element = h(
      "div",
      { class: `lane ${thread.seen > 0 ? "" : "empty"}`, style: place, onclick: () => this.select(thread, -1) },
      label,
      h("span", { class: "what", title: thread.exception }, what ?? ""),
    );
    return row.element;
  }

  toggle(process) {
    if (!this.collapsed.delete(process.index)) this.collapsed.add(process.index);
    this.layOut();
  }

  markRows() {
    const about = this.finding === undefined ? null : this.data.report.findings[this.finding];
    const isAbout = (row) =>
      about?.units.some(
        ({ process, thread }) => process === row.process.index && (row.kind === "process" ? thread === null : thread === row.thread.number),
      );
    for (const row of this.scene.rows) {
      row.element.classList.toggle("selected", row.kind === "thread" && row.thread === this.scene.selected?.thread);
      row.element.classList.toggle("about", Boolean(about && isAbout(row)));
      row.element.style.setProperty("--level", about ? `var(--${about.level})` : "");
    }
  }

  // Drawing, at most once a frame.

  refresh() {
    this.scene.patterns = null;
    this.scene.picture = null;
    this.redraw();
  }

  redraw() {
    if (this.pending) return;
    this.pending = requestAnimationFrame(() => {
      this.pending = 0;
      this.draw();
    });
  }

  draw() {
    const { scene, view } = this;
    const width = Math.max(50, this.lanes.clientWidth - this.gutter.offsetWidth);
    const height = Math.max(THREAD_HEIGHT, Math.min(this.lanes.clientHeight, this.height));
    view.width = width;
    scene.scroll = this.lanes.scrollTop;
    scene.patterns ??= makePatterns();
    drawOverview(this.overview, scene, width);
    this.flags = drawRuler(this.ruler, scene, width);
    const { drawn, lanes, passes } = drawLanes(this.canvas, scene, width, height);
    this.range.textContent = `${moment(view.from, view.span / 1000)} to ${moment(view.until, view.span / 1000)} · ${duration(view.span)}`;
    this.passWords.textContent = passes.count > 0 && passes.drawn === 0 ? `${plural(passes.count, "hand-over")}: zoom in to see them` : "hand-overs";
    Object.assign(this.element.dataset, { drawn, lanes, arrows: passes.drawn, from: Math.round(view.from), until: Math.round(view.until) });
  }

  // What is said about a span.

  about(thread, index, at, count = 1) {
    const { data } = this;
    const { spans } = thread;
    const state = data.states[spans.state[index]];
    const thing = data.things[spans.thing[index]];
    const holder = thread.process.threads[spans.holder[index]];
    const holding = holder && spanAt(holder.spans, at ?? spans.from[index]);
    const rows = [
      ["thread", data.processes.length > 1 ? `${thread.name}, process ${thread.process.pid}` : thread.name],
      ["from", moment(spans.from[index], Math.max(1, this.view.span / 1e4))],
      ["at", placeText(data.places[spans.place[index]])],
      ["for", thing?.what],
      ["made at", placeText(data.places[thing?.made ?? -1])],
      ["held by", holder && `${holder.name}${holding >= 0 ? ` (${data.states[holder.spans.state[holding]].name})` : ""}`],
      ["here", count > 1 && `${plural(count, "span")} in one pixel: zoom in to see them`],
    ];
    const head = h("div", { class: "what" }, swatch(state), `${state.name} · ${duration(spans.until[index] - spans.from[index])}`);
    const body = rows
      .filter(([, text]) => text)
      .map(([name, text]) => h("div", { style: { display: "contents" } }, h("dt", {}, name), h("dd", {}, text)));
    return h("dl", { class: "about-span" }, head, body);
  }

  /** Below the lanes: the chosen span, or what the keys do. */
  tell() {
    const { selected } = this.scene;
    const isSpan = selected && selected.index >= 0;
    this.detail.classList.toggle("filled", Boolean(isSpan));
    if (isSpan) {
      const said = this.about(selected.thread, selected.index);
      for (const row of said.querySelectorAll("div:not(.what)")) row.style.display = "flex";
      this.detail.replaceChildren(said);
      return;
    }
    const key = (keys, text) =>
      h(
        "span",
        {},
        keys.map((name) => h("kbd", {}, name)),
        ` ${text}`,
      );
    this.detail.replaceChildren(
      h(
        "div",
        { class: "keys" },
        key(["W", "S"], "or Ctrl + wheel zoom"),
        key(["A", "D"], "or drag, Shift + wheel move"),
        key(["0"], "all"),
        key(["↑", "↓"], "lane"),
        key(["[", "]"], "span"),
        key(["Enter"], "zoom to it"),
        key(["N", "P"], "finding"),
        key(["C"], "collapse"),
        key(["/"], "filter"),
        h("span", {}, "Shift + drag zooms into a part; click a span to keep it here"),
      ),
    );
  }

  select(thread, index) {
    this.scene.selected = thread ? { thread, index } : null;
    this.markRows();
    this.tell();
    if (thread) this.reveal(thread);
    this.redraw();
  }

  /** Scrolls so that the thread's lane can be seen. */
  reveal(thread) {
    const row = this.scene.rowOf[thread.id];
    if (!row) return;
    const { scrollTop, clientHeight } = this.lanes;
    if (row.y < scrollTop) this.lanes.scrollTop = row.y - PROCESS_HEIGHT;
    else if (row.y + row.height > scrollTop + clientHeight) this.lanes.scrollTop = row.y + row.height - clientHeight + PROCESS_HEIGHT;
  }

  /** Jumps to a finding: its moment, its units. Nobody has to follow with their eyes if it is where the page begins. */
  show(index, begins = false) {
    const finding = this.data.report.findings[index];
    this.finding = index;
    if (this.filter) this.search.value = this.filter = "";
    for (const { process } of finding.units) this.collapsed.delete(process);
    this.layOut();
    const threads = finding.units.map(({ process, thread }) => this.data.processes[process]?.threads[thread]).filter(Boolean);
    if (threads.length) {
      const at = finding.at ?? threads[0].spans.from[0] ?? 0;
      this.select(threads[0], finding.at === null ? -1 : spanAt(threads[0].spans, at));
    } else this.select(null);
    if (finding.at === null) this.view.fit();
    else {
      const half = Math.max(this.view.length / 24, CLOSEST);
      this.view[begins ? "set" : "glide"](finding.at - half, finding.at + half);
    }
    document.querySelectorAll(".finding").forEach((card, number) => card.classList.toggle("here", number === index));
    this.element.scrollIntoView({ block: "nearest" });
  }

  /** Jumps to a thread. */
  find(thread) {
    this.collapsed.delete(thread.process.index);
    this.filter = this.search.value = "";
    this.layOut();
    this.select(thread, -1);
    this.element.scrollIntoView({ block: "nearest" });
    this.lanes.focus({ preventScroll: true });
  }

  // Pointer and keys.

  listen() {
    this.search.addEventListener("input", () => {
      this.filter = this.search.value.trim();
      this.layOut();
    });
    this.passes.addEventListener("change", () => {
      this.scene.withPasses = this.passes.checked;
      this.redraw();
    });
    this.lanes.addEventListener("scroll", () => {
      this.hover(null);
      this.redraw();
    });
    this.lanes.addEventListener("keydown", (event) => this.key(event));
    this.canvas.addEventListener("wheel", (event) => this.wheel(event), { passive: false });
    this.canvas.addEventListener("pointermove", (event) => this.hover(event));
    this.canvas.addEventListener("pointerleave", () => this.hover(null));
    this.canvas.addEventListener("pointerdown", (event) => this.press(event));
    this.canvas.addEventListener("dblclick", (event) => this.zoomToSpan(this.hit(event)));
    this.ruler.addEventListener("click", (event) => {
      const flag = this.flagAt(event);
      if (flag) this.show(flag.index);
    });
    this.ruler.addEventListener("pointermove", (event) => {
      const flag = this.flagAt(event);
      this.ruler.style.cursor = flag ? "pointer" : "";
      this.ruler.title = flag ? this.data.report.findings[flag.index].title : "";
    });
    this.overview.addEventListener("pointerdown", (event) => this.pressOverview(event));
    document.addEventListener("keydown", (event) => {
      if (event.key !== "/" || event.ctrlKey || event.metaKey || event.target.matches?.("input")) return;
      event.preventDefault();
      this.search.focus();
    });
    this.search.addEventListener("keydown", (event) => {
      if (event.key === "Escape") {
        this.search.value = this.filter = "";
        this.layOut();
      }
      if (event.key === "Enter" || event.key === "Escape") this.lanes.focus();
    });
  }

  flagAt(event) {
    return this.flags?.findLast(({ x }) => Math.abs(x - event.offsetX) <= 6);
  }

  /** The span below the pointer, and how many share its pixel. */
  hit(event) {
    const y = event.offsetY + this.lanes.scrollTop;
    const row = this.scene.rows.find((candidate) => y >= candidate.y && y < candidate.y + candidate.height);
    if (row?.kind !== "thread") return null;
    const { spans } = row.thread;
    const [left, time, right] = [-0.5, 0, 0.5].map((by) => this.view.time(event.offsetX + by));
    const first = firstAfter(spans.until, left);
    const count = Math.max(0, firstAfter(spans.from, right) - first);
    let index = spanAt(spans, time);
    if (index < 0 && count > 0) index = first;
    return { thread: row.thread, index, count, time, x: event.offsetX };
  }

  hover(event) {
    const hit = event && !this.dragging ? this.hit(event) : null;
    const had = this.scene.hovered;
    this.scene.hovered = hit && hit.index >= 0 ? hit : null;
    this.tip.hidden = !this.scene.hovered;
    if (this.scene.hovered) {
      this.tip.replaceChildren(this.about(hit.thread, hit.index, hit.time, hit.count));
      const box = this.frame.getBoundingClientRect();
      const [x, y] = [event.clientX - box.left, event.clientY - box.top];
      const { offsetWidth, offsetHeight } = this.tip;
      this.tip.style.left = `${Math.max(4, x + 16 + offsetWidth > box.width ? x - offsetWidth - 12 : x + 16)}px`;
      this.tip.style.top = `${Math.max(4, y + 18 + offsetHeight > box.height ? y - offsetHeight - 10 : y + 18)}px`;
    }
    if (had || this.scene.hovered) this.redraw();
  }

  wheel(event) {
    const steps = event.deltaMode === 1 ? 16 : event.deltaMode === 2 ? 200 : 1;
    if (event.ctrlKey || event.metaKey) this.view.zoom(2 ** ((event.deltaY * steps) / 240), this.view.time(event.offsetX));
    else if (event.shiftKey || Math.abs(event.deltaX) > Math.abs(event.deltaY))
      this.view.pan(((event.deltaX || event.deltaY) * steps) / this.view.width);
    else return;
    event.preventDefault();
  }

  /** A drag moves; with Shift it marks a part to zoom into; a click chooses. */
  press(event) {
    if (event.button !== 0) return;
    const [startX, startY, from, until, scroll] = [event.offsetX, event.clientY, this.view.from, this.view.until, this.lanes.scrollTop];
    const startClient = event.clientX;
    const marks = event.shiftKey;
    this.canvas.setPointerCapture(event.pointerId);
    this.lanes.focus({ preventScroll: true });
    const move = (moved) => {
      const by = moved.clientX - startClient;
      if (!this.dragging && Math.hypot(by, moved.clientY - startY) < 4) return;
      this.dragging = true;
      this.hover(null);
      this.canvas.classList.add("dragging");
      if (marks) return;
      const time = Math.min(Math.max((-by / this.view.width) * (until - from), -from), this.view.length - until);
      this.view.gliding = null;
      this.view.set(from + time, until + time);
      this.lanes.scrollTop = scroll - (moved.clientY - startY);
    };
    const end = (ended) => {
      this.canvas.removeEventListener("pointermove", move);
      this.canvas.classList.remove("dragging");
      const was = this.dragging;
      this.dragging = false;
      if (ended.type === "pointercancel") return;
      if (!was) {
        const hit = this.hit(ended);
        this.select(hit?.thread ?? null, hit?.index ?? -1);
      } else if (marks) {
        const times = [startX, startX + ended.clientX - startClient].map((x) => this.view.time(x)).sort((a, b) => a - b);
        this.view.glide(...times);
      }
    };
    this.canvas.addEventListener("pointermove", move);
    for (const name of ["pointerup", "pointercancel"]) this.canvas.addEventListener(name, end, { once: true });
  }

  pressOverview(event) {
    const time = (moved) => (Math.min(Math.max(moved.offsetX, 0), this.view.width) / this.view.width) * this.view.length;
    const start = time(event);
    const span = this.view.span;
    this.overview.setPointerCapture(event.pointerId);
    const move = (moved) => {
      const [a, b] = [start, time(moved)].sort((x, y) => x - y);
      if (b - a > this.view.length * 0.004) this.view.set(a, b);
    };
    const end = (ended) => {
      this.overview.removeEventListener("pointermove", move);
      if (Math.abs(time(ended) - start) <= this.view.length * 0.004 && span < this.view.length) this.view.glide(start - span / 2, start + span / 2);
    };
    this.overview.addEventListener("pointermove", move);
    this.overview.addEventListener("pointerup", end, { once: true });
  }

  zoomToSpan(hit) {
    if (!hit || hit.index < 0) return;
    const { spans } = hit.thread;
    const length = Math.max(spans.until[hit.index] - spans.from[hit.index], CLOSEST / 2);
    this.view.glide(spans.from[hit.index] - length / 2, spans.until[hit.index] + length / 2);
  }

  key(event) {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const step = event.shiftKey ? 0.5 : 0.12;
    const acts = {
      w: () => this.view.zoom(1 / 1.25),
      "+": () => this.view.zoom(1 / 1.25),
      "=": () => this.view.zoom(1 / 1.25),
      s: () => this.view.zoom(1.25),
      "-": () => this.view.zoom(1.25),
      a: () => this.view.pan(-step),
      arrowleft: () => this.view.pan(-step),
      d: () => this.view.pan(step),
      arrowright: () => this.view.pan(step),
      0: () => this.view.fit(),
      home: () => this.view.fit(),
      arrowup: () => this.nextLane(-1),
      arrowdown: () => this.nextLane(1),
      "[": () => this.nextSpan(-1),
      "]": () => this.nextSpan(1),
      ",": () => this.nextSpan(-1),
      ".": () => this.nextSpan(1),
      enter: () => this.zoomToSpan(this.scene.selected),
      n: () => this.nextFinding(1),
      p: () => this.nextFinding(-1),
      c: () => this.scene.selected && this.toggle(this.scene.selected.thread.process),
      escape: () => this.select(null),
    };
    const act = acts[event.key.toLowerCase()];
    if (!act || event.target.tagName === "BUTTON") return;
    event.preventDefault();
    act();
  }

  nextLane(by) {
    const threads = this.scene.rows.filter((row) => row.kind === "thread").map((row) => row.thread);
    if (!threads.length) return;
    const at = threads.indexOf(this.scene.selected?.thread);
    const next = threads[at < 0 ? (by > 0 ? 0 : threads.length - 1) : Math.min(Math.max(at + by, 0), threads.length - 1)];
    this.select(next, spanAt(next.spans, (this.view.from + this.view.until) / 2));
  }

  nextSpan(by) {
    const { selected } = this.scene;
    if (!selected?.thread.spans.count) return;
    const { spans } = selected.thread;
    const middle = firstAfter(spans.until, (this.view.from + this.view.until) / 2);
    const index = Math.min(Math.max(selected.index < 0 ? middle : selected.index + by, 0), spans.count - 1);
    this.select(selected.thread, index);
    const [from, until] = [spans.from[index], spans.until[index]];
    // In view, and in the middle of it if it was not.
    if (until < this.view.from || from > this.view.until) this.view.glide((from + until - this.view.span) / 2, (from + until + this.view.span) / 2);
  }

  nextFinding(by) {
    const count = this.data.report.findings.length;
    if (count) this.show(((this.finding ?? (by > 0 ? -1 : count)) + by + count) % count);
  }
}
