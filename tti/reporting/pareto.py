"""Pareto fronts and the area that they dominate. The loss should be small, the other figure large."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from tti.reporting.comparison import over_seeds
from tti.reporting.statistics import half_width


@dataclass(frozen=True)
class Volume:
    """A hypervolume: its mean over seeds, and the half width of its t interval."""

    mean: float
    margin: float


@dataclass(frozen=True)
class Front:
    """Means over seeds of one metric against the loss, and the variants that no other dominates.

    ``volume`` is the hypervolume of all variants; ``added`` its excess over the baseline's alone.
    """

    metric: str
    label: str
    less_is_better: bool
    variants: list[str]
    on_front: list[bool]
    volume: Volume
    added: Volume


def of_seeds(
    metric: str,
    label: str,
    sign: int,
    loss: pd.Series,
    score: pd.Series,
    baselines: Sequence[str],
    untrained: tuple[float, float],
) -> Front:
    """The front of the means, and the hypervolume of every seed that all variants have.

    The reference point is the loss of untrained networks and the worse of their score and the baseline's.

    Args:
        metric, label: name and label of the score.
        sign: 1 if more of it is better, -1 if less is.
        loss, score: by ``variant, seed``, for the same variants.
        baselines: the controls of all other variants.
        untrained: mean loss and score of untrained networks, NaN if there are none.
    """
    names = [str(name) for name in score.index.get_level_values("variant").unique()]
    means = pd.concat({"loss": over_seeds(loss)["mean"], "score": over_seeds(sign * score)["mean"]}, axis=1).loc[names]
    alone = [name in baselines for name in names]
    worst = min(sign * untrained[1], float(means.loc[alone, "score"].mean()) if any(alone) else math.nan)
    seeds = pd.concat({"loss": loss, "score": sign * score.astype(float)}, axis=1).unstack("seed").dropna(axis=1)
    shared = seeds["loss"].columns.intersection(seeds["score"].columns) if len(seeds.columns) else []
    reference = (untrained[0], worst)
    known = bool(np.isfinite(reference).all())
    volumes = [
        hypervolume(seeds["loss", s].to_numpy(), seeds["score", s].to_numpy(), reference) for s in shared if known
    ]
    base = seeds[[name in baselines for name in seeds.index]]
    bases = [hypervolume(base["loss", s].to_numpy(), base["score", s].to_numpy(), reference) for s in shared if known]
    return Front(metric, label, sign < 0, names, front(means["loss"], means["score"]).tolist(), _volume(volumes),
                 _volume((np.array(volumes) - np.array(bases)).tolist()))  # fmt: skip


def front(losses: Sequence[float], scores: Sequence[float]) -> np.ndarray:
    """``[point]`` bool: no other point is at least as good in both and better in one. NaN is never on the front."""
    loss, score = np.asarray(losses, float), np.asarray(scores, float)
    no_worse = (loss[None] <= loss[:, None]) & (score[None] >= score[:, None])
    better = (loss[None] < loss[:, None]) | (score[None] > score[:, None])
    return ~(no_worse & better).any(axis=1) & np.isfinite(loss) & np.isfinite(score)


def hypervolume(losses: Sequence[float], scores: Sequence[float], reference: tuple[float, float]) -> float:
    """Area between the front and a reference point ``(loss, score)``; points worse than it in either do not count."""
    on_front = front(losses, scores)
    points = sorted(zip(np.asarray(losses, float)[on_front], np.asarray(scores, float)[on_front], strict=True))
    area, height = 0.0, reference[1]
    for loss, score in points:  # the front rises with the loss
        if loss < reference[0] and score > height:
            area += (reference[0] - loss) * (score - height)
            height = score
    return float(area)


def _volume(seeds: Sequence[float]) -> Volume:
    return Volume(float(np.mean(seeds)) if len(seeds) else math.nan, half_width(seeds))
