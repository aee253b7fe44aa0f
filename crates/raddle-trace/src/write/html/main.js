// Puts the page together. `#finding=0`, `#from=1.2&until=3.4` (seconds), `#filter=…`, `#theme=dark` say where to begin: such an address can be passed on.

function start() {
  const asked = new URLSearchParams(location.hash.slice(1));
  theme.start(["light", "dark"].includes(asked.get("theme")) ? asked.get("theme") : null);
  const main = document.getElementById("main");
  const page = document.documentElement;
  let data;
  try {
    data = readData();
  } catch (error) {
    main.append(section("problem", "", null, h("p", { class: "verdict" }, `This report cannot be shown: ${error.message}`)));
    page.dataset.ready = "failed";
    return;
  }
  document.getElementById("program").textContent = data.program;
  const timeline = new Timeline(data);
  const parts = [
    summary(data),
    findings(data, (index) => timeline.show(index)),
    timeline.element,
    shares(data, (thread) => timeline.find(thread)),
    locks(data),
    speedUp(data),
    advice(data),
    notes(data),
  ].filter(Boolean);
  main.append(...parts, h("footer", {}, "written by raddle run; this page needs nothing from the net"));
  const contents = document.getElementById("contents");
  for (const part of parts.slice(1)) contents.append(h("a", { href: `#${part.id}` }, part.getAttribute("aria-label")));

  if (asked.has("filter")) {
    timeline.search.value = timeline.filter = asked.get("filter");
    timeline.layOut();
  }
  timeline.draw();
  if (asked.has("finding") && data.report.findings[asked.get("finding")]) timeline.show(Number(asked.get("finding")), true);
  const [from, until] = ["from", "until"].map((name) => Number(asked.get(name)) * 1e9);
  if (until > from) timeline.view.set(from, until);
  Object.assign(page.dataset, {
    processes: data.processes.length,
    threads: data.threads.length,
    spans: data.spans,
    passes: data.passes.all.length,
    findings: data.report.findings.length,
    ready: "yes",
  });
}

// For whoever tests the page: nothing should go wrong unnoticed.
const wentWrong = (what) => {
  document.documentElement.dataset.errors = `${document.documentElement.dataset.errors ?? ""}${what}\n`;
};
addEventListener("error", (event) => wentWrong(event.message));
addEventListener("unhandledrejection", (event) => wentWrong(event.reason));
addEventListener("securitypolicyviolation", (event) => wentWrong(`${event.violatedDirective} ${event.blockedURI}`));

start();
