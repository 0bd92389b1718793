// Charts of the page, from the data in it, as SVG that takes its colours from the style sheet.
"use strict";
const SPACE = "http://www.w3.org/2000/svg";
const SIZE = { width: 380, height: 270, left: 58, right: 12, top: 10, bottom: 40 };

function svg(name, attributes = {}, ...children) {
  const shape = document.createElementNS(SPACE, name);
  for (const [key, value] of Object.entries(attributes)) if (value !== null) shape.setAttribute(key, value);
  shape.append(...children);
  return shape;
}
const titled = (shape, text) => (shape.append(svg("title", {}, text)), shape);
const colour = (variant) => `var(--c${tti.variants.indexOf(variant) % 10})`;
const dash = (variant) => ["", "6 3", "2 3", "8 3 2 3"][Math.floor(tti.variants.indexOf(variant) / 10) % 4] || null;

/** A mark for a point: beyond ten variants colours come again, with another shape. */
function mark(variant, x, y, r, attributes = {}) {
  const kind = variant === null ? 0 : Math.floor(Math.max(0, tti.variants.indexOf(variant)) / 10) % 3, s = r * 0.9;
  if (kind === 1) return svg("rect", { x: x - s, y: y - s, width: 2 * s, height: 2 * s, ...attributes });
  if (kind === 2) return svg("path", { d: `M${x},${y - 1.25 * r}L${x + 1.15 * r},${y + 0.8 * r}L${x - 1.15 * r},${y + 0.8 * r}Z`, ...attributes });
  return svg("circle", { cx: x, cy: y, r, ...attributes });
}

/** Round numbers that divide an interval into about n. */
function ticks([low, high], n = 5) {
  const raw = (high - low) / n || 1, power = 10 ** Math.floor(Math.log10(raw));
  const step = [1, 2, 5, 10].map((m) => m * power).find((s) => raw <= s * 1.0001);
  const found = [];
  for (let i = Math.ceil(low / step - 1e-9); i * step <= high + 1e-9 * step; i++) found.push(Number((i * step).toPrecision(12)));
  return found;
}

/** An axis: position of a value in 0..1, its ticks. A logarithmic one puts 0 left of all others. */
function scale(values, { log = false, zero = false, whole = false } = {}) {
  let finite = values.filter((v) => v !== null && Number.isFinite(v));
  if (!finite.length) finite = [0, 1];
  if (log) {
    const positive = finite.filter((v) => v > 0).map(Math.log10), low = Math.min(...positive), high = Math.max(...positive);
    const none = finite.some((v) => v === 0), start = (none ? Math.floor(low) - 1 : low) - 0.15, end = high + 0.15;
    const at = (v) => ((v > 0 ? Math.log10(v) : start + 0.15) - start) / (end - start || 1);
    const marks = [];
    for (let p = Math.ceil(low - 0.15); p <= high + 0.15; p++) marks.push(10 ** p);
    if (marks.length < 2) for (const v of new Set(finite.filter((f) => f > 0))) if (!marks.includes(v)) marks.push(v);
    return { at, ticks: none ? [0, ...marks] : marks };
  }
  let low = Math.min(...finite, zero ? 0 : Infinity), high = Math.max(...finite, zero ? 0 : -Infinity);
  const room = (high - low || Math.abs(high) || 1) * 0.06;
  if (!(zero && low === 0)) low -= room;
  high += room;
  return { at: (v) => (v - low) / (high - low), ticks: ticks([low, high]).filter((v) => !whole || Number.isInteger(v)) };
}

