"""What a variant costs in loss: paired with its control by seed and, within a seed, by story."""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from tti.reporting.statistics import ALPHA, difference_p, equivalence_p, half_width, holm, ratio
from tti.reporting.tables import StoryLosses


def changes(
    runs: pd.DataFrame,
    primary: str,
    margin: float,
    controls: Mapping[str, str],
    stories: Mapping[tuple[str, int], StoryLosses],
) -> pd.DataFrame:
    """The change of the loss from each variant's control, with tests over seeds.

    Where both runs of a seed have losses by story, the change is that over all stories, and ``within`` the half width
    of its interval over stories: how well these two trainings are told apart on this split. Only the interval over
    seeds (``margin``) speaks of the method.

    Args:
        runs: the tidy table.
        primary: the column of the loss where there are no losses by story.
        margin: nats within which a change counts as none, declared before the runs.
        controls: variant -> what it is compared with.
        stories: by variant and seed.

    Returns:
        A row a variant: ``control, n, mean, half_width, p, p_holm, p_equivalent, p_equivalent_holm, verdict`` and
        ``seeds`` (seed -> change), ``within`` (seed -> half width, NaN without stories). Both families of tests are
        corrected (Holm) for the number of variants.
    """
    loss = runs.set_index(["variant", "seed"])[primary]
    rows: dict[str, dict[str, Any]] = {}
    for variant, control in controls.items():
        both = [seed for seed in loss.loc[[variant]].index.get_level_values("seed") if (control, seed) in loss.index]
        paired = {seed: _paired((variant, seed), (control, seed), loss, stories) for seed in both}
        paired = {seed: change for seed, change in paired.items() if math.isfinite(change[0])}
        sample = [change for change, _ in paired.values()]
        rows[variant] = {
            "control": control,
            "n": len(sample),
            "mean": float(np.mean(sample)) if sample else math.nan,
            "half_width": half_width(sample),
            "p": difference_p(sample),
            "p_equivalent": equivalence_p(sample, margin),
            "seeds": {seed: change for seed, (change, _) in paired.items()},
            "within": {seed: within for seed, (_, within) in paired.items()},
        }
    p = holm({variant: row["p"] for variant, row in rows.items()})
    equivalent = holm({variant: row["p_equivalent"] for variant, row in rows.items()})
    for variant, row in rows.items():
        row |= {"p_holm": p[variant], "p_equivalent_holm": equivalent[variant]}
        row["verdict"] = verdict(row["n"], row["mean"], p[variant], equivalent[variant])
    columns = ["control", "n", "mean", "half_width", "p", "p_holm", "p_equivalent", "p_equivalent_holm", "verdict"]
    return pd.DataFrame.from_dict(rows, orient="index", columns=[*columns, "seeds", "within"])


def verdict(n: int, mean: float, p: float, p_equivalent: float) -> str:
    """In words. Only the equivalence test makes a change *free*; a difference that was not found is *undecided*."""
    if n < 2:
        return "no test with one seed" if n else "no pair of seeds"
    if p_equivalent < ALPHA:
        return "free (within the margin)"
    if p < ALPHA:
        return "costs" if mean > 0 else "gains"
    return "undecided"


def _paired(
    run: tuple[str, int], control: tuple[str, int], loss: pd.Series, stories: Mapping[tuple[str, int], StoryLosses]
) -> tuple[float, float]:
    ours, theirs = stories.get(run), stories.get(control)
    if ours is None or theirs is None or not np.array_equal(ours.tokens, theirs.tokens):
        return float(loss[run] - loss[control]), math.nan
    return ratio(ours.nll - theirs.nll, ours.tokens)
