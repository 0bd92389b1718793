"""Comparison at matched loss: what a control looked like when its loss was where the other's ended.

A penalised model at equal steps may just be undertrained, and some metrics improve by that alone.
"""

import math
from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd


def at_loss(history: pd.DataFrame, loss: str, metrics: Sequence[str], value: float) -> dict[str, float]:
    """The metrics of one run where its validation loss last passed ``value``, interpolated linearly in the loss.

    Args:
        history: one run's logged steps.
        loss: the column of the loss.
        metrics: columns to read.
        value: the loss, nats.

    Returns:
        One figure a metric, all NaN where no two consecutive validations enclose the value.
    """
    validated = history.dropna(subset=[loss]).sort_values("step")
    curve = validated[loss].to_numpy(float)
    crossings = np.flatnonzero(
        (np.minimum(curve[:-1], curve[1:]) <= value) & (value <= np.maximum(curve[:-1], curve[1:]))
    )
    if not len(crossings):
        return dict.fromkeys(metrics, math.nan)
    i = int(crossings[-1])
    share = 0.0 if curve[i + 1] == curve[i] else (value - curve[i]) / (curve[i + 1] - curve[i])
    before, after = validated.iloc[i], validated.iloc[i + 1]
    return {m: float(before[m] + share * (after[m] - before[m])) if m in validated else math.nan for m in metrics}


def differences(history: pd.DataFrame, loss: str, metrics: Sequence[str], controls: Mapping[str, str]) -> pd.DataFrame:
    """Each metric's difference from the control of the same seed, both at the larger of their two final losses.

    Returns:
        A row a variant and seed of both: ``variant, seed, loss`` (the matched one) and the metrics.
    """
    runs = dict(iter(history.groupby(["variant", "seed"], sort=False)))
    rows = []
    for (variant, seed), logged in runs.items():
        control = runs.get((controls.get(str(variant), ""), seed))
        if control is None or loss not in logged or control[loss].isna().all() or logged[loss].isna().all():
            continue
        level = max(logged.dropna(subset=[loss])[loss].iloc[-1], control.dropna(subset=[loss])[loss].iloc[-1])
        ours, theirs = (at_loss(run, loss, metrics, level) for run in (logged, control))
        rows.append({"variant": variant, "seed": seed, "loss": level} | {m: ours[m] - theirs[m] for m in metrics})
    return pd.DataFrame(rows, columns=["variant", "seed", "loss", *metrics])
