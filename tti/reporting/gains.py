"""Gains: the one figure declared before the runs, above the variant's own rotation and compared with its control."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pandas as pd

from tti.reporting import comparison
from tti.reporting.losses import Sequences
from tti.reporting.statistics import ALPHA, difference_p, in_sequence

Figures = Mapping[str, pd.Series]
NOTHING = pd.Series(dtype=float, index=pd.MultiIndex.from_tuples([], names=["variant", "seed"]))


def own(scores: pd.Series, rotated: pd.Series) -> pd.Series:
    """Scores minus those of the same activations in a random basis, for the runs that have both."""
    both = scores.index.intersection(rotated.index)
    return scores.loc[both].astype(float) - rotated.loc[both].astype(float)


def beyond(figures: Figures, rotated: Figures, controls: Mapping[str, str]) -> pd.DataFrame:
    """(variant - its rotation) - (control - its rotation), paired by seed, over the seeds that have all four.

    The rotations move as any random basis would; the remaining change is about neurons.

    Returns:
        Columns ``(metric, "mean" | "margin" | "down" | "up" | "n" | "nan")``, as in :func:`comparison.against`, and
            ``(metric, "change")``, the mean change of the score itself.
    """
    there = [name for name in figures if name in rotated]
    found = comparison.against({name: own(figures[name], rotated[name]) for name in there}, controls)
    for name in there:
        found[name, "change"] = comparison.summed_up(comparison.paired(figures[name], controls), controls)["mean"]
    return found


@dataclass(frozen=True)
class Declared:
    """The gain that an experiment was made for: its metric and label, and 1 if more is better, -1 if less is."""

    metric: str
    label: str
    sign: int


def gains(
    declared: Mapping[str, Declared],
    figures: Figures,
    rotated: Figures,
    controls: Mapping[str, str],
    sequences: Sequences,
    silent: Mapping[str, str],
) -> pd.DataFrame:
    """The declared gain of each variant, tested: the strongest of each method first, since it is most likely to show.

    Args:
        declared: variant -> the gain declared for its experiment.
        figures, rotated: metric -> values of the trained models, and of their rotations.
        controls: variant -> its control.
        sequences: the variants of each method, weakest first.
        silent: variant -> why no conclusion is drawn about its interpretability.

    Returns:
        One row per variant: ``metric, n, nan, mean, margin, p`` (corrected), ``verdict``; gains are above 0.
    """
    rows: dict[str, dict[str, Any]] = {variant: {} for variant in controls}
    for gain in dict.fromkeys(declared[variant] for variant in controls):
        of = {variant: control for variant, control in controls.items() if declared[variant] == gain}
        score = own(figures.get(gain.metric, NOTHING), rotated.get(gain.metric, NOTHING))
        changed = gain.sign * comparison.paired(score, of)
        itself = comparison.summed_up(comparison.paired(figures.get(gain.metric, NOTHING), of), of)["mean"] * gain.sign
        samples = {str(variant): group.tolist() for variant, group in changed.groupby("variant", sort=False)}
        for variant, change in comparison.summed_up(changed, of).iterrows():
            rows[variant] = {"metric": gain.metric, **{name: change[name] for name in ("n", "nan", "mean", "margin")},
                             "rose": itself[variant], "p": difference_p(samples.get(variant, []))}  # fmt: skip
    p = in_sequence({variant: row["p"] for variant, row in rows.items()}, [list(each)[::-1] for each in sequences])
    for variant, row in rows.items():
        row["p"] = p[variant]
        row["verdict"] = silent.get(variant) or verdict(row["n"], row["nan"], row["mean"], row["p"], row["rose"])
    columns = ["metric", "n", "nan", "mean", "margin", "p", "verdict"]
    return pd.DataFrame.from_dict(rows, orient="index", columns=columns)


def verdict(n: int, nan: int, mean: float, p: float, rose: float) -> str:
    """The verdict in words. Nothing is gained unless the score itself rose: its rotation may have fallen instead."""
    if nan:
        return "NaN"
    if n < 2:
        return "no test with one seed" if n else "not measured"
    if math.isnan(p) or p >= ALPHA or (mean > 0 and not rose > 0):
        return "not shown"
    return "gained" if mean > 0 else "lost"
