"""The tables that Markdown and page share."""

import math

from tti.reporting import controls, markdown, similarity
from tti.reporting.analysis import AGGREGATE, Analysis
from tti.reporting.cells import Cell, Found, Rows
from tti.reporting.statistics import half_width


def beside_the_front(analysis: Analysis) -> list[Found]:
    """What the aggregate is made of."""
    if AGGREGATE not in analysis.metrics:
        return []
    labels = {name: analysis.headings.get(name, name) for name in analysis.units}
    rows = []
    for variant, runs in analysis.table.groupby("variant", sort=False):
        z = analysis.scores.loc[runs.index].mean()
        width, (low, high) = half_width(runs[AGGREGATE].dropna()), analysis.without_one.loc[variant]
        mean = float(runs[AGGREGATE].mean())
        rows.append(
            [
                Cell(str(variant), kind="name"),
                Cell(_signed(mean), mean, "" if math.isnan(width) else f"± {width:.2f}"),
                Cell("-" if math.isnan(low) else f"{low:+.2f} to {high:+.2f}", low),
                *[Cell(_signed(float(z[name])), float(z[name])) for name in analysis.scores],
            ]
        )
    header = ["variant", "aggregate", "without one metric", *[f"z: {labels[name]}" for name in analysis.scores]]
    notes = [
        "Weighted mean of z-scores over what was declared to count as interpretable; 0 is the baseline, more is "
        "better. *Without one metric*: the lowest and highest aggregate when one of them is left out. If these differ "
        "much, one metric decides and its own front says more."
    ]
    return [Found("The aggregate", notes, Rows(header, rows)), _units(analysis, labels)]


def _units(analysis: Analysis, labels: dict[str, str]) -> Found:
    rows = [
        [
            Cell(labels[name], kind="text"),
            Cell(f"{unit.weight:g}", unit.weight),
            *[Cell(f"{value:.4g}", value) for value in (unit.baseline, unit.untrained, unit.spread, unit.floor)],
            Cell(f"{unit.size:.4g} ({'spread' if unit.spread > unit.floor else 'floor'})", unit.size),
        ]
        for name, unit in analysis.units.items()
    ]
    notes = [
        "The unit is the standard deviation of the baseline and its untrained networks together, but never less than "
        f"the floor, {analysis.config.aggregate.floor:.0%} of the metric's declared range: where training hardly moves "
        "a metric, its spread would make a loud unit of nothing. No compared run is part of it. Weight 0: shown, "
        "without a voice."
    ]
    return Found(
        "Its units", notes, Rows(["metric", "weight", "baseline", "untrained", "spread", "floor", "unit"], rows)
    )


def doubts(analysis: Analysis) -> list[Found]:
    """What a sceptic asks of the figures."""
    return [*controls.finding(analysis), *similarity.finding(analysis), *analysis.audit]


def _signed(value: float) -> str:
    return markdown.spread(value, math.nan, 2, sign="+")
