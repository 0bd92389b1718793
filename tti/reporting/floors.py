"""Floors of the loss: n-gram losses on the tokens that a run has seen, and the generator's own entropy."""

import math
from collections.abc import Mapping
from typing import Any

import pandas as pd

from tti.reporting.given import Given
from tti.reporting.selection import Selection

WORDS = {1: "unigram", 2: "bigram", 3: "trigram"}


def called(order: int) -> str:
    """Name of an n-gram model."""
    return WORDS.get(order, f"{order}-gram")


def table(
    selection: Selection, loss: pd.Series, split: str, orders: Mapping[str, int], floors: pd.Series | None
) -> pd.DataFrame:
    """Each run's loss next to those of n-gram models, in nats per token.

    ``summary.json`` has them under ``ngrams: {<split>: {seen: [...], split: [...]}}``, for orders 1, 2, ...

    Args:
        selection: the runs.
        loss: losses by ``variant, seed``.
        split: the split of the loss.
        orders: for each kind of corpus (``Given.corpus``), the n-gram order that a model must beat before any
            conclusion is drawn about its interpretability.
        floors: entropy of the corpus's generator by ``variant, seed``, if known.

    Returns:
        One row per run: ``variant, seed, loss, order, floor`` (the entropy), ``seen_1, ..., split_1, ...`` and
            ``beaten``: 1 if the loss is below that of the n-gram model of that order, estimated from the tokens that
            the run has seen, 0 if not, NaN if unknown.
    """
    rows = []
    for run in selection.finished:
        name, order = selection.name(run.key), int(orders[run.corpus])
        value = _at(loss, name, run.key.seed)
        counted = _counted(run, split)
        bar = counted.get(f"seen_{order}", math.nan)
        beaten = math.nan if math.isnan(bar) or math.isnan(value) else float(value < bar)
        rows.append(
            {
                "variant": name,
                "seed": run.key.seed,
                "loss": value,
                "order": order,
                "floor": _at(floors, name, run.key.seed),
                **counted,
                "beaten": beaten,
            }
        )
    return pd.DataFrame(rows)


def silent(found: pd.DataFrame) -> dict[str, str]:
    """Variant -> why no conclusion is drawn on its interpretability: an n-gram model beats a seed of it, or may."""
    reasons = {}
    for variant, runs in found.groupby("variant", sort=False):
        name = called(int(runs["order"].iloc[0]))
        if runs["beaten"].eq(0).any():
            reasons[str(variant)] = f"above the {name}"
        elif runs["beaten"].isna().any():
            reasons[str(variant)] = f"{name} unknown"
    return reasons


def _counted(run: Given, split: str) -> dict[str, float]:
    found = run.summary.get("ngrams") or {}
    lists = found.get(split) or {}
    return {
        f"{kind}_{i}": _number(value)
        for kind in ("seen", "split")
        for i, value in enumerate(lists.get(kind) or (), start=1)
    }


def _number(value: Any) -> float:
    return float(value) if isinstance(value, int | float) else math.nan


def _at(values: pd.Series | None, variant: str, seed: int) -> float:
    return math.nan if values is None else float(values.get((variant, seed), math.nan))
