// Draws the charts of the page. No library, nothing fetched.
"use strict";
addEventListener("error", (event) => {
  // A test reads it; so may whoever is asked what is wrong with a page.
  const root = document.documentElement;
  root.dataset.errors = `${root.dataset.errors || ""}${event.message}; `;
});
addEventListener("DOMContentLoaded", () => {
  document.querySelectorAll("figure[data-chart]").forEach((figure) => new Chart(figure));
});

const MOST_IN_TIP = 12;
const MARKED = 40; // points of a curve that are marked each
const MARGIN = { left: 56, right: 14, top: 8, bottom: 32 };

function node(name, attributes = {}, ...children) {
  const drawn = ["svg", "g", "path", "line", "rect", "circle", "text", "clipPath"];
  const made = drawn.includes(name)
    ? document.createElementNS("http://www.w3.org/2000/svg", name)
    : document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  made.append(...children);
  return made;
}

const FORMATS = {
  loss: (v) => v.toFixed(3),
  weight: (v) =>
    v === 0 || v >= 0.01 ? v.toFixed(3) : v >= 1e-3 ? v.toFixed(4) : v.toExponential(0),
  signed: (v) => (v > 0 ? "+" : "") + v.toPrecision(3),
  count: (v) => {
    const units = ["", "k", "M", "G", "T"];
    let i = 0;
    for (; Math.abs(v) >= 999.5 && i < 4; i++) v /= 1000;
    return `${+v.toPrecision(3)}${units[i]}`;
  },
};
const AXES = {
  step: (v) => Math.round(v).toLocaleString("en"),
  FLOPs: (v) => (v === 0 ? "0" : v.toExponential(2).replace("e+", "e")),
  hours: (v) => `${+v.toPrecision(3)}`,
};

// Round numbers from low to high, about so many.
function ticks(low, high, count) {
  const rough = (high - low) / count;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 5, 10].map((m) => m * power).find((s) => s >= rough) || 10 * power;
  const found = [];
  for (let i = Math.ceil(low / step - 1e-9); i * step <= high + step * 1e-9; i++)
    found.push(+(i * step).toPrecision(12));
  return found;
}

function powers(low, high) {
  const first = Math.ceil(Math.log10(low) - 1e-9);
  const last = Math.floor(Math.log10(high) + 1e-9);
  const every = Math.max(1, Math.ceil((last - first + 1) / 6));
  const found = [];
  for (let i = first; i <= last; i += every) found.push(10 ** i);
  return found;
}

// How many of ascending xs are <= x.
function upTo(xs, x) {
  let low = 0, high = xs.length;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (xs[middle] <= x) low = middle + 1;
    else high = middle;
  }
  return low;
}

class Chart {
  // spec: {kind: "hold" | "line", axes: [names], format, zero, log, series: [{name,
  // color, style, x: [[...] by axis], y: [...], e?: [...]}]}; null is no value.
  constructor(figure) {
    this.figure = figure;
    this.spec = JSON.parse(figure.querySelector("script").textContent);
    this.format = FORMATS[this.spec.format];
    this.axis = 0;
    this.logarithmic = false;
    this.range = null;
    this.hidden = new Set(this.spec.series.filter((s) => s.off));
    this.tools = node("div", { class: "tools" });
    this.svg = node("svg", {
      role: "img", tabindex: "0", "aria-label": `${figure.dataset.chart}, a chart: arrow `
        + "keys move along it, plus and minus zoom, Escape shows all",
    });
    this.legend = node("div", { class: "legend" });
    this.tip = node("div", { class: "tip", hidden: "" });
    figure.append(this.tools, this.svg, this.legend, this.tip);
    this.makeTools();
    this.makeLegend();
    this.listen();
    this.render();
    new ResizeObserver(() => {
      if (figure.clientWidth !== this.width) this.render();
    }).observe(figure);
  }

  button(text, press) {
    const made = node("button", { type: "button" }, text);
    made.addEventListener("click", () => { press(made); this.render(); this.leave(); });
    this.tools.append(made);
    return made;
  }

  makeTools() {
    const axes = this.spec.axes.length > 1 ? this.spec.axes : [];
    const buttons = axes.map((name, i) => this.button(name, () => {
      this.axis = i;
      this.range = null;
      buttons.forEach((b, j) => b.setAttribute("aria-pressed", String(i === j)));
    }));
    buttons.forEach((b, j) => b.setAttribute("aria-pressed", String(j === 0)));
    if (this.spec.log) this.button("log", (b) => {
      this.logarithmic = !this.logarithmic;
      b.setAttribute("aria-pressed", String(this.logarithmic));
    }).setAttribute("aria-pressed", "false");
    this.button("+", () => this.zoom(0.5)).setAttribute("aria-label", "zoom in");
    this.button("−", () => this.zoom(2)).setAttribute("aria-label", "zoom out");
    this.reset = this.button("all", () => { this.range = null; });
  }

