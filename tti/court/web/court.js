// The curves of a metric, below its row.
"use strict";

/** A row per dial: how far it moves the metric, in doses; the allowed range of nuisances is shaded. */
kinds.moves = (chart) => {
  const line = 17, left = 142, width = 400, top = 8, bottom = top + line * chart.rows.length;
  const limit = Math.max(0.5, chart.allowed * 1.5), far = 2; // moves beyond this many doses are drawn at the edge
  const size = Math.min(far, Math.max(limit, ...chart.rows.map((row) => Math.abs(row.at ?? 0)))) * 1.08;
  const px = (v) => left + ((Math.max(-size, Math.min(size, v)) + size) / (2 * size)) * (width - left - 14);
  const root = svg("svg", { viewBox: `0 0 ${width} ${bottom + 36}`, role: "img", "aria-label": `${chart.y}: ${chart.x}` });
  const tested = chart.rows.filter((row) => row.nuisance).length;
  root.append(svg("rect", { class: "allowed", x: px(-chart.allowed), width: px(chart.allowed) - px(-chart.allowed), y: top, height: line * tested }));
  for (const tick of ticks([-size, size], 4)) root.append(svg("line", { class: "grid", x1: px(tick), x2: px(tick), y1: top, y2: bottom }),
    svg("text", { x: px(tick), y: bottom + 14, "text-anchor": "middle" }, String(tick)));
  root.append(svg("path", { class: "zero", d: `M${px(0)},${top}V${bottom}` }));
  chart.rows.forEach((row, i) => {
    const y = top + line * (i + 0.5);
    root.append(svg("text", { x: left - 8, y: y + 4, "text-anchor": "end" }, row.name));
    if (row.at === null) return void root.append(svg("text", { x: px(0) + 6, y: y + 4 }, "undefined"));
    const verdict = !row.nuisance ? "display" : Math.abs(row.at) <= chart.allowed ? "within" : "beyond";
    const beyond = Math.abs(row.at) > size, r = 4;
    const mark = beyond ? svg("path", { class: verdict, d: `M${px(row.at)},${y}l${-9 * Math.sign(row.at)},-5v10Z` }) : svg("circle", { class: verdict, cx: px(row.at), cy: y, r });
    root.append(titled(mark, `${row.name}: ${figure(row.at)} doses`));
  });
  root.append(svg("text", { class: "label", x: (left + width - 14) / 2, y: bottom + 31, "text-anchor": "middle" }, chart.x));
  return root;
};

function curves(name) {
  const metric = tti.metrics[name], { curve, moves } = metric;
  const legend = el("div", { class: "legend" }, ...curve.series.map((s) =>
    el("span", {}, svg("svg", { class: "chip", viewBox: "0 0 14 14", "aria-hidden": "true" }, shape(s, 7, 7, 5, { fill: tone(s) })), s.variant)));
  return el("div", {}, el("p", {}, `${metric.says}.`), el("div", { class: "charts" },
    el("figure", {}, el("figcaption", {}, "What it should see: the dose"), kinds.lines(curve), legend, el("p", { class: "note" }, "Mean over seeds and halves of the stories; the band is their range. Dashed: layers without truth.")),
    el("figure", {}, el("figcaption", {}, "What else moves it"), kinds.moves(moves), el("p", { class: "note" }, "Green and red: nuisances, which must stay in the shaded range. Grey: shown without a verdict."))));
}

function close(row) {
  if (row.nextElementSibling?.classList.contains("curves")) row.nextElementSibling.remove();
  row.querySelector("button").setAttribute("aria-expanded", "false");
}

for (const row of document.querySelectorAll("tr[data-metric]")) row.addEventListener("click", () => {
  const button = row.querySelector("button");
  if (button.getAttribute("aria-expanded") === "true") return close(row);
  row.after(el("tr", { class: "curves" }, el("td", { colspan: row.cells.length }, curves(row.dataset.metric))));
  button.setAttribute("aria-expanded", "true");
});
// A sort moves rows, which would part curves from their metric.
for (const heading of document.querySelectorAll("table.verdicts th")) heading.addEventListener("click", () => {
  for (const row of document.querySelectorAll("tr[data-metric]")) close(row);
}, { capture: true });
