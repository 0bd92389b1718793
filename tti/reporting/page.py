"""The comparison as one self-contained HTML page: it opens from disk, loads nothing, and follows the reader's theme."""

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib.resources import files
from typing import Any

import jinja2
import pandas as pd
from markupsafe import Markup, escape

from tti.reporting import charts, comparison, document, encoding, findings, markdown, pictures, similarity, summary
from tti.reporting import controls as controls_beside
from tti.reporting.analysis import AGGREGATE, Analysis
from tti.reporting.cells import Cell, Found, Rows
from tti.reporting.rating import CATEGORIES, Rated
from tti.reporting.statistics import ALPHA, CONFIDENCE, half_width

CORRELATION_RUNS = 5  # fewer say nothing of a rank correlation


@dataclass(frozen=True)
class Section:
    """A part of the page; without content it is left out."""

    title: str
    notes: Sequence[str] = ()
    table: Rows | None = None
    charts: Sequence[str] = ()
    images: Sequence[Mapping[str, str]] = ()
    folded: bool = False

    @property
    def empty(self) -> bool:
        """Whether there is nothing to see."""
        return not ((self.table and self.table.rows) or self.charts or self.images)


@dataclass
class Charts:
    """The charts of the page by name."""

    made: dict[str, dict[str, Any]] = field(default_factory=dict)

    def add(self, charts: Sequence[dict[str, Any]]) -> list[str]:
        """Take them up; their names."""
        names = [f"chart{len(self.made) + i}" for i in range(len(charts))]
        self.made |= dict(zip(names, charts, strict=True))
        return names


def html(analysis: Analysis, rated: Rated, folder: str, browsed: bool) -> str:
    """The page.

    Args:
        analysis: what is shown.
        rated: what raters said.
        folder: of the other files, beside the page.
        browsed: whether there is a neuron browser in it.
    """
    environment = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined)
    drawn = Charts()
    sections = [section for section in _sections(analysis, rated, drawn) if not section.empty]
    links = [("Neuron browser", f"{folder}/browser/index.html")] if browsed else []
    links += [("Blind rating", f"{folder}/rating/index.html")] if rated.sampled else []
    links += [
        ("Markdown", f"{folder}.md"),
        ("Table (CSV)", f"{folder}/runs.csv"),
        ("Table (parquet)", f"{folder}/runs.parquet"),
    ]
    return environment.from_string(_asset("page.html")).render(
        title=document.title(analysis.config),
        links=links,
        summary=[_bold(line) for line in summary.sentences(analysis)],
        facts=[_plain(line) for line in document.provenance(analysis)],
        remarks=[_plain(line) for line in analysis.remarks],
        variants=analysis.variants,
        sections=sections,
        charts=drawn.made,
        style=Markup(_asset("style.css") + _asset("page.css")),
        data_script=Markup(_asset("data.js")),
        charts_script=Markup(_asset("charts.js")),
        data=Markup(encoding.inline({"variants": analysis.variants, "charts": drawn.made})),
    )


def _sections(analysis: Analysis, rated: Rated, drawn: Charts) -> list[Section]:
    labels, controls = analysis.labels, bool(analysis.controls)
    logged = {name: labels.get(name, name) for name in analysis.config.figures.curves if name in analysis.logged}
    curves = [*charts.curves(analysis.logged, logged), *charts.excess(analysis)]
    agreeing = charts.correlation(analysis) if len(analysis.table) >= CORRELATION_RUNS else []
    points, projection = pictures.neuron_map(analysis)
    costs = _costs(analysis) if controls else None
    changes = _changes(analysis, analysis.changes) if controls else None
    matched = _changes(analysis, analysis.matched) if controls and len(analysis.matched) else None
    front = [
        _plain(document.FRONT_NOTE),
        FRONT_MARKS if AGGREGATE in analysis.metrics else f"{FRONT_MARKS} {NO_AGGREGATE}",
    ]
    return [
        Section("Results", [RESULTS], _results(analysis, _decisive(analysis))),
        Section("What it costs", [_plain(document.cost_note(analysis))], costs),
        Section("Fronts", front, _fronts(analysis), drawn.add(charts.fronts(analysis))),
        *map(_found, findings.beside_the_front(analysis)),
        Section("Strength", [STRENGTH], charts=drawn.add(charts.strengths(analysis))),
        *map(_found, controls_beside.finding(analysis)),
        *(_found(found, drawn.add(charts.similarity(analysis))) for found in similarity.finding(analysis)),
        *map(_found, analysis.audit),
        Section("Layers", [BANDS], charts=drawn.add(charts.layers(analysis))),
        Section("Training", [BANDS], charts=drawn.add(curves)),
        Section("Firing rates", [FIRING], charts=drawn.add(pictures.firing_rates(analysis))),
        Section("Profile", [PROFILE], charts=drawn.add(charts.radar(analysis))),
        Section("Do the metrics agree?", [AGREEING], charts=drawn.add(agreeing)),
        Section("Map of neurons", [projection], charts=drawn.add(points)),
        Section("Blind rating", [_plain(rated.summary())], _ratings(rated)),
        Section("Every figure", [RESULTS], _results(analysis, list(analysis.metrics)), folded=True),
        Section("Change of every figure, paired by seed", [CHANGES], changes, folded=True),
        Section("Change at matched loss", [document.MATCHED_NOTE], matched, folded=True),
        Section("Similarity of the layers of a model", [LAYERS],
                charts=drawn.add(charts.layer_similarity(analysis)), folded=True),
        Section("Cosines between neurons", [HEATMAPS], images=pictures.heatmaps(analysis), folded=True),
        Section("Time and operations", [COST], _compute(analysis), folded=True),
    ]  # fmt: skip