  makeLegend() {
    const named = this.spec.series.filter((s) => s.style !== "thin");
    const thin = this.spec.series.length - named.length;
    for (const series of named) {
      const last = series.y.filter((v) => v !== null).at(-1);
      const swatch = node("span", { class: "swatch", style: `border-color:${paint(series)};`
        + `border-top-style:${series.style === "dash" ? "dashed" : "solid"}` });
      const on = String(!this.hidden.has(series));
      const entry = node("button", { type: "button", "aria-pressed": on }, swatch,
        node("span", {}, series.name),
        node("small", {}, last === undefined ? "" : this.format(last)));
      entry.addEventListener("click", () => {
        const hide = !this.hidden.delete(series);
        if (hide) this.hidden.add(series);
        entry.setAttribute("aria-pressed", String(!hide));
        this.render();
      });
      for (const [kind, on] of [["pointerenter", true], ["pointerleave", false]])
        entry.addEventListener(kind, () => this.emphasise(on ? series : null));
      this.legend.append(entry);
    }
    if (thin) this.legend.append(node("button", { type: "button", disabled: "" },
      node("span", { class: "swatch", style: "border-color:var(--rest)" }),
      `${thin} others`));
  }

  listen() {
    let from = null;
    const place = (event) => {
      const box = this.svg.getBoundingClientRect();
      return (event.clientX - box.left) * this.width / box.width;
    };
    this.svg.addEventListener("pointermove", (event) => {
      if (from !== null) this.mark(from, place(event));
      this.hover(place(event));
    });
    this.svg.addEventListener("pointerleave", () => this.leave());
    this.svg.addEventListener("pointerdown", (event) => {
      if (event.pointerType === "mouse" && event.button === 0) from = place(event);
      else this.hover(place(event));
    });
    addEventListener("pointerup", (event) => {
      if (from === null) return;
      const ends = [from, place(event)].sort((a, b) => a - b).map((x) => this.unscale(x));
      const far = Math.abs(place(event) - from) > 6;
      from = null;
      if (far) this.range = ends;
      this.render();
    });
    this.svg.addEventListener("dblclick", () => { this.range = null; this.render(); });
    this.svg.addEventListener("keydown", (event) => {
      const act = {
        ArrowLeft: () => this.move(-1), ArrowRight: () => this.move(1),
        "+": () => this.zoom(0.5), "-": () => this.zoom(2),
        Escape: () => { this.range = null; this.render(); this.leave(); },
      }[event.key];
      if (!act) return;
      event.preventDefault();
      act();
      if ("+-".includes(event.key)) this.render();
    });
  }

  xs(series) { return series.x[this.axis]; }

  shown() { return this.spec.series.filter((s) => !this.hidden.has(s) && s.y.length); }

  whole() {
    const ends = this.spec.series.filter((s) => s.y.length)
      .flatMap((s) => [this.xs(s)[0], this.xs(s).at(-1)]);
    const low = Math.min(0, ...ends), high = Math.max(...ends, low);
    const room = this.spec.kind === "hold" ? 0.02 * (high - low) : 0; // to see the last
    return [low, high > low ? high + room : low + 1];
  }

  zoom(factor) {
    const [low, high] = this.whole();
    const [from, to] = this.range || [low, high];
    const middle = this.at !== undefined && this.at >= from && this.at <= to
      ? this.at : (from + to) / 2;
    const ends = [middle - (middle - from) * factor, middle + (to - middle) * factor];
    this.range = ends[1] - ends[0] >= high - low ? null
      : [Math.max(low, ends[0]), Math.min(high, ends[1])];
  }

  scale(x) {
    const [low, high] = this.view;
    return MARGIN.left + (x - low) / (high - low) * (this.width - MARGIN.left - MARGIN.right);
  }

  unscale(place) {
    const [low, high] = this.view;
    const share = (place - MARGIN.left) / (this.width - MARGIN.left - MARGIN.right);
    return low + Math.min(1, Math.max(0, share)) * (high - low);
  }

