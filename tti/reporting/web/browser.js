// The neuron browser: panes of controls, a virtual list and one neuron. The URL stores what is shown.
"use strict";
const ROW = 44; // pixels, as in the style sheet

class Pane {
  constructor(index, wish, changed) {
    this.index = index;
    this.changed = changed;
    this.order = [];
    this.ticket = 0;
    this.element = el("section", { class: "pane" });
    this.build();
    this.show(wish);
  }

  // -- controls --------------------------------------------------------------------------------------------------

  build() {
    const changing = (what) => () => this.show({ ...this.state, [what]: this[what].value });
    this.run = el("select", { "data-role": "run", onchange: changing("run") },
      ...this.index.runs.map((run) => el("option", { value: run.number }, `${run.variant}, seed ${run.seed}`)));
    this.layer = el("select", { "data-role": "layer", onchange: () => this.show({ ...this.state, site: this.siteOf(this.layer.value, this.kind.value) }) });
    this.kind = el("select", { "data-role": "site", onchange: () => this.show({ ...this.state, site: this.siteOf(this.layer.value, this.kind.value) }) });
    this.neuron = el("input", { "data-role": "neuron", type: "number", min: 0, onchange: () => this.show({ ...this.state, neuron: this.neuron.value }) });
    this.sort = el("select", { "data-role": "sort", onchange: () => this.arrange() });
    this.descending = el("button", { "data-role": "direction", title: "Reverse the order", onclick: () => this.turn() }, "↓");
    this.search = el("input", { "data-role": "search", type: "search", placeholder: "token, or selectivity_top5 > 0.8", oninput: () => this.arrange() });
    this.count = el("div", { class: "count", "aria-live": "polite" });
    this.list = el("div", { class: "list", tabindex: 0, role: "listbox", "aria-label": "neurons", onscroll: () => this.draw(), onkeydown: (event) => this.key(event) });
    this.detail = el("div", { class: "detail" });
    this.element.append(
      el("div", { class: "controls" },
        el("label", {}, "run", this.run), el("label", {}, "layer", this.layer), el("label", {}, "site", this.kind),
        el("label", { class: "neuron" }, "neuron", this.neuron),
        el("label", { class: "search" }, "search", this.search),
        el("label", { class: "sort" }, "sort by", el("span", {}, this.sort, this.descending))),
      el("div", { class: "split" }, el("div", { class: "listing" }, this.count, this.list), this.detail));
    new ResizeObserver(() => this.draw()).observe(this.list);
  }

  siteOf(layer, kind) {
    const sites = this.sites();
    const wanted = sites.find((site) => parts(site.name).layer === layer && parts(site.name).kind === kind);
    return (wanted || sites.find((site) => parts(site.name).layer === layer) || sites[0]).name;
  }

  sites() { return this.index.runs[Number(this.run.value)].sites; }

  // -- what is shown -----------------------------------------------------------------------------------------------

  /** Show a run, site and neuron; those that do not exist are replaced by the nearest ones. */
  async show({ run, site, neuron }) {
    const ticket = ++this.ticket;
    const chosen = this.index.runs.find((each) => each.number === Number(run)) || this.index.runs[0];
    const where = chosen.sites.find((each) => each.name === site) || chosen.sites[0];
    const number = Math.max(0, Math.min(where.width - 1, Math.floor(Number(neuron)) || 0));
    const same = this.state && this.state.run === chosen.number && this.state.site === where.name;
    this.state = { run: chosen.number, site: where.name, neuron: number };
    this.run.value = chosen.number;
    choices(this.layer, [...new Set(chosen.sites.map((each) => parts(each.name).layer))], parts(where.name).layer);
    choices(this.kind, [...new Set(chosen.sites.map((each) => parts(each.name).kind))], parts(where.name).kind);
    choices(this.sort, ["index", ...where.statistics], where.statistics.includes(this.sort.value) ? this.sort.value
      : where.statistics.includes(this.index.sort) && !this.sort.value ? this.index.sort : this.sort.value || "index");
    this.neuron.max = where.width - 1;
    this.neuron.value = number;
    this.changed(this);
    try {
      if (!same) {
        const [table, corpus] = await Promise.all([tti.load(`${where.folder}/table`), tti.load(chosen.corpus)]);
        if (ticket !== this.ticket) return;
        this.table = unpacked(table);
        this.vocabulary = corpus.vocabulary;
        corpus.packed ??= tti.array(corpus.tokens);
        this.packed = corpus.packed;
        this.arrange();
        if (neuron === undefined && this.order.length && this.order[0] !== number) {
          return this.show({ ...this.state, neuron: this.order[0] });
        }
      }
      this.draw(!same);
      const block = await tti.load(`${where.folder}/${Math.floor(number / where.perFile)}`);
      if (ticket !== this.ticket) return;
      block.arrays ??= Object.fromEntries(Object.entries(block).filter(([key]) => key !== "arrays").map(([key, packed]) => [key, tti.array(packed)]));
      this.drawNeuron(chosen, where, number, block.arrays, number % where.perFile);
    } catch (error) {
      this.detail.replaceChildren(el("p", { class: "error" }, error.message));
    }
  }

