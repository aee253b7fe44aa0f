// Everything but the timeline: the verdict, findings, shares, locks, speed-up, advice, notes.

/** Threads of a process that are listed before the rest is asked for. */
const LISTED = 24;

function swatch(state) {
  return h("span", { class: `swatch state ${state.pattern}`, style: { "--colour": `var(--${state.id})` }, "aria-hidden": "true" });
}

function section(id, title, count, ...children) {
  const head = h("h2", {}, title, count !== null && h("span", { class: "count" }, String(count)));
  return h("section", { id, "aria-label": title }, title && head, ...children);
}

function summary(data) {
  const fact = (name, value) => h("div", {}, h("dt", {}, name), h("dd", {}, value));
  const started = data.started > 0 ? new Date(data.started * 1000).toLocaleString(undefined, { dateStyle: "medium", timeStyle: "short" }) : null;
  const worst = data.report.findings.length;
  const facts = h(
    "dl",
    { class: "facts" },
    fact("ran for", duration(data.length)),
    fact("findings", String(worst)),
    fact(data.processes.length === 1 ? "process" : "processes", String(data.processes.length)),
    fact(data.threads.length === 1 ? "thread" : "threads", String(data.threads.length)),
    data.cores > 0 && fact("processors", String(data.cores)),
    fact("processor time", duration(data.processes.reduce((sum, process) => sum + process.cpu, 0))),
    started && fact("started", started),
  );
  const verdict = h("h1", { class: "verdict" }, data.report.verdict || `${data.program} ${data.ending}`);
  return h("section", { id: "summary", "aria-label": "Summary" }, verdict, facts, h("p", { class: "command mono" }, `$ ${data.command.join(" ")}`));
}

function findings(data, show) {
  const cards = data.report.findings.map((finding, index) => findingCard(data, finding, () => show(index)));
  const body = cards.length ? h("div", { class: "findings" }, cards) : h("p", { class: "none" }, "Nothing to complain about.");
  return section("findings", "Findings", cards.length || null, body);
}

function findingCard(data, finding, show) {
  const when = finding.at === null ? "show in the timeline" : `show at ${duration(finding.at)}`;
  const units = finding.units.map((unit) => unitName(data, unit));
  const shown = units.slice(0, 12).map((name) => h("span", { class: "chip", title: name }, name));
  if (units.length > shown.length) shown.push(h("span", { class: "dim" }, `and ${units.length - shown.length} more`));
  const points = [...finding.notes.map((text) => ["note", text]), ...finding.help.map((text) => ["help", text])];
  return h(
    "article",
    { class: `finding ${finding.level}` },
    h(
      "header",
      {},
      h("span", { class: "id mono" }, `${finding.level}[${finding.id}]`),
      h("h3", {}, finding.title),
      finding.certainty !== "certain" && h("span", { class: "sure" }, finding.certainty),
      h("button", { type: "button", class: "show", onclick: show }, when),
    ),
    h(
      "div",
      { class: "body" },
      finding.labels.length > 0 && excerpt(data, finding.labels),
      points.length > 0 &&
        h(
          "ul",
          { class: "points" },
          points.map(([kind, text]) => h("li", { class: kind }, h("span", {}, kind), h("span", {}, text))),
        ),
      shown.length > 0 && h("div", { class: "units" }, shown),
    ),
  );
}

function unitName(data, { process, thread }) {
  const owner = data.processes[process];
  if (!owner) return "?";
  if (thread === null || !owner.threads[thread]) return `process ${owner.pid}`;
  return data.processes.length > 1 ? `${owner.threads[thread].name} · ${owner.pid}` : owner.threads[thread].name;
}

