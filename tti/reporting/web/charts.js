// Charts of the page, drawn as SVG from the data in the page, with colours from the style sheet.
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
const MARKERS = ["circle", "square", "diamond", "up", "down", "cross", "plus"];
const tone = (hue) => (hue.colour === null ? "var(--ink)" : `var(--c${hue.colour})`);

/** A variant has its method's colour, paler for weaker strengths; its strength also determines the dashes of its line. */
function colour(variant) {
  const hue = tti.variants[variant] || { colour: null, rank: 0, of: 1 };
  return `color-mix(in srgb, ${tone(hue)} ${Math.round(45 + (55 * (hue.rank + 1)) / hue.of)}%, var(--panel))`;
}
const dash = (variant) => ["", "6 3", "2 3", "8 3 2 3"][(tti.variants[variant]?.rank || 0) % 4] || null;

/** A mark for a point: one shape per method, so that methods differ by more than colour. */
function shape(hue, x, y, r, attributes = {}) {
  const kind = hue.colour === null ? "star" : MARKERS[(hue.colour + (hue.turn || 0)) % MARKERS.length], s = r * 0.88, t = r * 0.4;
  const path = { square: `M${-s},${-s}H${s}V${s}H${-s}Z`, diamond: `M0,${-1.25 * r}L${1.1 * r},0L0,${1.25 * r}L${-1.1 * r},0Z`,
    up: `M0,${-1.2 * r}L${1.1 * r},${0.8 * r}L${-1.1 * r},${0.8 * r}Z`, down: `M0,${1.2 * r}L${1.1 * r},${-0.8 * r}L${-1.1 * r},${-0.8 * r}Z`,
    plus: `M${-t},${-r}H${t}V${-t}H${r}V${t}H${t}V${r}H${-t}V${t}H${-r}V${-t}H${-t}Z`, cross: `M0,${-t}L${t},${-r}L${r},${-t}L${t},0L${r},${t}L${t},${r}L0,${t}L${-t},${r}L${-r},${t}L${-t},0L${-r},${-t}L${-t},${-r}Z`,
    star: `M0,${-1.3 * r}L${t},${-t}L${1.3 * r},0L${t},${t}L0,${1.3 * r}L${-t},${t}L${-1.3 * r},0L${-t},${-t}Z` }[kind];
  return path ? svg("path", { d: path, transform: `translate(${x} ${y})`, ...attributes }) : svg("circle", { cx: x, cy: y, r, ...attributes });
}
const mark = (variant, x, y, r, attributes = {}) => shape(tti.variants[variant] || { colour: 0 }, x, y, r, attributes);

/** Round numbers that divide an interval into about n. */
function ticks([low, high], n = 5) {
  const raw = (high - low) / n || 1, power = 10 ** Math.floor(Math.log10(raw));
  const step = [1, 2, 5, 10].map((m) => m * power).find((s) => raw <= s * 1.0001);
  const found = [];
  for (let i = Math.ceil(low / step - 1e-9); i * step <= high + 1e-9 * step; i++) found.push(Number((i * step).toPrecision(12)));
  return found;
}

/** An axis: the position of a value in 0..1, and ticks. A logarithmic axis places 0 left of all other values. */
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
  const tiny = all.some((other) => other !== 0 && Math.abs(other) < 1e-3) ? 0.1 : 1e-3; // the same format for all ticks of an axis
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

/** Labels at given heights, moved so that no two overlap. */
function apart(labels, room = 12) {
  const sorted = [...labels].sort((a, b) => a.at - b.at);
  sorted.forEach((label, i) => { if (i) label.at = Math.max(label.at, sorted[i - 1].at + room); });
  return sorted;
}

const overlap = (a, b) => a.x < b.x + b.w && b.x < a.x + a.w && a.y < b.y + b.h && b.y < a.y + a.h;

/** Free space for a label next to a point; null if there is none. */
function free(x, y, w, taken, inside) {
  const h = 11;
  for (const r of [11, 16, 24, 34, 48]) for (let i = 0; i < 16; i++) {
    const angle = (2 * Math.PI * i) / 16, box = { x: x + (r + w / 2 - 4) * Math.cos(angle) - w / 2, y: y + r * Math.sin(angle) - h / 2, w, h, far: r > 16 };
    if (box.x >= inside.x && box.y >= inside.y && box.x + w <= inside.x + inside.w && box.y + h <= inside.y + inside.h && !taken.some((other) => overlap(box, other))) return box;
  }
  return null;
}

/** Named horizontal lines, with a band if low and high are given. */
function ruled(root, rules, py, left, right) {
  const there = rules.filter((rule) => rule.at !== null);
  for (const rule of there) {
    if (rule.low !== undefined) root.append(svg("rect", { class: "level", x: left, width: right - left, y: py(rule.high), height: Math.max(0, py(rule.low) - py(rule.high)) }));
    root.append(titled(svg("line", { class: "rule", x1: left, x2: right, y1: py(rule.at), y2: py(rule.at) }), `${rule.name} ${figure(rule.at)}`));
  }
  apart(there.map((rule) => ({ name: rule.name, at: py(rule.at) - 4 }))).forEach(({ name, at }) =>
    root.append(svg("text", { class: "rule-name", x: right - 2, y: at, "text-anchor": "end" }, name)));
}