  // -- the list ------------------------------------------------------------------------------------------------------

  turn() {
    this.descending.textContent = this.descending.textContent === "↓" ? "↑" : "↓";
    this.arrange();
  }

  /** Filter by the search and sort by the statistic. Undefined values come last in both directions. */
  arrange() {
    if (!this.table) return;
    const width = this.table.width, by = this.table.columns[this.sort.value];
    const sign = this.descending.textContent === "↓" ? -1 : 1;
    const fits = this.filter(this.search.value);
    this.order = [];
    for (let j = 0; j < width; j++) if (fits(j)) this.order.push(j);
    if (by) {
      this.order.sort((a, b) => Number.isNaN(by[a]) - Number.isNaN(by[b]) || sign * (by[a] - by[b]) || a - b);
    } else if (sign < 0) this.order.sort((a, b) => a - b);
    else this.order.sort((a, b) => b - a);
    this.count.textContent = `${this.order.length.toLocaleString("en")} of ${width.toLocaleString("en")} neurons`;
    this.list.scrollTop = 0;
    this.draw();
  }

  /** A token is searched in top token types and highest contexts; "statistic > number" compares; both can be combined. */
  filter(query) {
    const tests = [];
    const words = query.replace(/(\S+)\s*(<=|>=|<|>)\s*(-?[\d.]+(?:e-?\d+)?)/gi, (whole, name, sign, number) => {
      const column = this.table.columns[name];
      if (!column) return whole;
      const value = Number(number);
      tests.push({ "<": (j) => column[j] < value, ">": (j) => column[j] > value, "<=": (j) => column[j] <= value, ">=": (j) => column[j] >= value }[sign]);
      return "";
    }).trim().toLowerCase();
    if (words) {
      const whole = /^".*"$/.test(words), wanted = whole ? words.slice(1, -1).trim() : words;
      const ids = new Set();
      this.vocabulary.forEach((text, id) => {
        const plain = text.trim().toLowerCase();
        if (whole ? plain === wanted : plain.includes(wanted)) ids.add(id);
      });
      tests.push((j) => ["types", "peaks"].some((key) => this.table[key] && this.table[key].row(j).some((id) => ids.has(id))));
    }
    return (j) => tests.every((test) => test(j));
  }

  /** The text of a token; its id if it has none, as for rows that pad a vocabulary. */
  word(id) {
    return this.vocabulary[id] ?? `[${id}]`;
  }

  /** Draw the visible rows. */
  draw(jump = false) {
    if (!this.table) return;
    const list = this.list;
    if (jump) {
      const position = this.order.indexOf(this.state.neuron);
      if (position >= 0 && (position * ROW < list.scrollTop || (position + 1) * ROW > list.scrollTop + list.clientHeight)) list.scrollTop = position * ROW;
    }
    const first = Math.max(0, Math.floor(list.scrollTop / ROW) - 4);
    const last = Math.min(this.order.length, Math.ceil((list.scrollTop + list.clientHeight) / ROW) + 4);
    const by = this.table.columns[this.sort.value];
    const rows = [];
    for (let i = first; i < last; i++) {
      const j = this.order[i];
      const words = [...(this.table.types || this.table.peaks || { row: () => [] }).row(j)].slice(0, 5)
        .filter((id) => id >= 0).map((id) => tokenText(this.word(id).trim() || this.word(id))).join("  ");
      const row = el("div", { class: "row", role: "option", "data-neuron": j, "aria-selected": String(j === this.state.neuron), onclick: () => this.show({ ...this.state, neuron: j }) },
        el("div", { class: "top" }, el("strong", {}, String(j)), el("span", {}, by ? figure(by[j]) : "")), el("div", { class: "words" }, words));
      row.style.top = `${i * ROW}px`;
      rows.push(row);
    }
    const height = el("div");
    height.style.height = `${this.order.length * ROW}px`;
    list.replaceChildren(height, ...rows);
  }

