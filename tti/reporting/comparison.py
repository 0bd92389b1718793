"""Runs compared over seeds: means, spreads, and differences from the baseline paired by seed."""

import fnmatch
from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from tti.reporting.statistics import difference_p, half_width, holm


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
        A row a variant in ``controls``; columns ``(metric, "mean" | "margin" | "down" | "up" | "n" | "p" | "p_holm")``:
        the mean change, the half width of its t interval (df = seeds - 1; not a number for one seed), in how many
        seeds it fell or rose, how many seeds there are in both, and the p of the paired t test, as it is and corrected
        for the number of all tests in the table.
    """
    values = runs.set_index(["variant", "seed"])[list(metrics)]
    changed = {
        variant: (values.loc[variant] - values.loc[control]).dropna(how="all") for variant, control in controls.items()
    }
    return tested({(variant, metric): changed[variant][metric] for variant in changed for metric in metrics})


def tested(samples: Mapping[tuple[str, str], pd.Series]) -> pd.DataFrame:
    """The table that :func:`against` describes, from the changes over seeds of each ``(variant, metric)``."""
    cells = {key: _change(sample) for key, sample in samples.items()}
    corrected = holm({key: cell["p"] for key, cell in cells.items()})
    rows: dict[str, dict[tuple[str, str], float]] = {}
    for (variant, metric), cell in cells.items():
        row = rows.setdefault(variant, {})
        row |= {(metric, name): value for name, value in cell.items()}
        row[metric, "p_holm"] = corrected[variant, metric]
    columns = list(dict.fromkeys(metric for _, metric in samples))
    names = pd.MultiIndex.from_product([columns, ["mean", "margin", "down", "up", "n", "p", "p_holm"]])
    return pd.DataFrame.from_dict(rows, orient="index", columns=names)


def excess(history: pd.DataFrame, metric: str, controls: Mapping[str, str]) -> pd.DataFrame:
    """How far a logged metric is above the control's at the same step and seed: ``variant, seed, step, <metric>``."""
    logged = history.dropna(subset=[metric]).set_index(["variant", "seed", "step"])[metric]
    differences = {variant: logged.loc[variant] - logged.loc[control] for variant, control in controls.items()}
    return pd.concat(differences, names=["variant"]).dropna().reset_index(name=metric)


def _change(change: pd.Series) -> dict[str, float]:
    change = change.dropna()
    return {
        "mean": change.mean() if len(change) else np.nan,
        "margin": half_width(change),
        "down": int((change < 0).sum()),
        "up": int((change > 0).sum()),
        "n": len(change),
        "p": difference_p(change),
    }