  // The lowest and highest value in view, the value that is held into it included.
  extent() {
    let low = Infinity, high = -Infinity;
    for (const series of this.shown()) {
      const xs = this.xs(series);
      let first = upTo(xs, this.view[0]);
      if (first && (this.spec.kind === "hold" || xs[first - 1] === this.view[0])) first--;
      const last = upTo(xs, this.view[1]);
      for (let i = first; i < last; i++) {
        const y = series.y[i];
        if (y === null || (this.logarithmic && y <= 0)) continue;
        low = Math.min(low, y);
        high = Math.max(high, y);
      }
    }
    if (low > high) return this.logarithmic ? [0.1, 1] : [0, 1];
    if (this.logarithmic) return low < high ? [Math.max(low, high * 1e-12), high] : [low / 2, high * 2];
    if (this.spec.zero) low = Math.min(low, 0);
    const room = (high - low || Math.abs(high) || 1) * 0.05;
    return [this.spec.zero && low === 0 ? 0 : low - room, high + room];
  }

  render() {
    this.width = this.figure.clientWidth;
    if (this.width < 50) return; // not shown now
    this.height = this.width < 520 ? 230 : 290;
    this.view = this.range || this.whole();
    this.reset.disabled = !this.range;
    const [low, high] = this.extent();
    const bottom = this.height - MARGIN.bottom;
    const of = this.logarithmic ? (v) => Math.log(Math.max(v, low)) : (v) => v;
    this.y = (v) => bottom - (of(v) - of(low)) / (of(high) - of(low)) * (bottom - MARGIN.top);
    this.svg.setAttribute("viewBox", `0 0 ${this.width} ${this.height}`);
    this.svg.replaceChildren();
    this.drawAxes(low, high, bottom);
    const id = `clip-${Chart.count = (Chart.count || 0) + 1}`;
    const inside = node("g", { "clip-path": `url(#${id})` });
    this.svg.append(node("clipPath", { id }, node("rect", {
      x: MARGIN.left, y: 0, width: Math.max(0, this.width - MARGIN.left - MARGIN.right + 4),
      height: bottom + 2 })), inside);
    this.drawn = new Map();
    for (const series of [...this.shown()].reverse()) {
      const group = node("g", {}, ...this.curve(series));
      this.drawn.set(series, group);
      inside.append(group);
    }
    this.line = node("line", { class: "cursor", y1: MARGIN.top, y2: bottom, x1: -9, x2: -9 });
    this.selection = node("rect", { class: "chosen", y: MARGIN.top, height: bottom - MARGIN.top,
      width: 0, x: 0 });
    this.svg.append(this.line, this.selection);
    if (this.at >= this.view[0] && this.at <= this.view[1]) this.show(this.at);
    else this.leave();
  }

  drawAxes(low, high, bottom) {
    const marks = this.logarithmic ? powers(low, high) : ticks(low, high, 5);
    for (const v of marks) {
      const y = this.y(v);
      this.svg.append(
        node("line", { class: "grid", x1: MARGIN.left, x2: this.width - MARGIN.right, y1: y, y2: y }),
        node("text", { x: MARGIN.left - 6, y: y + 4, "text-anchor": "end" },
          this.logarithmic ? v.toExponential(0).replace("e+", "e")
            : this.spec.format === "count" ? this.format(v) : `${v}`));
    }
    const name = this.spec.axes[this.axis];
    for (const v of ticks(...this.view, this.width < 520 ? 4 : 7)) {
      if (name === "step" && v % 1) continue;
      this.svg.append(node("text", { x: this.scale(v), y: bottom + 15, "text-anchor": "middle" },
        AXES[name](v)));
    }
    this.svg.append(node("text", { x: this.width - MARGIN.right, y: bottom + 28,
      "text-anchor": "end" }, name));
  }

  curve(series) {
    const xs = this.xs(series), points = [], hold = this.spec.kind === "hold";
    let path = "", pen = false;
    xs.forEach((x, i) => {
      const v = series.y[i];
      if (v === null || (this.logarithmic && v <= 0)) { pen = false; return; }
      const [px, py] = [this.scale(x).toFixed(1), this.y(v).toFixed(1)];
      path += pen ? (hold ? `H${px}V${py}` : `L${px} ${py}`) : `M${px} ${py}`;
      pen = true;
      points.push([px, py]);
    });
    if (hold && pen) path += `H${this.scale(this.whole()[1]).toFixed(1)}`;
    const color = paint(series);
    const made = [];
    if (series.e && !this.logarithmic) made.push(node("path", {
      class: "band", fill: color, d: this.band(series) }));
    made.push(node("path", { class: `curve ${series.style || ""}`, stroke: color, d: path,
      ...(series.style === "dash" ? { "stroke-dasharray": "6 3" } : {}) }));
    if (!hold && points.length <= MARKED && series.style !== "thin")
      made.push(...points.map(([cx, cy]) => node("circle", { cx, cy, r: 2.6, fill: color })));
    return made;
  }