/** The source around the labels, file by file, with what is said about a line below it. */
function excerpt(data, labels) {
  const files = new Map();
  labels.forEach((label, index) => {
    const place = data.places[label.place];
    if (place) files.set(place.file, [...(files.get(place.file) ?? []), { place, text: label.text, isFirst: index === 0 }]);
  });
  const blocks = [...files.values()].map((said, index) => {
    const rows = [h("div", { class: "at" }, h("b", {}, index === 0 ? "--> " : "::: "), placeText(said[0].place))];
    const lines = new Map();
    for (const { place } of said) for (const [number, text] of place.source ?? [[place.line, null]]) lines.has(number) || lines.set(number, text);
    let last = null;
    for (const number of [...lines.keys()].sort((a, b) => a - b)) {
      if (last !== null && number > last + 1) rows.push(row("", h("span", { class: "around" }, "⋮")));
      last = number;
      const here = said.filter(({ place }) => place.line === number);
      const text = lines.get(number);
      if (text !== null) rows.push(row(number, h("span", { class: here.length ? "" : "around" }, text.replaceAll("\t", "    ") || " ")));
      const indent = text === null ? "" : " ".repeat(text.replaceAll("\t", "    ").search(/\S|$/));
      for (const { text: words, isFirst } of here)
        rows.push(
          row(text === null ? number : "", h("span", { class: isFirst ? "said" : "said other" }, `${indent}${text === null ? "" : "↑ "}${words}`)),
        );
    }
    return rows;
  });
  return h("div", { class: "excerpt mono" }, blocks);

  function row(number, what) {
    return h("div", { class: "row" }, h("span", {}, String(number)), what);
  }
}

function shareBar(data, sums) {
  const seen = sums.reduce((sum, nanos) => sum + nanos, 0);
  const parts = data.states.filter((state) => sums[state.index] > 0);
  const words = parts.map((state) => `${state.name} ${percent(sums[state.index] / seen)}`).join(", ");
  return h(
    "div",
    { class: "share", role: "img", "aria-label": words, title: words },
    parts.map((state) =>
      h("i", { class: `state ${state.pattern}`, style: { "--colour": `var(--${state.id})`, width: `${(100 * sums[state.index]) / seen}%` } }),
    ),
  );
}

/** The states of longest time, in words. */
function shareWords(data, sums) {
  const seen = sums.reduce((sum, nanos) => sum + nanos, 0);
  const longest = data.states
    .filter((state) => sums[state.index] / seen >= 0.005)
    .sort((a, b) => sums[b.index] - sums[a.index])
    .slice(0, 3);
  return longest.flatMap((state, at) => [at > 0 && " · ", `${state.name} `, h("b", {}, percent(sums[state.index] / seen))]);
}

function shares(data, find) {
  const blocks = data.processes.flatMap((process) => {
    const gil =
      process.gil && process.gil.held > 0
        ? `GIL held ${percent(process.gil.held / Math.max(1, (process.ended ?? data.length) - process.began))}`
        : null;
    const facts = [process.python && `CPython ${process.python}`, `${duration(process.cpu)} on processors`, gil, process.ending]
      .filter(Boolean)
      .join(" · ");
    const head = h(
      "h3",
      { class: "process-name" },
      `${process.program} `,
      h("span", { class: "dim" }, `process ${process.pid}`),
      h("span", { class: "faint" }, facts),
    );
    const body = h("tbody");
    const rows = process.threads.filter((thread) => thread.seen > 0);
    const add = (some) => body.append(...some.map((thread) => threadRow(data, thread, find)));
    add(rows.slice(0, LISTED));
    const rest = rows.slice(LISTED);
    const more =
      rest.length > 0 &&
      h(
        "button",
        {
          type: "button",
          onclick: (event) => {
            add(rest);
            event.target.remove();
          },
        },
        `show ${rest.length} more`,
      );
    if (!rows.length) return [head, h("p", { class: "none" }, "Nothing was seen of its threads.")];
    return [
      head,
      h(
        "div",
        { class: "scroll" },
        h(
          "table",
          {},
          h(
            "thead",
            { class: "sr" },
            h(
              "tr",
              {},
              ["thread", "shares", "in words", "processor time"].map((name) => h("th", {}, name)),
            ),
          ),
          body,
        ),
      ),
      more,
    ];
  });
  return section("threads", "Threads", data.threads.length, ...blocks);
}

function threadRow(data, thread, find) {
  const name = h(
    "a",
    {
      href: "#timeline",
      title: thread.name,
      onclick: (event) => {
        event.preventDefault();
        find(thread);
      },
    },
    thread.name,
  );
  return h(
    "tr",
    {},
    h("td", { class: "name", style: { width: "190px" } }, name),
    h("td", { style: { width: "40%" } }, shareBar(data, thread.sums)),
    h("td", { class: "words" }, thread.exception ? [h("b", {}, thread.exception)] : shareWords(data, thread.sums)),
    h("td", { class: "number", title: "time on a processor" }, duration(thread.cpu)),
  );
}