const kinds = {
  /** Points without a scale. */
  scatter(chart) {
    const all = chart.series.flatMap((s) => s.points);
    const [x, y] = [0, 1].map((axis) => scale(all.map((p) => p[axis])));
    x.ticks = y.ticks = [];
    const { root, px, py } = frame(chart, x, y, { ...SIZE, width: 760, height: 440, left: 12 });
    for (const s of chart.series) root.append(svg("g", { "data-variant": s.variant, fill: colour(s.variant) },
      ...s.points.map(([x, y]) => mark(s.variant, px(x), py(y), 2, { opacity: 0.55 }))));
    return root;
  },

  /** Methods as lines through their strengths, which label the points; intervals over seeds; the front as steps. */
  plane(chart) {
    const size = chart.wide ? (innerWidth < 700 ? { ...SIZE, height: 330 } : { ...SIZE, width: 980, height: 315, left: 64 }) : SIZE;
    const all = chart.series.flatMap((s) => s.points.map((p) => p.at));
    const ends = (at) => [0, 1].map((i) => [at[i] - (at[i + 2] || 0), at[i] + (at[i + 2] || 0)]);
    const rules = chart.rules || [], levels = [[], rules.flatMap((rule) => [rule.low, rule.high])];
    const [x, y] = [0, 1].map((axis) => scale([...all.flatMap((at) => ends(at)[axis]), ...levels[axis]]));
    const { root, px, py } = frame(chart, x, y, size), more = chart.better === "more";
    const right = size.width - size.right, bottom = size.height - size.bottom, corner = more ? size.top : bottom;
    ruled(root, rules, py, size.left, right);
    if (chart.origin) root.append(svg("path", { class: "zero", d: `M${px(0)},${size.top}V${bottom}M${size.left},${py(0)}H${right}` }));
    const front = chart.series.flatMap((s) => s.points).filter((p) => p.front).map((p) => p.at).sort((a, b) => a[0] - b[0]);
    if (front.length > 1) root.append(titled(svg("path", { class: "front", d: `M${px(front[0][0])},${py(front[0][1])}${front.slice(1).map((at) => `H${px(at[0])}V${py(at[1])}`).join("")}` }), "front: no other is better in both"));
    const turn = more ? 1 : -1, tip = [size.left + 5, corner + 5 * turn];
    root.append(svg("path", { class: "better", d: `M${tip[0] + 20},${tip[1] + 20 * turn}L${tip[0]},${tip[1]}m0,${9 * turn}v${-9 * turn}h9` }),
      svg("text", { class: "rule-name", x: tip[0] + 24, y: tip[1] + (more ? 24 : -18) }, "better"));
    const taken = [{ x: tip[0] - 4, y: Math.min(tip[1], tip[1] + 26 * turn), w: 66, h: 26 }, ...all.map((at) => ({ x: px(at[0]) - 6, y: py(at[1]) - 6, w: 12, h: 12 }))];
    const crossed = [];
    const along = (x0, y0, x1, y1) => { for (let i = 0, n = 1 + Math.ceil(Math.hypot(x1 - x0, y1 - y0) / 6); i <= n; i++) crossed.push({ x: x0 + ((x1 - x0) * i) / n - 2, y: y0 + ((y1 - y0) * i) / n - 2, w: 4, h: 4 }); };
    const frames = { x: size.left, y: size.top, w: right - size.left, h: bottom - size.top }, labels = [];
    for (const s of chart.series) {
      const hue = tti.variants[s.points[0].variant], of = { color: tone(s), fill: tone(s) };
      if (s.points.length > 1) root.append(svg("path", { class: "line", ...of, fill: "none", d: `M${s.points.map((p) => `${px(p.at[0])},${py(p.at[1])}`).join("L")}` }));
      s.points.slice(1).forEach((p, i) => along(px(s.points[i].at[0]), py(s.points[i].at[1]), px(p.at[0]), py(p.at[1])));
      for (const p of s.points) {
        const [[x0, x1], [y0, y1]] = ends(p.at), cx = px(p.at[0]), cy = py(p.at[1]);
        along(px(x0), cy, px(x1), cy);
        along(cx, py(y0), cx, py(y1));
        root.append(svg("g", { "data-variant": p.variant, ...of }, svg("path", { class: "interval", d: `M${px(x0)},${cy}H${px(x1)}M${cx},${py(y0)}V${py(y1)}` }),
          titled(shape(s, cx, cy, 5), `${p.variant}\n${chart.x} ${figure(p.at[0])}${p.at[2] ? ` ± ${figure(p.at[2])}` : ""}\n${chart.y} ${figure(p.at[1])}${p.at[3] ? ` ± ${figure(p.at[3])}` : ""}`)));
        if (s.points.length > 1 && hue.of > 1) labels.push({ ...p, x: cx, y: cy, of });
      }
    }
    for (const { label, variant, x, y, of } of labels) {
      const width = 6.2 * label.length, place = free(x, y, width, [...taken, ...crossed], frames) || free(x, y, width, taken, frames);
      if (!place) continue;
      taken.push(place);
      const text = svg("text", { class: "point-name", x: place.x + place.w / 2, y: place.y + 9, "text-anchor": "middle" }, label), group = svg("g", { "data-variant": variant, ...of });
      if (place.far) group.append(svg("line", { class: "leader", x1: x, y1: y, x2: place.x + place.w / 2, y2: place.y + place.h / 2 }));
      group.append(text);
      root.append(group);
    }
    return root;
  },

  /** One line per variant (or method), with a band if low and high are given, and horizontal rules. */
  lines(chart) {
    const rules = chart.rules || [], reference = chart.reference ? chart.reference.points : [];
    const all = [...chart.series.flatMap((s) => s.points), ...reference];
    const x = scale(all.map((p) => p[0]), { log: chart.log, whole: chart.whole }), y = scale([...all.flatMap((p) => p.slice(1)), ...rules.flatMap((r) => [r.at, r.low ?? r.at, r.high ?? r.at])], { zero: chart.zero });
    const { root, px, py } = frame(chart, x, y);
    const left = SIZE.left, right = SIZE.width - SIZE.right;
    ruled(root, rules, py, left, right);
    if (reference.length) root.append(titled(svg("path", { class: "level", d: band(reference, px, py) }), chart.reference.name),
      titled(svg("path", { class: "rule", d: `M${reference.map((p) => `${px(p[0])},${py(p[1])}`).join("L")}` }), chart.reference.name),
      svg("text", { class: "rule-name", x: right - 2, y: py(reference.at(-1)[1]) - 5, "text-anchor": "end" }, chart.reference.name));
    for (const s of chart.series) {
      const there = s.points.filter((p) => p[1] !== null);
      if (!there.length) continue;
      const paint = s.colour === undefined ? colour(s.variant) : tone(s);
      const group = svg("g", { "data-variant": s.variants ? null : s.variant, color: paint, fill: paint });
      const line = there.map((p) => `${px(p[0])},${py(p[1])}`).join("L");
      if (there.length && there[0].length > 2) {
        group.append(svg("path", { class: "band", d: band(there, px, py) }));
      }
      group.append(titled(svg("path", { class: "line", d: `M${line}`, "stroke-dasharray": s.colour === undefined ? dash(s.variant) : null }), s.variant));
      if (there.length <= 12) for (const p of there) group.append(titled(s.variants ? shape(s, px(p[0]), py(p[1]), 3) : mark(s.variant, px(p[0]), py(p[1]), 3), `${s.variant}\n${chart.x} ${figure(p[0])}\n${chart.y} ${figure(p[1])}`));
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

  /** A rectangle of values in -most..most, with names of rows and columns. */
  heat(chart) {
    const [width, height, foot] = chart.dense ? [30, 20, 74] : [60, 22, 20], left = 66, below = chart.rows.length * height;
    const root = svg("svg", { viewBox: `0 0 ${left + chart.columns.length * width + 2} ${below + foot}`, role: "img", "aria-label": chart.y, class: "heat" });
    chart.columns.forEach((name, j) => {
      const x = left + (j + 0.5) * width, y = below + 14, place = chart.dense ? { "text-anchor": "end", transform: `rotate(-50 ${x} ${y})` } : { "text-anchor": "middle" };
      root.append(titled(svg("text", { x, y, ...place }, !chart.dense && name.length > 10 ? `${name.slice(0, 9)}…` : name), name));
    });
    chart.rows.forEach((name, i) => {
      root.append(svg("text", { x: left - 6, y: (i + 0.5) * height + 4, "text-anchor": "end" }, name));
      chart.values[i].forEach((value, j) => {
        if (value === null) return;
        const box = svg("rect", { x: left + j * width, y: i * height, width: width - 1, height: height - 1, rx: 2 });
        box.style.fill = `color-mix(in srgb, ${value > 0 ? "var(--active)" : "var(--negative)"} ${Math.round(Math.abs(value) / chart.most * 90)}%, var(--faint))`;
        root.append(titled(box, `${name}, ${chart.columns[j]}: ${value.toFixed(4)} ${chart.unit}`), svg("text", { class: "inside", x: left + (j + 0.5) * width, y: (i + 0.5) * height + 3.5, "text-anchor": "middle" }, (Math.abs(value) < 0.005 ? 0 : value).toFixed(2)));
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

};

// -- the page --------------------------------------------------------------------------------------------------------

function draw() {
  for (const place of document.querySelectorAll("[data-chart]")) {
    const chart = tti.charts[place.dataset.chart];
    place.append(el("figcaption", {}, chart.title || chart.y), kinds[chart.kind](chart));
    if (chart.names || chart.kind === "plane") place.append(el("div", { class: "legend" }, ...chart.series.map((s) =>
      el("span", {}, svg("svg", { class: "chip", viewBox: "0 0 14 14", "aria-hidden": "true" }, shape(s, 7, 7, 5, { fill: tone(s) })), s.name || s.variant))));
  }
}

/** Clicking a variant hides it everywhere; hovering highlights it. */
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

/** Clicking a heading sorts its table. */
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
