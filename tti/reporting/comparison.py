"""Comparisons over seeds: means, spreads, and differences from a control paired by seed."""

import fnmatch
from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import pandas as pd

from tti.reporting.statistics import half_width

SIGNS = {"more": 1, "less": -1}  # of changes of a metric, by what is better


def over_seeds(values: pd.Series) -> pd.DataFrame:
    """Mean and standard deviation of a metric over seeds.

    Args:
        values: with the index ``variant, seed``, for the runs in which the metric was measured.

    Returns:
        One row per variant, in order of first appearance: ``mean, sd`` (n - 1; NaN for one seed), ``n``, and ``nan``,
            the number of seeds with NaN. If there is one, mean and deviation are NaN too: the remaining seeds would be
            a sample selected by its outcome.
    """
    groups = values.astype(float).groupby("variant", sort=False)
    nan = groups.size() - groups.count()
    return pd.DataFrame({"mean": groups.mean().where(nan == 0), "sd": groups.std().where(nan == 0),
                         "n": groups.size(), "nan": nan})  # fmt: skip


def of_variant(values: pd.Series | None, variant: str) -> pd.Series:
    """A variant's values by seed, of values by ``variant, seed``; empty if there are none."""
    if values is None or variant not in values.index.get_level_values("variant"):
        return pd.Series(dtype=float, index=pd.Index([], name="seed", dtype=int))
    return values.astype(float).loc[variant]


def controls_of(variants: Sequence[str], baseline: str, others: Mapping[str, str]) -> dict[str, str]:
    """Each variant's control: that of the first glob in ``others`` that matches, or else the baseline.

    A control is compared with the baseline; the baseline with nothing.

    Raises:
        ValueError: a control is not among the variants.
    """
    for control in (baseline, *others.values()):
        if control not in variants:
            raise ValueError(f"no finished run of the baseline {control!r}; there are {', '.join(variants)}")
    chosen = {}
    for variant in variants:
        matching = (control for glob, control in others.items() if fnmatch.fnmatchcase(variant, glob))
        control = next(matching, baseline)
        chosen[variant] = baseline if control == variant else control
    del chosen[baseline]
    return chosen


def paired(values: pd.Series, controls: Mapping[str, str]) -> pd.Series:
    """Each variant's values minus those of its control with the same seed, for the seeds that both have.

    Args:
        values: with the index ``variant, seed``.
        controls: variant -> its control.
    """
    by_variant = {
        str(v): group.droplevel("variant") for v, group in values.astype(float).groupby("variant", sort=False)
    }
    nothing = pd.Series(dtype=float, index=pd.Index([], name="seed", dtype=int))
    changed = {}
    for variant, control in controls.items():
        ours, theirs = (by_variant.get(name, nothing) for name in (variant, control))
        both = ours.index.intersection(theirs.index)
        changed[variant] = ours.loc[both] - theirs.loc[both]
    return pd.concat(changed, names=["variant"]) if changed else values.iloc[:0].astype(float)


def summed_up(changes: pd.Series, variants: Iterable[str]) -> pd.DataFrame:
    """Summary over seeds of changes from :func:`paired`.

    Returns:
        One row per variant: ``mean``; ``margin``, the half width of its t interval (df = seeds - 1; NaN for one seed);
            ``down, up``, the number of seeds in which the figure fell or rose; ``n``, the number of seeds; and ``nan``,
            the number of NaN among them, which make mean and interval NaN.
    """
    seeds = {str(variant): group.to_numpy(float) for variant, group in changes.groupby("variant", sort=False)}
    rows = {variant: _change(seeds.get(variant, np.empty(0))) for variant in variants}
    return pd.DataFrame.from_dict(rows, orient="index", columns=list(_change(np.empty(0))))


def against(figures: Mapping[str, pd.Series], controls: Mapping[str, str]) -> pd.DataFrame:
    """:func:`summed_up` changes of each metric from each variant's control: columns ``(metric, "mean" | ...)``."""
    tables = {name: summed_up(paired(values, controls), controls) for name, values in figures.items()}
    return pd.concat(tables, axis=1) if tables else pd.DataFrame(index=list(controls))


def excess(history: pd.DataFrame, metric: str, controls: Mapping[str, str]) -> pd.DataFrame:
    """A logged metric minus the control's at the same step and seed: ``variant, seed, step, <metric>``."""
    logged = history.dropna(subset=[metric]).set_index(["variant", "seed", "step"])[metric]
    differences = {variant: logged.loc[variant] - logged.loc[control] for variant, control in controls.items()}
    return pd.concat(differences, names=["variant"]).dropna().reset_index(name=metric)


def _change(change: np.ndarray) -> dict[str, float]:
    nan = int(np.isnan(change).sum())
    defined = len(change) > 0 and not nan
    return {
        "mean": float(change.mean()) if defined else np.nan,
        "margin": half_width(change.tolist()) if defined else np.nan,
        "down": int((change < 0).sum()),
        "up": int((change > 0).sum()),
        "n": len(change),
        "nan": nan,
    }
