"""The declared aggregate of interpretability: a weighted mean of z-scores whose scale no compared run can move."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd


@dataclass(frozen=True)
class Unit:
    """What one metric counts from and in: ``z = sign (value - baseline) / size``.

    ``sign``: 1 where more is better, -1 where less is. ``weight``: its voice in the mean, 0 for none. ``baseline,
    untrained``: the means of the two groups. ``spread``: the standard deviation of both together, each counted as one
    half, ``sqrt((var_b + var_r) / 2 + (b - r)² / 4)``. ``floor``: the declared fraction of the metric's natural range
    below which no unit falls.
    """

    sign: int
    weight: float
    baseline: float
    untrained: float
    spread: float
    floor: float

    @property
    def size(self) -> float:
        """The larger of spread and floor.

        Without the floor, a metric on which a trained and an untrained network hardly differ has a tiny unit, and any
        change of it drowns the others.
        """
        return max(self.spread, self.floor)


def units(
    declared: Mapping[str, Mapping[str, float]],
    floor: float,
    signs: Mapping[str, int],
    baseline: pd.DataFrame,
    untrained: pd.DataFrame,
) -> dict[str, Unit]:
    """The unit of each metric that both groups have, from them and the declaration alone.

    So 0 is the baseline, and neither adding nor removing a compared run changes another's score. What the metric does
    on untrained networks is in the scale, never in the sign.

    Args:
        declared: metric -> ``weight`` (0: it gets a z-score, but no voice) and ``range`` (the width of the interval of
            its possible values).
        floor: the smallest unit, as a fraction of that range.
        signs: metric -> 1 where more is better, -1 where less is.
        baseline: the rows of the baseline.
        untrained: the same metrics of random-init networks.

    Raises:
        ValueError: a range or the floor is not positive, a weight is negative, or what is better is not said.
    """
    found = {}
    for metric, declaration in declared.items():
        smallest = floor * declaration["range"]
        if not smallest > 0:
            raise ValueError(f"aggregate: the floor ({floor}) and the range of {metric} must be above 0")
        if declaration["weight"] < 0 or not signs.get(metric):
            raise ValueError(
                f"aggregate: the weight of {metric} must be 0 or more, and metrics must say what is `better`"
            )
        b, r = (_values(group, metric) for group in (baseline, untrained))
        if len(b) and len(r):
            spread = float(np.sqrt((b.var() + r.var()) / 2 + (b.mean() - r.mean()) ** 2 / 4))
            found[metric] = Unit(
                signs[metric], declaration["weight"], float(b.mean()), float(r.mean()), spread, smallest
            )
    return found


def z_scores(runs: pd.DataFrame, scale: Mapping[str, Unit]) -> pd.DataFrame:
    """Each metric of each run in its unit, upwards is better; a row a run."""
    scores = {
        metric: unit.sign * (runs[metric] - unit.baseline) / unit.size
        for metric, unit in scale.items()
        if metric in runs
    }
    return pd.DataFrame(scores, index=runs.index)


def aggregate(scores: pd.DataFrame, scale: Mapping[str, Unit]) -> pd.Series:
    """Weighted mean of z-scores; NaN where a run lacks one of them, or none has a voice: no score is made up."""
    size = pd.Series({metric: scale[metric].weight for metric in scores if scale[metric].weight}, dtype=float)
    total: pd.Series = (scores[size.index] * size).sum(axis=1, skipna=False) / (size.sum() or np.nan)
    return total


def without_one(scores: pd.DataFrame, scale: Mapping[str, Unit]) -> pd.DataFrame:
    """The lowest and highest aggregate of each run when one metric is left out: does one of them decide?

    NaN where there is one only.
    """
    voices = [metric for metric in scores if scale[metric].weight]
    left = [aggregate(scores.drop(columns=metric), scale) for metric in voices]
    rest = pd.concat(left, axis=1) if left else pd.DataFrame(index=scores.index, dtype=float)
    return pd.DataFrame({"low": rest.min(axis=1, skipna=False), "high": rest.max(axis=1, skipna=False)})


def _values(group: pd.DataFrame, metric: str) -> np.ndarray:
    return group[metric].dropna().to_numpy(float) if metric in group else np.array([])
