// Which part of the time is looked at, and how time becomes pixels.

/** Less than so many nanoseconds are not spread over the whole width. */
const CLOSEST = 500;

class View {
  constructor(length, changed) {
    this.length = Math.max(length, CLOSEST);
    this.changed = changed;
    this.width = 1;
    [this.from, this.until] = [0, this.length];
  }

  get span() {
    return this.until - this.from;
  }

  x(time) {
    return ((time - this.from) / this.span) * this.width;
  }

  time(x) {
    return this.from + (x / this.width) * this.span;
  }

  /** Looks at this part, as far as there is such a part. */
  set(from, until) {
    const span = Math.min(Math.max(until - from, CLOSEST), this.length);
    this.from = Math.min(Math.max((from + until - span) / 2, 0), this.length - span);
    this.until = this.from + span;
    this.changed();
  }

  /** Goes there within some frames, so that the eye can follow. */
  glide(from, until) {
    const [start, begin, end] = [performance.now(), this.from, this.until];
    const still = matchMedia("(prefers-reduced-motion: reduce)").matches || document.visibilityState !== "visible";
    const step = (now) => {
      if (this.gliding !== start) return;
      const share = still ? 1 : Math.min(1, (now - start) / 180);
      const eased = 1 - (1 - share) ** 3;
      this.set(begin + (from - begin) * eased, end + (until - end) * eased);
      if (share < 1) requestAnimationFrame(step);
    };
    this.gliding = start;
    step(start);
  }

  /** Nearer (below 1) or farther, with this moment where it is. */
  zoom(factor, time = (this.from + this.until) / 2) {
    this.gliding = null;
    this.set(time - (time - this.from) * factor, time + (this.until - time) * factor);
  }

  pan(share) {
    this.gliding = null;
    const by = Math.min(Math.max(share * this.span, -this.from), this.length - this.until);
    this.set(this.from + by, this.until + by);
  }

  fit() {
    this.glide(0, this.length);
  }

  /** The moments to write at a ruler, and how far they are from each other. */
  ticks() {
    const least = (this.span / this.width) * 95;
    const power = 10 ** Math.floor(Math.log10(least));
    const step = [1, 2, 5, 10].map((times) => times * power).find((candidate) => candidate >= least);
    const times = [];
    for (let at = Math.ceil(this.from / step) * step; at <= this.until; at += step) times.push(at);
    return { step, times };
  }
}
