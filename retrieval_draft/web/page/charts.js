// Charts as SVG, drawn to the width that they have; each with its numbers as a table.

const SVG = "http://www.w3.org/2000/svg";
const HEIGHT = 190, LEFT = 46, RIGHT = 10, TOP = 10, BOTTOM = 24;

export function html(tag, attributes = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  made.append(...children);
  return made;
}

function svg(tag, attributes = {}, ...children) {
  const made = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  made.append(...children);
  return made;
}

// Whole ticks that cover [low, high]: 1, 2 or 5 times a power of ten.
export function scale(low, high, count = 4) {
  const span = Math.max(high - low, 1e-9);
  const power = 10 ** Math.floor(Math.log10(span / count));
  const step = [1, 2, 5, 10].map((m) => m * power).find((s) => span / s <= count + 1);
  const first = Math.floor(low / step + 1e-9), last = Math.ceil(high / step - 1e-9);
  const ticks = [];
  for (let i = first; i <= last; i++) ticks.push(i * step);
  return { low: first * step, high: last * step, ticks };
}

export const format = {
  percent: (v) => (v === null || v === undefined ? "–" : `${(100 * v).toFixed(v > 0 && v < 0.0995 ? 1 : 0)} %`),
  number: (v) => (v === null || v === undefined ? "–" : Math.abs(v) >= 1000 ? Math.round(v).toLocaleString("en") : `${+v.toFixed(2)}`),
  whole: (v) => Math.round(v).toLocaleString("en"),
  bytes: (v) => {
    const units = ["B", "KiB", "MiB", "GiB", "TiB"];
    let at = 0;
    while (v >= 1024 && at < units.length - 1) { v /= 1024; at++; }
    return `${at && v < 10 ? v.toFixed(1) : Math.round(v)} ${units[at]}`;
  },
  us: (v) => (v === null || v === undefined ? "–" : v < 1000 ? `${Math.round(v)} µs` : `${(v / 1000).toFixed(v < 10000 ? 2 : 1)} ms`),
  clock: (seconds, exact) => new Date(1000 * seconds).toLocaleTimeString("en-GB", { hour: "2-digit", minute: "2-digit", ...(exact ? { second: "2-digit" } : {}) }),
};

function frame(width, height, y, show) {
  const at = (value) => height - BOTTOM - ((value - y.low) / (y.high - y.low || 1)) * (height - BOTTOM - TOP);
  const parts = y.ticks.map((tick) => [
    svg("line", { class: "grid", x1: LEFT, x2: width - RIGHT, y1: at(tick), y2: at(tick) }),
    svg("text", { x: LEFT - 6, y: at(tick) + 4, "text-anchor": "end" }, show(tick)),
  ]).flat();
  parts.push(svg("line", { class: "axis", x1: LEFT, x2: width - RIGHT, y1: height - BOTTOM, y2: height - BOTTOM }));
  return { at, parts };
}

// series: [{ name, colour, dashed, points: [[x seconds, y or null], ...] }]
export function timeChart(width, { title, series, show, from, to, least = 0, low = 0, height = HEIGHT }) {
  const values = series.flatMap((one) => one.points.map((p) => p[1])).filter((v) => v !== null && v !== undefined);
  const y = scale(low, Math.max(least, ...values), height < 100 ? 2 : 4);
  const { at, parts } = frame(width, height, y, show);
  const x = (t) => LEFT + ((t - from) / (to - from || 1)) * (width - LEFT - RIGHT);
  const marks = Math.max(2, Math.min(5, Math.floor(width / 110)));
  for (let i = 0; i < marks; i++) {
    const t = from + (i / (marks - 1)) * (to - from);
    const anchor = i === 0 ? "start" : i === marks - 1 ? "end" : "middle";
    parts.push(svg("text", { x: x(t), y: height - 6, "text-anchor": anchor }, format.clock(t, to - from < 300)));
  }
  for (const one of series) {
    // A pause is no line: nothing was counted then.
    let run = [], last = -Infinity;
    const runs = [];
    for (const [t, v] of one.points) {
      if (v === null || v === undefined) continue;
      if (t - last > 60 && run.length) { runs.push(run); run = []; }
      run.push([x(t), at(v)]);
      last = t;
    }
    if (run.length) runs.push(run);
    for (const points of runs) {
      const kind = `mark c${one.colour}${one.dashed ? " dashed" : ""}`;
      if (points.length === 1) parts.push(svg("circle", { class: `dot c${one.colour}`, cx: points[0][0], cy: points[0][1], r: 3 }));
      else parts.push(svg("polyline", { class: kind, points: points.map((p) => p.map((v) => v.toFixed(1)).join()).join(" ") }));
    }
  }
  return svg("svg", { viewBox: `0 0 ${width} ${height}`, height, role: "img", "aria-label": title }, ...parts);
}