  band(series) {
    const there = this.xs(series).map((x, i) => [x, series.y[i], series.e[i]])
      .filter(([, v, e]) => v !== null && e !== null);
    const edge = (sign) => there.map(([x, v, e]) =>
      `${this.scale(x).toFixed(1)} ${this.y(v + sign * e).toFixed(1)}`);
    return there.length ? `M${[...edge(1), ...edge(-1).reverse()].join("L")}Z` : "";
  }

  emphasise(series) {
    this.drawn.forEach((group, of) => group.classList.toggle("faded", series !== null && of !== series));
  }

  // Index of the record of a series that speaks for x, or -1.
  index(series, x) {
    const xs = this.xs(series), after = upTo(xs, x);
    if (this.spec.kind === "hold" || after === 0 || after === xs.length)
      return Math.max(after - 1, this.spec.kind === "hold" ? -1 : 0);
    return x - xs[after - 1] <= xs[after] - x ? after - 1 : after;
  }

  // Where there is a record, nearest to x.
  snapped(x) {
    let best = x, distance = Infinity;
    for (const series of this.shown()) {
      const xs = this.xs(series), after = upTo(xs, x);
      for (const i of [after - 1, after])
        if (i >= 0 && i < xs.length && Math.abs(xs[i] - x) < distance) {
          best = xs[i];
          distance = Math.abs(xs[i] - x);
        }
    }
    return best;
  }

  hover(place) { this.show(this.snapped(this.unscale(place))); }

  move(by) {
    const xs = [...new Set(this.shown().flatMap((s) => this.xs(s)))].sort((a, b) => a - b)
      .filter((x) => x >= this.view[0] && x <= this.view[1]);
    const now = this.at === undefined ? (by > 0 ? -1 : xs.length) : upTo(xs, this.at) - 1;
    if (xs.length) this.show(xs[Math.min(xs.length - 1, Math.max(0, now + by))]);
  }

  show(x) {
    this.at = x;
    const place = this.scale(x), name = this.spec.axes[this.axis];
    this.line.setAttribute("x1", place);
    this.line.setAttribute("x2", place);
    const rows = [];
    for (const series of this.shown()) {
      const i = this.index(series, x);
      if (i < 0 || series.y[i] === null) continue;
      const there = this.xs(series)[i];
      const away = this.spec.kind !== "hold" && there !== x ? ` at ${AXES[name](there)}` : "";
      const error = series.e && series.e[i] !== null ? ` ± ${series.e[i].toPrecision(2)}` : "";
      rows.push([series, series.y[i], this.format(series.y[i]) + error + away]);
    }
    rows.sort((a, b) => b[1] - a[1]);
    const body = rows.slice(0, MOST_IN_TIP).map(([series, , text]) => node("tr", {},
      node("td", {}, node("span", { class: "swatch", style: `display:inline-block;border-color:${paint(series)}` })),
      node("th", {}, series.name), node("td", {}, text)));
    this.tip.replaceChildren(node("div", {}, `${name} ${AXES[name](x)}`), node("table", {}, ...body));
    if (rows.length > MOST_IN_TIP) this.tip.append(`and ${rows.length - MOST_IN_TIP} more`);
    this.tip.hidden = false;
    const box = this.svg.getBoundingClientRect(), share = box.width / this.width;
    const right = place > this.width / 2;
    this.tip.style.left = right ? "auto" : `${place * share + 12}px`;
    this.tip.style.right = right ? `${(this.width - place) * share + 12}px` : "auto";
    this.tip.style.top = `${box.top - this.figure.getBoundingClientRect().top + 4}px`;
  }

  mark(from, to) {
    this.selection.setAttribute("x", Math.max(MARGIN.left, Math.min(from, to)));
    this.selection.setAttribute("width", Math.abs(to - from));
  }

  leave() {
    this.at = undefined;
    this.tip.hidden = true;
    this.line.setAttribute("x1", -9);
    this.line.setAttribute("x2", -9);
  }
}

function paint(series) {
  return series.color < 0 ? "var(--rest)" : `var(--c${series.color})`;
}