  key(event) {
    const step = { ArrowDown: 1, ArrowUp: -1, PageDown: 10, PageUp: -10 }[event.key];
    if (!step || !this.order.length) return;
    event.preventDefault();
    const position = this.order.indexOf(this.state.neuron);
    const next = Math.max(0, Math.min(this.order.length - 1, position < 0 ? 0 : position + step));
    const top = next * ROW;
    if (top < this.list.scrollTop) this.list.scrollTop = top;
    if (top + ROW > this.list.scrollTop + this.list.clientHeight) this.list.scrollTop = top + ROW - this.list.clientHeight;
    this.show({ ...this.state, neuron: this.order[next] });
  }

  // -- one neuron ------------------------------------------------------------------------------------------------

  drawNeuron(run, site, number, arrays, row) {
    const matching = (globs) => site.statistics.filter((name) => globs.some((glob) => new RegExp(`^${glob.replaceAll("*", ".*")}$`).test(name)));
    const top = this.contexts(run, arrays, row, "top"), shown = new Set(matching(this.index.hidden));
    const panels = el("div", { class: "panels" });
    for (const { title, kind, arrays: names, statistics, missing } of this.index.panels) {
      const found = matching(statistics || []);
      found.forEach((name) => shown.add(name));
      const content = kind === "statistics" ? found.length && this.statistics(found, number, missing) : arrays[names[0]] && this[kind](names.map((name) => arrays[name] && arrays[name].row(row)));
      if (content) panels.append(el("section", {}, el("h3", {}, title), content));
    }
    const names = site.statistics.filter((name) => !shown.has(name));
    this.detail.replaceChildren(
      el("h2", {}, `${site.name} · neuron ${number}`),
      el("div", { class: "note" }, `${run.variant}, seed ${run.seed}`),
      ...(site.note ? [el("p", { class: "note" }, site.note)] : []),
      ...(top ? [el("h3", {}, "Highest activations"), top] : [el("p", { class: "note" }, "This site has no contexts.")]),
      panels,
      ...["bottom", "decile"].flatMap((kind) => {
        const contexts = this.contexts(run, arrays, row, kind);
        return contexts ? [el("h3", {}, kind === "bottom" ? "Lowest activations" : "From each decile of its activations, highest first"), contexts] : [];
      }),
      el("h3", {}, "Statistics"), this.statistics(names, number));
    this.detail.scrollTop = 0;
  }

  contexts(run, arrays, row, kind) {
    if (!arrays[`${kind}_window`]) return null;
    const places = arrays[`${kind}_place`].row(row), values = arrays[`${kind}_activation`].row(row);
    const windows = arrays[`${kind}_window`], length = windows.shape[windows.shape.length - 1], all = windows.row(row);
    const grid = el("div", { class: "contexts", "data-kind": kind });
    const order = [...places.keys()];
    if (kind === "decile") order.reverse();
    for (const i of order) {
      if (places[i] < 0) continue;
      const levels = all.subarray(i * length, (i + 1) * length);
      const inside = [...levels.keys()].filter((k) => levels[k] !== OUTSIDE);
      const scale = arrays.scale[row];
      grid.append(el("span", { class: "value" }, figure(values[i])), contextLine(
        inside.map((k) => this.word(this.packed[places[i] - run.before + k])), inside.map((k) => levels[k]), inside.indexOf(run.before),
        inside.map((k) => figure((levels[k] / 127) * scale))));
    }
    return grid.childElementCount ? grid : el("p", { class: "note" }, "none: it never fires");
  }

  statistics(names, number, missing) {
    if (missing && names.every((name) => Number.isNaN(this.table.columns[name][number]))) return el("p", { class: "note" }, missing);
    return el("div", { class: "statistics" }, ...names.map((name) => el("div", {}, el("span", { title: name }, name.replaceAll("_", " ")), el("span", {}, figure(this.table.columns[name][number])))));
  }

  types([ids, share, mean]) {
    return bars([...ids].slice(0, 10).map((id, i) => id < 0 ? null : { word: this.word(id), size: share[i],
      value: `${(100 * share[i]).toFixed(1)}%${mean ? `, ${figure(mean[i])}× its mean` : ""}` }), "");
  }

  bars([ids, values]) {
    return bars([...ids].slice(0, 8).map((id, i) => id < 0 ? null : { word: this.word(id), size: Math.abs(values[i]), value: figure(values[i]) }),
      values[0] < 0 ? "down" : "");
  }

