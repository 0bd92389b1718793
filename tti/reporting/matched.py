"""Comparison at matched loss, and convergence, from shorter runs with their own full schedule.

A penalized model at equal steps may simply be undertrained, and some metrics improve for that reason alone.
Intermediate checkpoints of the control are not comparable, since their learning rate is still high. Its values at a
higher loss are therefore taken from runs of 0.5, 0.7 and 0.85 of its steps.
"""

import math
from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from tti.reporting.given import Given, Key

LENGTH = ("variant=", "seed=", "trainer.max_steps=", "trainer.val_check_interval=")


def shorter(runs: Sequence[Given]) -> dict[Key, Key]:
    """The runs that differ from another only in the number of steps: key -> key of the longest of them."""
    alike: dict[tuple[str, int, frozenset[str]], list[Given]] = {}
    for run in runs:
        what = frozenset(override for override in run.overrides if not override.startswith(LENGTH))
        alike.setdefault((run.key.experiment, run.key.seed, what), []).append(run)
    found: dict[Key, Key] = {}
    for same in alike.values():
        longest = max(same, key=lambda run: run.summary["steps"])
        found |= {run.key: longest.key for run in same if run.summary["steps"] < longest.summary["steps"]}
    return found


def at_loss(lengths: pd.DataFrame, loss: str, metrics: Sequence[str], value: float) -> dict[str, float]:
    """Metrics of one training where it ends with the loss ``value``, interpolated linearly in the loss.

    Args:
        lengths: one row per number of ``steps``: the final figures of a run of that length.
        loss: the column of the loss.
        metrics: columns to interpolate.
        value: the loss, in nats.

    Returns:
        One figure per metric, all NaN if no two consecutive lengths enclose the value.
    """
    ordered = lengths.dropna(subset=[loss]).sort_values("steps")
    curve = ordered[loss].to_numpy(float)
    if len(curve) and value == curve[-1]:
        return {metric: float(ordered[metric].iloc[-1]) for metric in metrics}
    low, high = np.minimum(curve[:-1], curve[1:]), np.maximum(curve[:-1], curve[1:])
    crossings = np.flatnonzero((low <= value) & (value <= high))
    if not len(crossings):
        return dict.fromkeys(metrics, math.nan)
    i = int(crossings[-1])
    share = 0.0 if curve[i + 1] == curve[i] else (value - curve[i]) / (curve[i + 1] - curve[i])
    before, after = ordered.iloc[i], ordered.iloc[i + 1]
    return {metric: float(before[metric] + share * (after[metric] - before[metric])) for metric in metrics}


def differences(lengths: pd.DataFrame, loss: str, metrics: Sequence[str], controls: Mapping[str, str]) -> pd.DataFrame:
    """Each metric's difference from the control of the same seed, both at the larger of their two final losses.

    Args:
        lengths: one row per run, full or shorter, with ``variant`` (of the full run), ``seed`` and ``steps``.
        loss, metrics: columns.
        controls: variant -> its control.

    Returns:
        One row per variant and seed that both have: ``variant, seed, loss`` (the matched one) and the metrics, NaN if
            the better of the two has no shorter runs that reach the other's loss.
    """
    runs = dict(iter(lengths.groupby(["variant", "seed"], sort=False)))
    rows = []
    for (variant, seed), ours in runs.items():
        theirs = runs.get((controls.get(str(variant), ""), seed))
        if theirs is None:
            continue
        level = max(float(run.sort_values("steps")[loss].iloc[-1]) for run in (ours, theirs))
        left, right = (at_loss(run, loss, metrics, level) for run in (ours, theirs))
        rows.append({"variant": variant, "seed": seed, "loss": level} | {m: left[m] - right[m] for m in metrics})
    return pd.DataFrame(rows, columns=["variant", "seed", "loss", *metrics])


def falls(lengths: pd.DataFrame, loss: str, share: float) -> pd.Series:
    """Fall of the loss in nats from ``share`` of the steps to the end, by ``variant, seed``, where known."""
    found = {}
    for key, runs in lengths.groupby(["variant", "seed"], sort=False):
        ordered = runs.sort_values("steps")
        near = ordered[(ordered["steps"] / ordered["steps"].iloc[-1] - share).abs() < 0.03]
        if len(near):
            found[key] = float(near[loss].iloc[-1] - ordered[loss].iloc[-1])
    index = pd.MultiIndex.from_tuples(list(found), names=["variant", "seed"])
    return pd.Series(list(found.values()), index=index, dtype=float)