function locks(data) {
  const costs = data.report.locks;
  if (!costs.length) return null;
  const rows = costs.slice(0, 50).map((cost) => {
    const thing = data.things[cost.thing];
    return h(
      "tr",
      {},
      h("td", { class: "name", title: thing?.what }, thing?.what ?? "?"),
      h(
        "td",
        { class: "number" },
        h("span", { class: "meter" }, h("i", { style: { width: `${Math.min(100, 100 * cost.share)}%` } })),
        percent(cost.share),
      ),
      h("td", { class: "number" }, duration(cost.waited)),
      h("td", { class: "number" }, cost.waits.toLocaleString("en")),
      h("td", { class: "number" }, duration(cost.longest)),
      h("td", { class: "mono" }, placeText(cost.place === null ? null : data.places[cost.place])),
    );
  });
  const head = h(
    "tr",
    {},
    h("th", {}, "lock"),
    ["of the critical path", "waited", "waits", "longest"].map((name) => h("th", { class: "number" }, name)),
    h("th", {}, "mostly at"),
  );
  return section("locks", "Locks", costs.length, h("div", { class: "scroll" }, h("table", {}, h("thead", {}, head), h("tbody", {}, rows))));
}

function speedUp(data) {
  const found = data.report.speed_up;
  if (!found) return null;
  const counts = [...new Set(found.predictions.map((one) => one.workers))];
  const models = [...new Set(found.predictions.map((one) => one.model))];
  const middle = (one) => (one.seconds[0] + one.seconds[1]) / 2;
  const best = Math.min(...found.predictions.map(middle));
  const cell = (model, workers) => {
    const one = found.predictions.find((other) => other.model === model && other.workers === workers);
    if (!one) return h("td");
    const factor = data.length / 1e9 / Math.max(middle(one), 1e-9);
    return h(
      "td",
      { class: `number ${middle(one) === best ? "best" : ""}` },
      range(one.seconds),
      h("span", { class: "faint" }, ` ${factor.toFixed(1)}×`),
    );
  };
  const head = h(
    "tr",
    {},
    h("th", {}, "predicted time"),
    counts.map((count) => h("th", { class: "number" }, count === null ? "any number" : plural(count, "worker"))),
  );
  const rows = models.map((model) =>
    h(
      "tr",
      {},
      h("td", {}, model),
      counts.map((count) => cell(model, count)),
    ),
  );
  const facts = `${duration(found.work)} of work, of which ${percent(found.serial_fraction)} ran one at a time; the longest chain is ${duration(found.span)}. It took ${duration(data.length)}.`;
  const table = rows.length > 0 && h("div", { class: "scroll" }, h("table", {}, h("thead", {}, head), h("tbody", {}, rows)));
  return section("speed-up", "Speed-up", null, h("p", { class: "none" }, facts), table);
}

function advice(data) {
  const all = data.report.advice;
  if (!all.length) return null;
  const cards = all.map((one) =>
    h(
      "article",
      {},
      h("p", {}, h("b", { class: "best" }, `${one.choice}: `), one.text),
      one.evidence.length > 0 &&
        h(
          "ul",
          {},
          one.evidence.map((text) => h("li", {}, text)),
        ),
    ),
  );
  return section("advice", "Advice", null, h("div", { class: "advice" }, cards));
}

/** What `raddle view` serves besides. A page that was sent on alone has nothing beside it. */
function trace() {
  const perfetto = h("a", { href: "https://ui.perfetto.dev", target: "_blank", rel: "noreferrer" }, "ui.perfetto.dev");
  return ["The same for Perfetto: ", h("a", { href: "trace.perfetto", download: true }, "trace.perfetto"), ", which ", perfetto, " opens."];
}

function notes(data) {
  const all = [...data.notes];
  if (data.dropped > 0) all.push(`${plural(data.dropped, "event")} could not be recorded: there was no room.`);
  if (data.period > 0)
    all.push(
      `The program was looked at every ${duration(data.period)}; what is shorter may have been missed where nothing was recorded from within.`,
    );
  if (location.protocol === "http:") all.push(trace());
  return all.length
    ? section(
        "notes",
        "How it was seen",
        null,
        h(
          "ul",
          { class: "points" },
          all.map((text) => h("li", { style: { display: "block" } }, text)),
        ),
      )
    : null;
}
