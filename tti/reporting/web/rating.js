// Blind rating: one neuron at a time, stored in the browser, exported as JSON.
"use strict";
const KEYS = { 1: "monosemantic", m: "monosemantic", 2: "polysemantic", p: "polysemantic", 3: "unclear", u: "unclear" };
const byId = (id) => document.getElementById(id);

async function start() {
  const { schema, sample, items } = await tti.load("items", ".");
  const place = `tti-rating-${sample}`;
  const kept = JSON.parse(localStorage.getItem(place) || "{}");
  const state = { rater: kept.rater || "", ratings: kept.ratings || {} };
  const firstOpen = () => items.findIndex((item) => !state.ratings[item.id]);
  let now = Math.max(0, firstOpen()), shown = Date.now();
  const keep = () => localStorage.setItem(place, JSON.stringify(state));

  function draw() {
    const done = Object.keys(state.ratings).length, item = items[now];
    byId("progress").max = items.length;
    byId("progress").value = done;
    byId("progress-text").textContent = `${now + 1} of ${items.length}, ${done} rated`;
    byId("contexts").replaceChildren(...item.contexts.map(({ tokens, levels, mark }) => contextLine(tokens, levels, mark)));
    for (const button of document.querySelectorAll("[data-rating]")) {
      button.setAttribute("aria-pressed", String(state.ratings[item.id]?.rating === button.dataset.rating));
    }
    byId("back").disabled = now === 0;
    byId("next").disabled = now === items.length - 1;
    shown = Date.now();
    scrollTo(0, 0);
  }

  function go(to) {
    now = Math.max(0, Math.min(items.length - 1, to));
    draw();
  }

  function rate(rating) {
    state.ratings[items[now].id] = { rating, seconds: Math.round((Date.now() - shown) / 100) / 10 };
    keep();
    const open = firstOpen();
    if (now < items.length - 1) go(now + 1);
    else if (open >= 0) go(open);
    else draw();
  }

  function exported() {
    const content = { schema, sample, rater: state.rater, exported: new Date().toISOString(), ratings: state.ratings };
    const link = el("a", { href: URL.createObjectURL(new Blob([JSON.stringify(content, null, 1)], { type: "application/json" })),
      download: `ratings-${(state.rater || "anonymous").replace(/[^\w-]+/g, "_")}.json` });
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 1000);
  }

  byId("rater").value = state.rater;
  byId("rater").addEventListener("input", (event) => { state.rater = event.target.value.trim(); keep(); });
  byId("back").addEventListener("click", () => go(now - 1));
  byId("next").addEventListener("click", () => go(now + 1));
  byId("export").addEventListener("click", exported);
  for (const button of document.querySelectorAll("[data-rating]")) button.addEventListener("click", () => rate(button.dataset.rating));
  document.addEventListener("keydown", (event) => {
    if (event.target.tagName === "INPUT" || event.ctrlKey || event.metaKey || event.altKey) return;
    if (KEYS[event.key]) rate(KEYS[event.key]);
    else if (event.key === "ArrowLeft" || event.key === "Backspace") go(now - 1);
    else if (event.key === "ArrowRight") go(now + 1);
    else return;
    event.preventDefault();
  });
  draw();
}

start().catch((error) => byId("contexts").append(el("p", { class: "error" }, error.message)));
