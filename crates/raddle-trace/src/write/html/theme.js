// Light or dark: as the system has it, until the switch says otherwise.

const theme = {
  watchers: [],
  colours: {},

  start(asked) {
    const system = matchMedia("(prefers-color-scheme: dark)");
    this.chosen = asked ?? null;
    this.set(asked ?? (system.matches ? "dark" : "light"));
    system.addEventListener("change", () => this.chosen || this.set(system.matches ? "dark" : "light"));
    document.getElementById("theme").addEventListener("click", () => this.set((this.chosen = this.name === "dark" ? "light" : "dark")));
    // Paper is light.
    let before = null;
    addEventListener("beforeprint", () => {
      before = this.name;
      this.set("light");
    });
    addEventListener("afterprint", () => before && this.set(before));
  },

  set(name) {
    this.name = name;
    document.documentElement.dataset.theme = name;
    const button = document.getElementById("theme");
    button.textContent = name === "dark" ? "☀" : "☾";
    button.setAttribute("aria-label", name === "dark" ? "Light theme" : "Dark theme");
    const style = getComputedStyle(document.documentElement);
    this.colours = new Proxy({}, { get: (known, key) => (known[key] ??= style.getPropertyValue(`--${key}`).trim()) });
    this.watchers.forEach((watcher) => watcher());
  },
};
