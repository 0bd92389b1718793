"""The comparison as one self-contained HTML page: it opens from disk, loads nothing, and follows the reader's theme."""

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from markupsafe import Markup, escape

from tti.reporting import (
    assets,
    charts,
    disentanglement,
    document,
    encoding,
    every,
    findings,
    markdown,
    modularity,
    summary,
)
from tti.reporting.analysis import Analysis
from tti.reporting.cells import Cell, Found, Rows
from tti.reporting.pictures import Pictures
from tti.reporting.rating import CATEGORIES, Rated

CORRELATION_RUNS = 5  # minimum runs for a rank correlation


@dataclass(frozen=True)
class Section:
    """A section of the page; it is omitted if empty."""

    title: str
    notes: Sequence[str] = ()
    table: Rows | None = None
    charts: Sequence[str] = ()
    images: Sequence[Mapping[str, str]] = ()
    folded: bool = False

    @property
    def empty(self) -> bool:
        """Whether the section has no content."""
        return not ((self.table and self.table.rows) or self.charts or self.images)


@dataclass
class Charts:
    """The charts of the page, by name."""

    made: dict[str, dict[str, Any]] = field(default_factory=dict)

    def add(self, charts: Sequence[dict[str, Any]]) -> list[str]:
        """Add charts; returns their names."""
        names = [f"chart{len(self.made) + i}" for i in range(len(charts))]
        self.made |= dict(zip(names, charts, strict=True))
        return names


def html(analysis: Analysis, rated: Rated, pictures: Pictures, folder: str, browsed: bool, court: str) -> str:
    """Render the page.

    Args:
        analysis: the analysis.
        rated: the raters' results.
        pictures: pictures of neurons.
        folder: folder of the other files, next to the page.
        browsed: whether it contains a neuron browser.
        court: address of a court's page; empty without one.
    """
    drawn = Charts()
    chart = charts.plane(analysis)
    first = findings.first(analysis)
    top = Section(
        first.title,
        [_bold(note) for note in first.notes],
        first.table,
        drawn.add([chart | {"wide": True, "title": f"{chart['y']} over {chart['x']}"}] if chart else []),
    )
    sections = [section for section in _sections(analysis, rated, pictures, drawn) if not section.empty]
    links = [("Which scores to believe", court)] if court else []
    links += [("Neuron browser", f"{folder}/browser/index.html")] if browsed else []
    links += [("Move a latent", f"{folder}/latents.html")] if disentanglement.shown(analysis) else []
    links += [("Blind rating", f"{folder}/rating/index.html")] if rated.sampled else []
    links += [
        ("Markdown", f"{folder}.md"),
        ("All runs (CSV)", f"{folder}/runs.csv"),
        ("All figures (CSV)", f"{folder}/figures.csv"),
    ]
    shown = {
        variant: {"colour": hue.colour, "turn": hue.turn, "rank": hue.rank, "of": hue.of}
        for variant, hue in analysis.hues.items()
    }
    return assets.rendered(
        "page.html",
        title=document.title(analysis.config),
        links=links,
        first=top,
        summary=[_bold(line) for line in summary.sentences(analysis)],
        facts=[_bold(line) for line in document.provenance(analysis)],
        remarks=[_bold(line) for line in analysis.remarks],
        variants=analysis.variants,
        sections=sections,
        charts=drawn.made,
        data=Markup(encoding.inline({"variants": shown, "charts": drawn.made})),
    )


def _sections(analysis: Analysis, rated: Rated, pictures: Pictures, drawn: Charts) -> list[Section]:
    labels = analysis.labels
    logged = {name: labels.get(name, name) for name in analysis.config.figures.curves if name in analysis.logged}
    curves = [*charts.curves(analysis.logged, logged), *charts.excess(analysis)]
    agreeing = charts.correlation(analysis) if len(analysis.table) >= CORRELATION_RUNS else []
    beside = {
        "Fronts": charts.fronts(analysis),
        "Similarity to the baseline's representations": charts.similarity(analysis),
        **modularity.charts(analysis),
        **disentanglement.drawn(analysis),
    }
    found = [_found(each, drawn.add(beside.get(each.title, []))) for each in every.tables(analysis)]
    return [
        *found,
        Section("Strength", [STRENGTH], charts=drawn.add(charts.strengths(analysis)), folded=True),
        Section("Layers", [BANDS], charts=drawn.add(charts.layers(analysis)), folded=True),
        Section("Training", [BANDS], charts=drawn.add(curves), folded=True),
        Section("Firing rates", [FIRING], charts=drawn.add(pictures.firing), folded=True),
        Section("Do the metrics agree?", [AGREEING], charts=drawn.add(agreeing), folded=True),
        Section("Map of neurons", [pictures.note], charts=drawn.add(pictures.map), folded=True),
        Section("Blind rating", [markdown.plain(rated.summary())], _ratings(rated)),
        Section("Every figure", [EVERY], _every(analysis).marked(analysis.collapsed), folded=True),
        Section(
            "Similarity of the layers of a model",
            [LAYERS],
            charts=drawn.add(charts.layer_similarity(pictures.layers)),
            folded=True,
        ),
        Section("Cosines between neurons", [HEATMAPS], images=pictures.heatmaps, folded=True),
        Section("Time and operations", [COST], _compute(analysis).marked(analysis.collapsed), folded=True),
    ]


