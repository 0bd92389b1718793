// Moving a latent: the sentences are in the page, `tti.texts` has each with the values of its factors.
"use strict";
const byId = (id) => document.getElementById(id);
const text = (number) => tti.texts[number][0];
const values = (number) => tti.texts[number][1];
const words = (sentence) => sentence.match(/[\w'-]+|[^\w\s]/g) || [];

/** Fill a list of choices, keeping the chosen one if it is still there. */
function choices(select, names) {
  const before = select.selectedIndex;
  select.replaceChildren(...names.map((name, i) => el("option", { value: i }, name)));
  select.selectedIndex = before >= 0 && before < names.length ? before : 0;
}

/** A sentence in which the words that another one lacks are marked. */
function marked(sentence, other) {
  const known = new Set(words(other.toLowerCase()));
  return sentence.split(/(?<=\s)/).map((word) => {
    const [, inner, rest] = /^([\w'-]*)([^]*)$/.exec(word);
    return inner && !known.has(inner.toLowerCase()) ? [el("mark", {}, inner), rest] : [word];
  }).flat();
}

function chosen() {
  const run = tti.runs[byId("run").selectedIndex], sentence = byId("sentence").selectedIndex;
  const latent = run.latents[byId("latent").selectedIndex];
  return { run, sentence, latent, steps: latent.texts[sentence], step: Number(byId("step").value) };
}

function draw() {
  const { run, sentence, steps, step } = chosen(), before = run.written[sentence], now = steps[step];
  byId("now").replaceChildren(...marked(text(now), text(before)));
  byId("written").textContent = text(before);
  byId("original").textContent = text(run.originals[sentence]);
  const [old, current] = [before, now].map(values), comparable = old.length && current.length;
  const changed = (i) => comparable && old[i] !== current[i];
  byId("factors").replaceChildren(...(current.length ? tti.factors : []).map((name, i) =>
    el("li", { class: changed(i) ? "changed" : null }, el("span", {}, name.replace("_", " ")), changed(i) ? el("del", {}, old[i]) : null, current[i])));
  const count = tti.factors.filter((_, i) => changed(i)).length;
  byId("count").textContent = comparable ? `${count} changed` : `unknown: the sentence ${current.length ? "before any move" : "written"} is none of the corpus`;
  byId("steps").replaceChildren(...steps.map((each, i) => el("li", {}, el("button", { "aria-current": String(i === step), onclick: () => {
    byId("step").value = i;
    draw();
    byId("steps").querySelectorAll("button")[i].focus();
  } }, ...marked(text(each), text(before))))));
}

function chooseRun() {
  const run = tti.runs[byId("run").selectedIndex];
  choices(byId("sentence"), run.originals.map(text));
  choices(byId("latent"), run.latents.map((each) => `${each.number}: ${each.factor.replace("_", " ")}, ${Math.round(100 * each.change)} %`));
  draw();
}

choices(byId("run"), tti.runs.map((run) => `${run.variant}, seed ${run.seed}`));
byId("step").max = tti.runs[0].latents[0].texts[0].length - 1;
byId("step").value = Math.floor(byId("step").max / 2);
byId("run").addEventListener("change", chooseRun);
for (const id of ["sentence", "latent"]) byId(id).addEventListener("change", draw);
byId("step").addEventListener("input", draw);
chooseRun();
