"""Collapsed codes: variants whose code says nothing, or whose decoder does not read it."""

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

PART = "disentanglement/"
ACTIVE, OWN, OTHERS = (f"{PART}{name}" for name in ("active_units", "loss", "loss_shuffled"))
OF_USE = ("active_units", "latents", "kl", "loss", "token_accuracy", "bleu", "exact", "parsed")  # no scores
MARK = "collapsed"


def collapsed(figures: Mapping[str, pd.Series], controls: Mapping[str, str], least: float) -> dict[str, str]:
    """Variant -> in how many of its seeds the code collapsed, for those in which it did in any.

    The code of a seed has collapsed if it has fewer than one active latent, or if the decoder does without it: the
    *gap*, its loss with the code of another sentence less that with its own, is at most ``least`` times the mean gap of
    the variant's control (the plain autoencoder; a variant without control is its own).

    Args:
        figures: metric -> its values by ``variant, seed``.
        controls: variant -> its control.
        least: share of the control's gap.
    """
    if not {ACTIVE, OWN, OTHERS} <= figures.keys():
        return {}
    runs = pd.DataFrame({name: figures[name] for name in (ACTIVE, OWN, OTHERS)}, dtype=float)
    silent = runs[ACTIVE].lt(1) | unused(runs[OTHERS] - runs[OWN], controls, least)
    counts = silent.groupby("variant", sort=False).agg(["sum", "size"])
    return {str(variant): f"{MARK} in {some} of {seeds} seeds" for variant, some, seeds in counts.itertuples() if some}


def unused(gaps: pd.Series, controls: Mapping[str, str], least: float) -> pd.Series:
    """Whether each gap, by ``variant, seed``, is at most ``least`` times the mean gap of the variant's control."""
    usual = gaps.groupby("variant").mean()
    variants = gaps.index.get_level_values("variant")
    controlled = [controls.get(variant, variant) for variant in variants]
    return gaps.le(least * usual.reindex(controlled).set_axis(gaps.index).fillna(0.0))


def without(rows: Sequence[Mapping[str, Any]], variants: Mapping[str, str]) -> list[dict[str, Any]]:
    """Records of runs, without the scores of the codes of some variants."""
    return [
        {name: value for name, value in row.items() if row["variant"] not in variants or not _is_score(name)}
        for row in rows
    ]


def _is_score(name: str) -> bool:
    return name.startswith(PART) and not name.removeprefix(PART).startswith(OF_USE)