def _decisive(analysis: Analysis) -> list[str]:
    """The loss that decides, the aggregate, and what the fronts are of."""
    names = [analysis.primary, *[front.metric for front in analysis.fronts]]
    return [name for name in dict.fromkeys(names) if name in analysis.metrics]


def _found(found: Found, charts: Sequence[str] = ()) -> Section:
    return Section(found.title, [_bold(note) for note in found.notes], found.table, charts)


RESULTS = (
    f"Mean ± half width of its {CONFIDENCE:.0%} t interval over seeds (none with one seed). ↓: less is better, ↑: "
    "more is, ‡: display only (gaming audit). A heading sorts; a pointer over a figure shows its seeds."
)
FRONT_MARKS = "Small marks are seeds, large ones means; ringed: no other variant is better in both."
NO_AGGREGATE = "No aggregate: it needs the evaluation of trained and random_init networks of the baseline."
STRENGTH = (
    "Figures over the one number in which the variants of a method differ (λ, a share that is kept, ...; logarithmic, "
    "0 at the left): mean over seeds, their range as a band. Dashed, with the range of its seeds: what a method is "
    "compared with."
)
BANDS = "Mean over seeds; the band is their range."
FIRING = "Which share of the neurons fires (|a| ≥ 0.01) on which share of the tokens, all layers and seeds together."
PROFILE = (
    "z-scores of the aggregate's parts, mean over seeds. The dashed ring is the baseline, outwards is better; "
    "beyond the outer ring they are cut."
)
AGREEING = (
    "Spearman's rank correlation over all runs. Metrics that a method moves together look alike here without "
    "measuring the same."
)
LAYERS = "Debiased linear CKA between the layers of one model, over all tokens, mean over seeds: 1 alike, 0 unrelated."
HEATMAPS = (
    "Cosine of every two neurons over all tokens, one seed of each variant; blue −1, white 0, red +1. Neurons stand "
    "in their own order: only the texture compares."
)
CHANGES = (
    f"Mean change ± half width of its {CONFIDENCE:.0%} t interval over seeds. Coloured where the t test rejects “no "
    "change” after Holm's correction for all tests in this table: green is better."
)
COST = (
    "Operations: 6 (P + V d) a token, without attention over positions. Speeds compare only between runs that had a "
    "machine to themselves."
)


def _results(analysis: Analysis, names: Sequence[str]) -> Rows:
    rows = []
    for variant, runs in analysis.table.groupby("variant", sort=False):
        cells = [Cell(str(variant)), Cell(str(len(runs)), len(runs))]
        cells += [_figure(runs, name, analysis.digits[name]) for name in names]
        rows.append(cells)
    return Rows(["variant", "seeds", *[analysis.headings[name] for name in names]], rows)


def _figure(runs: pd.DataFrame, name: str, digits: int) -> Cell:
    values = runs[name].astype(float)
    mean, width = values.mean(), half_width(values.dropna())
    seeds = "\n".join(f"seed {seed}: {value:.{digits + 1}f}" for seed, value in zip(runs["seed"], values, strict=True))
    return Cell(markdown.spread(mean, math.nan, digits), mean, _half(width, digits), seeds)


def _half(width: float, digits: int) -> str:
    return "" if math.isnan(width) else f"± {width:,.{digits}f}"