function frame(chart, x, y, size = SIZE) {
  const { width, height, left, right, top, bottom } = size;
  const px = (v) => left + x.at(v) * (width - left - right), py = (v) => height - bottom - y.at(v) * (height - top - bottom);
  const root = svg("svg", { viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": `${chart.y} over ${chart.x}` });
  for (const tick of y.ticks) root.append(svg("line", { class: "grid", x1: left, x2: width - right, y1: py(tick), y2: py(tick) }),
    svg("text", { x: left - 6, y: py(tick) + 4, "text-anchor": "end" }, tickText(tick, y.ticks)));
  for (const tick of x.ticks) root.append(svg("line", { class: "grid", x1: px(tick), x2: px(tick), y1: top, y2: height - bottom }),
    svg("text", { x: px(tick), y: height - bottom + 15, "text-anchor": "middle" }, tickText(tick, x.ticks)));
  root.append(svg("text", { class: "label", x: (left + width - right) / 2, y: height - 6, "text-anchor": "middle" }, chart.x));
  return { root, px, py };
}

function tickText(value, all) {
  const tiny = all.some((other) => other !== 0 && Math.abs(other) < 1e-3) ? 0.1 : 1e-3; // of one axis, all in one way
  if (value !== 0 && (Math.abs(value) < tiny * 0.999 || Math.abs(value) >= 1e4)) {
    const [mantissa, power] = value.toExponential().split("e");
    return `${Number(Number(mantissa).toPrecision(2))}e${Number(power)}`;
  }
  return String(Number(value.toPrecision(6)));
}

/** The area between low and high of points `[x, mean, low, high]`. */
function band(points, px, py) {
  return `M${[...points.map((p) => `${px(p[0])},${py(p[3])}`), ...points.map((p) => `${px(p[0])},${py(p[2])}`).reverse()].join("L")}Z`;
}

/** Labels at heights, moved so that no two overlap. */
function apart(labels, room = 12) {
  const sorted = [...labels].sort((a, b) => a.at - b.at);
  sorted.forEach((label, i) => { if (i) label.at = Math.max(label.at, sorted[i - 1].at + room); });
  return sorted;
}

const kinds = {
  /** Seeds as small marks, means as large ones; those on the front are ringed, and the front is drawn as steps. */
  scatter(chart) {
    const all = chart.series.flatMap((s) => s.points);
    const [x, y] = [0, 1].map((axis) => scale(all.map((p) => p[axis])));
    if (chart.unitless) x.ticks = y.ticks = [];
    const { root, px, py } = frame(chart, x, y, chart.wide ? { ...SIZE, width: 760, height: 440, left: 12 } : SIZE);
    const front = chart.series.filter((s) => s.front).map((s) => s.mean).sort((a, b) => a[0] - b[0]);
    if (front.length > 1) {
      let path = `M${px(front[0][0])},${py(front[0][1])}`;
      for (const [x, y] of front.slice(1)) path += `H${px(x)}V${py(y)}`;
      root.append(svg("path", { class: "front", d: path }));
    }
    for (const s of chart.series) {
      const group = svg("g", { "data-variant": s.variant, fill: colour(s.variant), color: colour(s.variant) });
      for (const [x, y] of s.points) if (y !== null) group.append(mark(s.variant, px(x), py(y), s.mean ? 2.4 : 2, { opacity: 0.55 }));
      if (s.mean && s.mean[1] !== null) {
        group.append(titled(mark(s.variant, px(s.mean[0]), py(s.mean[1]), 5.5), `${s.variant}\n${chart.x} ${figure(s.mean[0])}\n${chart.y} ${figure(s.mean[1])}`));
        if (s.front) group.append(svg("circle", { class: "ring", cx: px(s.mean[0]), cy: py(s.mean[1]), r: 8.5 }));
      }
      root.append(group);
    }
    return root;
  },

  /** A line a variant (or method), with a band where low and high are given, and level rules. */
  lines(chart) {
    const rules = chart.rules || [], reference = chart.reference ? chart.reference.points : [];
    const all = [...chart.series.flatMap((s) => s.points), ...reference];
    const x = scale(all.map((p) => p[0]), { log: chart.log, whole: chart.whole }), y = scale([...all.flatMap((p) => p.slice(1)), ...rules.flatMap((r) => [r.at, r.low ?? r.at, r.high ?? r.at])], { zero: chart.zero });
    const { root, px, py } = frame(chart, x, y);
    const left = SIZE.left, right = SIZE.width - SIZE.right;
    for (const rule of rules) {
      if (rule.at === null) continue;
      if (rule.low !== undefined) root.append(svg("rect", { class: "level", x: left, width: right - left, y: py(rule.high), height: Math.max(0, py(rule.low) - py(rule.high)) }));
      root.append(titled(svg("line", { class: "rule", x1: left, x2: right, y1: py(rule.at), y2: py(rule.at) }), `${rule.name} ${figure(rule.at)}`));
    }
    apart(rules.filter((rule) => rule.at !== null).map((rule) => ({ name: rule.name, at: py(rule.at) - 4 }))).forEach(({ name, at }) =>
      root.append(svg("text", { class: "rule-name", x: right - 2, y: at, "text-anchor": "end" }, name)));
    if (reference.length) root.append(titled(svg("path", { class: "level", d: band(reference, px, py) }), chart.reference.name),
      titled(svg("path", { class: "rule", d: `M${reference.map((p) => `${px(p[0])},${py(p[1])}`).join("L")}` }), chart.reference.name),
      svg("text", { class: "rule-name", x: right - 2, y: py(reference.at(-1)[1]) - 5, "text-anchor": "end" }, chart.reference.name));
    for (const s of chart.series) {
      const there = s.points.filter((p) => p[1] !== null);
      if (!there.length) continue;
      const tone = s.colour === undefined ? colour(s.variant) : `var(--c${s.colour % 10})`;
      const group = svg("g", { "data-variant": s.variants ? null : s.variant, color: tone, fill: tone });
      const line = there.map((p) => `${px(p[0])},${py(p[1])}`).join("L");
      if (there.length && there[0].length > 2) {
        group.append(svg("path", { class: "band", d: band(there, px, py) }));
      }
      group.append(titled(svg("path", { class: "line", d: `M${line}`, "stroke-dasharray": s.colour === undefined ? dash(s.variant) : null }), s.variant));
      if (there.length <= 12) for (const p of there) group.append(titled(mark(s.variants ? null : s.variant, px(p[0]), py(p[1]), 3), `${s.variant}\n${chart.x} ${figure(p[0])}\n${chart.y} ${figure(p[1])}`));
      root.append(group);
    }
    return root;
  },

  /** A small square of values in 0..1, layer by layer, with their figures. */
  cells(chart) {
    const n = chart.values.length, cell = 26, left = 18, side = left + n * cell;
    const root = svg("svg", { viewBox: `0 0 ${side + 2} ${side}`, role: "img", "aria-label": chart.y, class: "cells" });
    chart.values.forEach((row, i) => {
      root.append(svg("text", { x: left - 6, y: (i + 0.5) * cell + 4, "text-anchor": "end" }, String(i)), svg("text", { x: left + (i + 0.5) * cell, y: side - 6, "text-anchor": "middle" }, String(i)));
      row.forEach((value, j) => {
        if (value === null) return;
        const box = svg("rect", { x: left + j * cell, y: i * cell, width: cell - 1, height: cell - 1, rx: 2 });
        box.style.fill = `color-mix(in srgb, var(--active) ${Math.round(Math.max(0, value) * 90)}%, var(--faint))`;
        root.append(titled(box, `layers ${i} and ${j}: ${value.toFixed(3)}`), svg("text", { class: "inside", x: left + (j + 0.5) * cell - 0.5, y: (i + 0.5) * cell + 3, "text-anchor": "middle" }, value.toFixed(2).replace(/^0/, "")));
      });
    });
    return root;
  },

  /** A square of values in -1..1. */
  matrix(chart) {
    const n = chart.labels.length, cell = 22, left = 210;
    const root = svg("svg", { viewBox: `0 0 ${left + n * cell + 4} ${n * cell + 30}`, role: "img", "aria-label": chart.y, class: "matrix" });
    root.style.maxWidth = `${(left + n * cell) * 1.1}px`;
    chart.labels.forEach((label, i) => {
      root.append(svg("text", { x: left - 6, y: i * cell + 15, "text-anchor": "end" }, `${label}  ${i + 1}`), svg("text", { x: left + i * cell + 10, y: n * cell + 14, "text-anchor": "middle" }, String(i + 1)));
      chart.values[i].forEach((value, j) => {
        if (value === null) return;
        const tone = value > 0 ? "var(--active)" : "var(--negative)";
        const box = svg("rect", { x: left + j * cell, y: i * cell, width: cell - 1, height: cell - 1, rx: 2 });
        box.style.fill = `color-mix(in srgb, ${tone} ${Math.round(Math.abs(value) * 100)}%, var(--faint))`;
        root.append(titled(box, `${label}\n${chart.labels[j]}\nρ = ${value.toFixed(2)}`));
      });
    });
    return root;
  },

  /** z-scores around a circle; the ring in the middle is the baseline. Beyond the edge they are cut, and said so. */
  radar(chart) {
    const n = chart.axes.length, centre = [190, 140], radius = 105, most = chart.most;
    const at = (i, value) => {
      const angle = (2 * Math.PI * i) / n - Math.PI / 2, r = (radius * (Math.max(-most, Math.min(most, value)) + most)) / (2 * most);
      return [centre[0] + r * Math.cos(angle), centre[1] + r * Math.sin(angle)];
    };
    const bottom = Math.max(...chart.axes.map((_, i) => at(i, most)[1])) + 30;
    const root = svg("svg", { viewBox: `-115 0 610 ${bottom}`, role: "img", "aria-label": chart.y });
    for (const level of [-most, 0, most]) root.append(svg("text", { class: "rule-name", x: at(0, level)[0] + 5, y: at(0, level)[1] + (level > 0 ? 12 : -3) }, String(level)));
    for (const level of [-most, 0, most]) root.append(svg("path", { class: level ? "grid" : "rule", d: `M${chart.axes.map((_, i) => at(i, level).join(",")).join("L")}Z` }));
    chart.axes.forEach((label, i) => {
      const [x, y] = at(i, most * 1), end = [centre[0] + (x - centre[0]) * 1.1, centre[1] + (y - centre[1]) * 1.1];
      root.append(svg("line", { class: "grid", x1: centre[0], y1: centre[1], x2: x, y2: y }),
        svg("text", { x: end[0], y: end[1] + 4, "text-anchor": Math.abs(end[0] - centre[0]) < 12 ? "middle" : end[0] > centre[0] ? "start" : "end" }, label));
    });
    for (const s of chart.series) {
      if (s.values.some((v) => v === null)) continue;
      root.append(titled(svg("path", { class: "line", "data-variant": s.variant, color: colour(s.variant), "stroke-dasharray": dash(s.variant), d: `M${s.values.map((v, i) => at(i, v).join(",")).join("L")}Z` }),
        `${s.variant}\n${chart.axes.map((label, i) => `${label}: ${s.values[i].toFixed(2)}`).join("\n")}`));
    }
    return root;
  },
};

// -- the page --------------------------------------------------------------------------------------------------------

function draw() {
  for (const place of document.querySelectorAll("[data-chart]")) {
    const chart = tti.charts[place.dataset.chart];
    place.append(el("figcaption", {}, chart.title || chart.y), kinds[chart.kind](chart));
    if (chart.names) place.append(el("div", { class: "legend" }, ...chart.series.map((s) => {
      const chip = el("span", {}, el("i"), s.variant);
      chip.firstChild.style.background = `var(--c${s.colour % 10})`;
      return chip;
    })));
  }
}

/** A click on a variant hides it everywhere, a pointer over it brings it forward. */
function legend() {
  const hidden = new Set();
  for (const chip of document.querySelectorAll("#variants button")) {
    const variant = chip.dataset.variant, marked = () => document.querySelectorAll(`[data-variant="${CSS.escape(variant)}"]`);
    chip.querySelector("i").replaceWith(svg("svg", { class: "chip", viewBox: "0 0 14 14", "aria-hidden": "true" }, mark(variant, 7, 7, 5.5, { fill: colour(variant) })));
    chip.addEventListener("click", () => {
      const now = !hidden.delete(variant) && hidden.add(variant);
      chip.setAttribute("aria-pressed", String(!now));
      for (const shape of marked()) if (shape !== chip) shape.classList.toggle("hidden", Boolean(now));
    });
    for (const [event, on] of [["pointerenter", true], ["pointerleave", false]]) chip.addEventListener(event, () => {
      document.body.classList.toggle("focused", on);
      for (const shape of marked()) shape.classList.toggle("focus", on);
    });
  }
}

/** A click on a heading sorts its table. */
function sortable() {
  for (const heading of document.querySelectorAll("table.sortable th")) heading.addEventListener("click", () => {
    const table = heading.closest("table"), column = heading.cellIndex, down = heading.getAttribute("aria-sort") === "ascending";
    for (const other of table.querySelectorAll("th")) other.removeAttribute("aria-sort");
    heading.setAttribute("aria-sort", down ? "descending" : "ascending");
    const value = (row) => (row.cells[column].dataset.value === undefined ? row.cells[column].textContent : Number(row.cells[column].dataset.value || NaN));
    const compare = (a, b) => (typeof a === "string" ? a.localeCompare(b) : Number.isNaN(a) - Number.isNaN(b) || a - b);
    const rows = [...table.tBodies[0].rows].sort((a, b) => (down ? -1 : 1) * compare(value(a), value(b)));
    table.tBodies[0].append(...rows);
  });
}

draw();
legend();
sortable();