  histogram([bins, [low, high]]) {
    const counts = [...bins].map(Number);
    const width = 400, height = 120, most = Math.log1p(Math.max(...counts, 1)), step = width / counts.length;
    const node = (name, attributes, text) => {
      const shape = document.createElementNS("http://www.w3.org/2000/svg", name);
      for (const [key, value] of Object.entries(attributes)) shape.setAttribute(key, value);
      if (text !== undefined) shape.textContent = text;
      return shape;
    };
    const svg = node("svg", { viewBox: `0 0 ${width} ${height + 18}`, class: "histogram", role: "img", "aria-label": "histogram of its activation" });
    counts.forEach((count, i) => {
      const tall = (Math.log1p(count) / most) * height;
      const bar = node("rect", { x: i * step + 0.5, y: height - tall, width: step - 1, height: tall });
      bar.append(node("title", {}, `${figure(low + ((high - low) * i) / counts.length)} to ${figure(low + ((high - low) * (i + 1)) / counts.length)}: ${count} tokens`));
      svg.append(bar);
    });
    if (low < 0 && high > 0) svg.append(node("line", { x1: (-low / (high - low)) * width, x2: (-low / (high - low)) * width, y1: 0, y2: height, "stroke-dasharray": "3 3" }));
    svg.append(node("text", { x: 0, y: height + 14 }, figure(low)), node("text", { x: width, y: height + 14, "text-anchor": "end" }, figure(high)));
    return svg;
  }
}

function bars(entries, way) {
  const there = entries.filter(Boolean), largest = Math.max(...there.map((entry) => entry.size), 1e-12);
  if (!there.length) return el("p", { class: "note" }, "none");
  return el("div", { class: "bars" }, ...there.flatMap(({ word, size, value }) => {
    const bar = el("span", { class: `bar ${way}` });
    bar.style.width = `${(100 * size) / largest}%`;
    return [el("span", { class: "word", title: JSON.stringify(word) }, tokenText(word)), bar, el("span", { class: "value" }, value)];
  }));
}

/** "blocks.3.mlp.post" -> layer "3", kind "mlp.post"; a site outside the blocks has its own layer. */
function parts(site) {
  const found = /^blocks\.(\d+)\.(.+)$/.exec(site);
  return found ? { layer: found[1], kind: found[2] } : { layer: "–", kind: site };
}

function choices(select, values, chosen) {
  if ([...select.options].map((option) => option.value).join("\n") !== values.join("\n")) {
    select.replaceChildren(...values.map((value) => el("option", { value }, value.replaceAll("_", " "))));
  }
  select.value = values.includes(chosen) ? chosen : values[0];
}

function unpacked(table) {
  const columns = Object.fromEntries(Object.entries(table.columns).map(([name, packed]) => [name, tti.array(packed)]));
  return { columns, width: Object.values(columns)[0].length, types: table.types && tti.array(table.types), peaks: table.peaks && tti.array(table.peaks) };
}

// -- the page ----------------------------------------------------------------------------------------------------

async function start() {
  const index = await tti.load("index");
  const panes = [], main = document.getElementById("panes"), together = document.getElementById("together");
  const compare = document.getElementById("compare");
  document.getElementById("title").textContent = index.title;
  document.getElementById("report").href = index.report;

  const changed = (pane) => {
    history.replaceState(null, "", "#" + panes.map(({ state }) => new URLSearchParams(state)).join("|"));
    const other = panes.find((each) => each !== pane);
    if (other && other.state && together.checked && (other.state.site !== pane.state.site || other.state.neuron !== pane.state.neuron)
      && index.runs[other.state.run].sites.some((site) => site.name === pane.state.site)) {
      other.show({ ...other.state, site: pane.state.site, neuron: pane.state.neuron });
    }
  };
  const open = (wish) => {
    const pane = new Pane(index, wish, (each) => panes.includes(each) && changed(each));
    panes.push(pane);
    main.append(pane.element);
    changed(pane);
  };
  const arrange = () => {
    main.classList.toggle("two", panes.length > 1);
    compare.setAttribute("aria-pressed", String(panes.length > 1));
    compare.textContent = panes.length > 1 ? "Show one" : "Compare two";
    document.getElementById("together-label").hidden = panes.length < 2;
  };
  compare.addEventListener("click", () => {
    if (panes.length > 1) {
      panes.pop().element.remove();
      changed(panes[0]);
    } else {
      const { state } = panes[0];
      open({ ...state, run: (state.run + 1) % index.runs.length });
    }
    arrange();
  });
  const wishes = location.hash.slice(1).split("|").filter(Boolean).map((text) => Object.fromEntries(new URLSearchParams(text)));
  (wishes.length ? wishes.slice(0, 2) : [{}]).forEach(open);
  arrange();
}

start().catch((error) => document.getElementById("panes").append(el("p", { class: "error" }, error.message)));