// bars: [{ name, value, said, colour, whole }]; `whole` is a pale bar behind.
export function barChart(width, { title, bars, show, least = 0, axis }) {
  const y = scale(0, Math.max(least, ...bars.map((b) => Math.max(b.value ?? 0, b.whole ?? 0))));
  const { at, parts } = frame(width, HEIGHT, y, show);
  const each = (width - LEFT - RIGHT) / bars.length;
  const longest = Math.max(...bars.map((b) => b.name.length));
  const every = Math.ceil((longest * 6.6 + 4) / each);
  const turned = every > 1 && bars.some((b) => Number.isNaN(Number(b.name)));
  bars.forEach((bar, i) => {
    const middle = LEFT + each * (i + 0.5), wide = Math.min(each * 0.72, 44);
    const drawn = (value, kind) => svg("rect", { class: kind, x: middle - wide / 2, width: wide,
      y: at(value), height: Math.max(0, HEIGHT - BOTTOM - at(value)) }, svg("title", {}, `${bar.name}: ${bar.said}`));
    if (bar.whole !== undefined) parts.push(drawn(bar.whole, `bar under c${bar.colour}`));
    if (bar.value !== null) parts.push(drawn(bar.value, `bar c${bar.colour}`));
    const lower = turned && i % 2 ? 11 : 0;
    if (turned || i % every === 0) {
      parts.push(svg("text", { x: middle, y: HEIGHT - 10 + lower, "text-anchor": "middle" }, bar.name));
    }
  });
  const height = HEIGHT + (turned ? 10 : 0) + (axis ? 14 : 0);
  if (axis) parts.push(svg("text", { x: (LEFT + width - RIGHT) / 2, y: height - 1, "text-anchor": "middle" }, axis));
  return svg("svg", { viewBox: `0 0 ${width} ${height}`, height, role: "img", "aria-label": title }, ...parts);
}

// points: [{ x, y, weight, said }], all in 0..1; on the diagonal what was promised is kept.
export function reliabilityChart(width, { title, points }) {
  const y = scale(0, 1), height = HEIGHT + 20;
  const { at, parts } = frame(width, height, y, format.percent);
  const x = (v) => LEFT + v * (width - LEFT - RIGHT);
  parts.push(svg("line", { class: "ideal", x1: x(0), y1: at(0), x2: x(1), y2: at(1) }));
  for (const tick of y.ticks) {
    const anchor = tick === 0 ? "start" : tick === 1 ? "end" : "middle";
    parts.push(svg("text", { x: x(tick), y: height - 6, "text-anchor": anchor }, format.percent(tick)));
  }
  parts.push(svg("polyline", { class: "mark c0 thin", points: points.map((p) => `${x(p.x).toFixed(1)},${at(p.y).toFixed(1)}`).join(" ") }));
  for (const p of points) {
    parts.push(svg("circle", { class: "dot c0", cx: x(p.x), cy: at(p.y), r: 3 + 8 * Math.sqrt(p.weight) },
      svg("title", {}, p.said)));
  }
  return svg("svg", { viewBox: `0 0 ${width} ${height}`, height, role: "img", "aria-label": title }, ...parts);
}

export function keys(entries) {
  return html("ul", { class: "keys" }, ...entries.map((one) => {
    const kind = one.solid ? `bar c${one.colour}` : `mark c${one.colour}${one.dashed ? " dashed" : ""}`;
    const mark = one.solid ? svg("rect", { class: kind, x: 4, y: 0, width: 14, height: 10, rx: 2 })
      : svg("line", { class: kind, x1: 0, x2: 22, y1: 5, y2: 5 });
    return html("li", {}, svg("svg", { viewBox: "0 0 22 10", "aria-hidden": "true" }, mark), one.text ?? one.name);
  }));
}

export function table(columns, rows, label) {
  const head = html("thead", {}, html("tr", {}, ...columns.map((c) => html("th", { scope: "col" }, c))));
  const body = html("tbody", {}, ...rows.map((row) => html("tr", {}, ...row.map((cell) => html("td", {}, cell)))));
  return html("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": label }, html("table", {}, head, body));
}