def _found(found: Found, charts: Sequence[str] = ()) -> Section:
    return Section(found.title, [_bold(note) for note in found.notes], found.table, charts, folded=found.folded)


STRENGTH = (
    "Figures over the one number in which the variants of a method differ (λ, the fraction kept, ...; logarithmic, "
    "0 at the left): mean over seeds, with their range as a band. Dashed: the method's control, with the range of "
    "its seeds."
)
BANDS = "Mean over seeds; the band is their range."
FIRING = "Distribution over neurons of the share of tokens on which they fire (|a| ≥ 0.01), over all layers and seeds."
AGREEING = (
    "Spearman's rank correlation over all runs. Metrics that a method moves together correlate here without "
    "measuring the same thing."
)
LAYERS = "Debiased linear CKA between the layers of one model, over all tokens, mean over seeds: 1 equal, 0 unrelated."
HEATMAPS = (
    "Cosine of every pair of neurons over all tokens, one seed of each variant; blue −1, white 0, red +1. Neurons "
    "are in arbitrary order: only the texture is comparable."
)
EVERY = (
    "Every compared figure of every variant: mean over seeds, change from the control, and change beyond a rotation, "
    "each with its t interval. Estimates, not tests. Click a variant above to hide its rows, a heading to sort."
)
COST = (
    "Operations: 6 (P + V d) per token, without attention over positions. Speeds are comparable only between runs "
    "that had a machine to themselves."
)


def _every(analysis: Analysis) -> Rows:
    rows = []
    for name in analysis.metrics:
        digits = analysis.digits[name]
        for variant in analysis.variants:
            beside = findings.beside(analysis, variant, name)
            cells = [findings.change(table, variant, name, digits) for table in (analysis.changes, analysis.beyond)]
            rows.append(
                [
                    Cell(variant),
                    Cell(analysis.headings[name], kind="text"),
                    findings.mean_of_seeds(analysis, variant, name),
                    *cells,
                    *[
                        findings.figure(beside[key], beside[f"{key}_margin"], digits)
                        for key in ("rotated", "untrained")
                    ],
                ]
            )
    return Rows(["variant", "figure", "mean", "change", "beyond a rotation", "rotated", "untrained"], rows)


def _ratings(rated: Rated) -> Rows:
    rows = []
    for row in rated.rates():
        cells = [Cell(f"{row[c][0]:.0%}", row[c][0], f"{row[c][1]:.0%} to {row[c][2]:.0%}") for c in CATEGORIES]
        rows.append([Cell(row["variant"]), Cell(str(row["n"]), row["n"]), *cells])
    return Rows(["variant", "neurons", *CATEGORIES], rows)


def _compute(analysis: Analysis) -> Rows:
    names = {"steps": "steps", "tokens": "tokens", "seconds": "seconds", "tokens_per_second": "tokens/s"}
    means = analysis.table.groupby("variant", sort=False)[[*names, "flops"]].mean()
    rows = []
    for variant, row in means.iterrows():
        cells = [findings.figure(row[name], math.nan, 0) for name in names]
        shown = "-" if math.isnan(row["flops"]) else f"{row['flops']:.2e}"
        rows.append([Cell(str(variant)), *cells, Cell(shown, row["flops"])])
    return Rows(["variant", *names.values(), "operations"], rows)


def _bold(line: str) -> Markup:
    """Markdown's bold and code as HTML; other marks are removed."""
    found = re.split(r"(`+ ?.+? ?`+)", line)
    words = [
        Markup("<code>{}</code>").format(markdown.plain(part)) if i % 2 else _strong(part)
        for i, part in enumerate(found)
    ]
    return Markup("").join(words)


def _strong(text: str) -> Markup:
    parts = re.split(r"\*\*(.+?)\*\*", text)
    return Markup("").join(
        Markup("<strong>{}</strong>").format(markdown.plain(part)) if i % 2 else escape(markdown.plain(part))
        for i, part in enumerate(parts)
    )
