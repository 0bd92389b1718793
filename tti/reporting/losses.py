"""Costs in loss: paired with the control by seed and, within a seed, by story."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from tti.reporting import statistics
from tti.reporting.statistics import ALPHA, difference_p, equivalence_p, half_width, in_sequence, ratio
from tti.reporting.tables import StoryLosses

Sequences = Sequence[Sequence[str]]


def changes(
    loss: pd.Series,
    margins: Mapping[str, float],
    controls: Mapping[str, str],
    sequences: Sequences,
    stories: Mapping[tuple[str, int], StoryLosses],
) -> pd.DataFrame:
    """The change in loss from each variant's control, with tests over seeds.

    If both runs of a seed have losses by story, the change is over all stories, and ``within`` is the half width of its
    interval over stories, which says how well these two training runs are distinguished on this split. Only the
    interval over seeds (``half_width``) is about the method. If either loss of a seed is NaN, every figure is NaN.

    Args:
        loss: losses by ``variant, seed``, used without losses by story.
        margins: variant -> nats within which a change counts as none, declared before the runs.
        controls: variant -> its control.
        sequences: the variants of each method, weakest first. Equivalence is tested in this order, and a difference in
            the reverse order: weak variants are probably free, strong ones probably differ.
        stories: losses by story, by variant and seed.

    Returns:
        One row per variant: ``control, margin, n, mean, half_width, p, p_equivalent`` (both corrected,
            :func:`statistics.in_sequence`), ``verdict``, ``detectable`` (nats that this many seeds detect at the level
            of the first test), ``needed`` (seeds that would decide), ``seeds`` (seed -> change), and ``within`` (seed
            -> half width, NaN without stories).
    """
    rows: dict[str, dict[str, Any]] = {}
    seeds: dict[str, list[int]] = {}
    for owner, seed in loss.index:
        seeds.setdefault(owner, []).append(int(seed))
    for variant, control in controls.items():
        paired = {seed: _paired((variant, seed), (control, seed), loss, stories)
                  for seed in seeds.get(variant, ()) if (control, seed) in loss.index}  # fmt: skip
        sample = [change for change, _ in paired.values()]
        rows[variant] = {
            "control": control,
            "margin": margins[variant],
            "n": len(sample),
            "mean": float(np.mean(sample)) if sample else math.nan,
            "half_width": half_width(sample),
            "p": difference_p(sample),
            "p_equivalent": equivalence_p(sample, margins[variant]),
            "seeds": {seed: change for seed, (change, _) in paired.items()},
            "within": {seed: within for seed, (_, within) in paired.items()},
        }
    p = in_sequence({v: row["p"] for v, row in rows.items()}, [list(s)[::-1] for s in sequences])
    equivalent = in_sequence({v: row["p_equivalent"] for v, row in rows.items()}, sequences)
    for variant, row in rows.items():
        row |= {"p": p[variant], "p_equivalent": equivalent[variant]}
        row["verdict"] = verdict(row["n"], row["mean"], p[variant], equivalent[variant])
        row |= _power(row, len(sequences))
    columns = ["control", "margin", "n", "mean", "half_width", "p", "p_equivalent", "verdict", "detectable", "needed"]
    return pd.DataFrame.from_dict(rows, orient="index", columns=[*columns, "seeds", "within"])


def verdict(n: int, mean: float, p: float, p_equivalent: float) -> str:
    """The verdict. Only the equivalence test makes a change *free*; an undetected difference is *undecided*."""
    if n and math.isnan(mean):
        return "NaN"
    if n < 2:
        return "no test with one seed" if n else "no pair of seeds"
    if p_equivalent < ALPHA:
        return "free"
    if p < ALPHA:
        return "costs" if mean > 0 else "lowers it"
    return "undecided"


def _power(row: Mapping[str, Any], methods: int) -> dict[str, float]:
    level = ALPHA / max(1, methods)
    sd = float(np.std(list(row["seeds"].values()), ddof=1)) if row["n"] > 1 else math.nan
    needed = statistics.seeds_needed(row["mean"], sd, row["margin"], level) if row["verdict"] == "undecided" else 0
    return {"detectable": statistics.detectable(sd, row["n"], level), "needed": needed}


def _paired(
    run: tuple[str, int], control: tuple[str, int], loss: pd.Series, stories: Mapping[tuple[str, int], StoryLosses]
) -> tuple[float, float]:
    ours, theirs = stories.get(run), stories.get(control)
    if ours is None or theirs is None or not np.array_equal(ours.tokens, theirs.tokens):
        return float(loss[run] - loss[control]), math.nan
    return ratio(ours.nll - theirs.nll, ours.tokens)
