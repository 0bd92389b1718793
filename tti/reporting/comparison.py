"""Runs compared over seeds: means, spreads, and differences from the baseline paired by seed."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from scipy import stats

CONFIDENCE = 0.95


def over_seeds(runs: pd.DataFrame, metrics: Sequence[str]) -> pd.DataFrame:
    """Mean and standard deviation (n - 1; not a number for one seed) of each metric for each variant.

    Args:
        runs: a row a finished run, with the columns ``variant``, ``seed`` and the metrics.
        metrics: the columns to summarise.

    Returns:
        A row a variant in the order of first appearance; columns ``(metric, "mean" | "sd")`` and ``("seeds", "n")``.
    """
    groups = runs.groupby("variant", sort=False)
    summary = groups[list(metrics)].agg(["mean", "std"]).rename(columns={"std": "sd"}, level=1)
    summary[("seeds", "n")] = groups.size()
    return summary


def against(runs: pd.DataFrame, metrics: Sequence[str], baseline: str) -> pd.DataFrame:
    """Change of each metric from the baseline's run of the same seed.

    Returns:
        A row a variant but the baseline; columns ``(metric, "mean" | "margin" | "down" | "up" | "n")``: the mean
        change, the half width of its t interval (df = seeds - 1; not a number for one seed), in how many seeds it
        fell or rose, and how many seeds there are in both.

    Raises:
        ValueError: there is no such baseline among the runs.
    """
    known = list(runs["variant"].unique())
    if baseline not in known:
        raise ValueError(f"no finished run of the baseline {baseline!r}; there is {', '.join(known)}")
    values = runs.set_index(["variant", "seed"])[list(metrics)]
    rows = {}
    for variant in known:
        if variant != baseline:
            change = (values.loc[variant] - values.loc[baseline]).dropna(how="all")
            rows[variant] = {(m, name): value for m in metrics for name, value in _change(change[m]).items()}
    columns = pd.MultiIndex.from_product([metrics, ["mean", "margin", "down", "up", "n"]])
    return pd.DataFrame.from_dict(rows, orient="index", columns=columns)


def _change(change: pd.Series) -> dict[str, float]:
    change = change.dropna()
    return {
        "mean": change.mean() if len(change) else np.nan,
        "margin": margin(change),
        "down": int((change < 0).sum()),
        "up": int((change > 0).sum()),
        "n": len(change),
    }


def margin(sample: pd.Series) -> float:
    """Half width of the t interval for the mean of a sample; not a number for fewer than two values."""
    if len(sample) < 2:
        return float("nan")
    return float(stats.t.ppf((1 + CONFIDENCE) / 2, len(sample) - 1) * sample.std() / np.sqrt(len(sample)))