def _costs(analysis: Analysis) -> Rows:
    rows = []
    for variant, row in analysis.losses.iterrows():
        kind = {"costs": "bad", "gains": "good"}.get(
            row["verdict"], "good" if row["verdict"].startswith("free") else ""
        )
        each = {
            seed: markdown.spread(change, row["within"][seed], 4, sign="+") for seed, change in row["seeds"].items()
        }
        change = markdown.spread(row["mean"], math.nan, 4, sign="+")
        seeds = "\n".join(f"seed {seed}: {shown} over stories" for seed, shown in each.items())
        rows.append(
            [
                Cell(str(variant)),
                Cell(row["control"], kind="text"),
                Cell(change, row["mean"], _half(row["half_width"], 4), seeds),
                *[Cell(markdown.p_value(row[p]), row[p]) for p in ("p_holm", "p_equivalent_holm")],
                Cell(row["verdict"], kind=f"text {kind}"),
                Cell(str(row["n"]), row["n"]),
                Cell(", ".join(each.values())),
            ]
        )
    header = ["variant", "against", "change, nats a token", "p", "p, equivalence", "verdict", "seeds"]
    return Rows([*header, "each seed ± over stories"], rows)


def _fronts(analysis: Analysis) -> Rows:
    rows = []
    for front in analysis.fronts:
        names = ", ".join(v for v, on in zip(front.variants, front.on_front, strict=True) if on)
        rows.append(
            [
                Cell(front.label),
                Cell("less" if front.less_is_better else "more", kind="text"),
                Cell(names, kind="text"),
                *[Cell(markdown.spread(a, math.nan, 4), a) for a in (front.hypervolume, front.baseline_alone)],
            ]
        )
    return Rows(["figure", "better", "on the front", "hypervolume", "baseline alone"], rows)


def _changes(analysis: Analysis, table: pd.DataFrame) -> Rows:
    names = list(table.columns.get_level_values(0).unique())
    rows = []
    for variant, row in table.iterrows():
        cells = [Cell(str(variant)), Cell(analysis.controls[str(variant)], kind="text")]
        for name in names:
            change, digits = row[name], analysis.digits[name]
            better = analysis.sign(name) * change["mean"]
            kind = ("good" if better > 0 else "bad" if better < 0 else "") if change["p_holm"] < ALPHA else ""
            tests = f"p {markdown.p_value(change['p'])}, corrected {markdown.p_value(change['p_holm'])}"
            title = f"{change['down']:.0f} of {change['n']:.0f} seeds fell; {tests}"
            cells.append(
                Cell(
                    markdown.spread(change["mean"], math.nan, digits, sign="+"),
                    change["mean"],
                    _half(change["margin"], digits),
                    title,
                    kind,
                )
            )
        rows.append(cells)
    return Rows(["variant", "against", *[analysis.headings[name] for name in names]], rows)


def _ratings(rated: Rated) -> Rows:
    rows = []
    for row in rated.rates():
        cells = [Cell(f"{row[c][0]:.0%}", row[c][0], f"{row[c][1]:.0%} to {row[c][2]:.0%}") for c in CATEGORIES]
        rows.append([Cell(row["variant"]), Cell(str(row["n"]), row["n"]), *cells])
    return Rows(["variant", "neurons", *CATEGORIES], rows)


def _compute(analysis: Analysis) -> Rows:
    names = {
        "steps": "steps",
        "tokens": "tokens",
        "seconds": "seconds",
        "tokens_per_second": "tokens/s",
        "flops": "operations",
    }
    summary = comparison.over_seeds(analysis.table, list(names))
    rows = []
    for variant, row in summary.iterrows():
        cells = [Cell(markdown.spread(row[(n, "mean")], math.nan, 0), row[(n, "mean")]) for n in list(names)[:-1]]
        operations = row[("flops", "mean")]
        rows.append(
            [Cell(str(variant)), *cells, Cell("-" if math.isnan(operations) else f"{operations:.2e}", operations)]
        )
    return Rows(["variant", *names.values()], rows)


def _plain(line: str) -> str:
    """Without Markdown's marks."""
    return re.sub(r"`|\*\*|(?<!\w)\*(?=\w)|(?<=\w)\*(?!\w)", "", line.removeprefix("- "))


def _bold(line: str) -> Markup:
    """Markdown's bold and code as HTML; other marks are taken away."""
    text = re.sub(r"(?<![*\w])\*(?=[^*\s])|(?<=[^*\s])\*(?![*\w])", "", str(escape(line)))
    return Markup(re.sub(r"`(.+?)`", r"<code>\1</code>", re.sub(r"\*\*(.+?)\*\*", r"<strong>\1</strong>", text)))


def _asset(name: str) -> str:
    return (files("tti.reporting") / "web" / name).read_text(encoding="utf-8")
