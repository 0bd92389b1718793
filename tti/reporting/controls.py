"""Every score beside its controls: the same network untrained, and the same activations in a rotated basis."""

from collections.abc import Mapping

import numpy as np
import pandas as pd

from tti.reporting.analysis import Analysis
from tti.reporting.cells import Cell, Found, Rows

Metrics = Mapping[tuple[str, int], Mapping[str, float]]


def finding(analysis: Analysis) -> list[Found]:
    """Score, that of the rotated activations, and that of the untrained network, of every metric that has them."""
    found = analysis.found
    controls = found.rotated or found.untrained
    names = [name for name in analysis.metrics if not name.startswith("performance/")]
    names = [name for name in names if any(name in each for each in controls.values())]
    if not names:
        return []
    rows = []
    for variant in analysis.variants:
        cells = [_cell(analysis, variant, name) for name in names]
        rows.append([Cell(variant, kind="name"), Cell(analysis.controls.get(variant, ""), kind="name text"), *cells])
    note = (
        "Score (that of the same activations in a randomly rotated basis; that of the same network before training), "
        "means over seeds. **▲ ▼**: better or worse than what the variant is compared with, by more than that one "
        "differs from its own rotation. **=**: by less, so that the difference says nothing of neurons: a basis drawn "
        "at random would do as much. A score that its own rotation reaches says nothing of neurons either."
    )
    if not found.rotated:
        note += (
            " No rotation was evaluated (`python -m tti.evaluate run=... subjects=[rotation]`), so there are no marks."
        )
    header = ["variant", "against", *[analysis.headings[name] for name in names]]
    return [Found("Scores beside their controls", [note], Rows(header, rows))]


def _cell(analysis: Analysis, variant: str, name: str) -> Cell:
    digits = analysis.digits[name]
    score = float(analysis.means.loc[variant, name])
    rotated, untrained = (mean(each, variant, name) for each in (analysis.found.rotated, analysis.found.untrained))
    beside = [
        f"{what} {value:.{digits}f}"
        for what, value in (("rotated", rotated), ("untrained", untrained))
        if np.isfinite(value)
    ]
    if not np.isfinite(score):
        return Cell("-")
    change, yardstick = compared(analysis, variant, name)
    mark, kind = _mark(change, yardstick, analysis.sign(name))
    title = (
        f"change {change:+.{digits + 1}f}; the control differs from its rotation by {yardstick:.{digits + 1}f}"
        if mark
        else ""
    )
    spread = f"({'; '.join(beside)})" if beside else ""
    return Cell(f"{score:.{digits}f}{mark}", score, spread, title, kind)


def compared(analysis: Analysis, variant: str, name: str) -> tuple[float, float]:
    """The change from the control, paired by seed, and how far the control is from its rotation; NaN without one."""
    control = analysis.controls.get(variant)
    if control is None:
        return np.nan, np.nan
    values = analysis.table.set_index(["variant", "seed"])[name]
    rotated = pd.Series(
        {
            seed: each[name]
            for (owner, seed), each in analysis.found.rotated.items()
            if owner == control and name in each
        },
        dtype=float,
    )
    gap = (values.loc[control] - rotated).mean()
    return float((values.loc[variant] - values.loc[control]).mean()), abs(float(gap))


def mean(metrics: Metrics, variant: str, name: str) -> float:
    """Over the seeds that have it."""
    values = pd.Series(
        [each[name] for (owner, _), each in metrics.items() if owner == variant and name in each], dtype=float
    )
    return float(values.mean())


def _mark(change: float, yardstick: float, sign: int) -> tuple[str, str]:
    if not np.isfinite([change, yardstick]).all():
        return "", ""
    if abs(change) <= yardstick:
        return " =", ""
    return {1: (" ▲", "good"), -1: (" ▼", "bad"), 0: ("", "")}[int(np.sign(change)) * sign]
