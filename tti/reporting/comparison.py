"""Runs compared over seeds: means, spreads, and differences from the baseline paired by seed."""

import fnmatch
from collections.abc import Mapping, Sequence

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


def controls_of(variants: Sequence[str], baseline: str, others: Mapping[str, str]) -> dict[str, str]:
    """What each variant is compared with: the control of the first glob in ``others`` that it matches, or the baseline.

    A control is compared with the baseline; the baseline with nothing.

    Raises:
        ValueError: a control is not among the variants.
    """
    for control in (baseline, *others.values()):
        if control not in variants:
            raise ValueError(f"no finished run of the baseline {control!r}; there is {', '.join(variants)}")
    chosen = {}
    for variant in variants:
        matching = (control for glob, control in others.items() if fnmatch.fnmatchcase(variant, glob))
        control = next(matching, baseline)
        chosen[variant] = baseline if control == variant else control
    del chosen[baseline]
    return chosen


def against(runs: pd.DataFrame, metrics: Sequence[str], controls: Mapping[str, str]) -> pd.DataFrame:
    """Change of each metric from the run of the same seed of each variant's control.

    Returns:
        A row a variant in ``controls``; columns ``(metric, "mean" | "margin" | "down" | "up" | "n")``: the mean
        change, the half width of its t interval (df = seeds - 1; not a number for one seed), in how many seeds it
        fell or rose, and how many seeds there are in both.
    """
    values = runs.set_index(["variant", "seed"])[list(metrics)]
    rows = {}
    for variant, control in controls.items():
        change = (values.loc[variant] - values.loc[control]).dropna(how="all")
        rows[variant] = {(m, name): value for m in metrics for name, value in _change(change[m]).items()}
    columns = pd.MultiIndex.from_product([metrics, ["mean", "margin", "down", "up", "n"]])
    return pd.DataFrame.from_dict(rows, orient="index", columns=columns)


def excess(history: pd.DataFrame, metric: str, controls: Mapping[str, str]) -> pd.DataFrame:
    """How far a logged metric is above the control's at the same step and seed: ``variant, seed, step, <metric>``."""
    logged = history.dropna(subset=[metric]).set_index(["variant", "seed", "step"])[metric]
    differences = {variant: logged.loc[variant] - logged.loc[control] for variant, control in controls.items()}
    return pd.concat(differences, names=["variant"]).dropna().reset_index(name=metric)


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
