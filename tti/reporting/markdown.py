"""Comparisons as Markdown tables."""

import math
from collections.abc import Mapping

import pandas as pd


def table(header: list[str], rows: list[list[str]]) -> str:
    """A Markdown table; the first column is text, the others are figures."""
    lines = [header, ["---", *["---:"] * (len(header) - 1)], *rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def means(summary: pd.DataFrame, labels: Mapping[str, str], digits: Mapping[str, int]) -> str:
    """``comparison.over_seeds`` as ``mean ± sd``."""
    rows = []
    for variant, row in summary.iterrows():
        cells = [spread(row[(metric, "mean")], row[(metric, "sd")], digits[metric]) for metric in labels]
        rows.append([f"`{variant}`", str(int(row[("seeds", "n")])), *cells])
    return table(["variant", "seeds", *labels.values()], rows)


def changes(
    differences: pd.DataFrame, labels: Mapping[str, str], digits: Mapping[str, int], controls: Mapping[str, str]
) -> str:
    """``comparison.against`` as ``mean ± margin (seeds that fell of all)``."""
    rows = []
    for variant, row in differences.iterrows():
        cells = [_moved(row[metric], digits[metric]) for metric in labels]
        rows.append([f"`{variant}`", f"`{controls[str(variant)]}`", *cells])
    return table(["variant", "against", *labels.values()], rows)


def _moved(change: pd.Series, digits: int) -> str:
    if not change["n"]:
        return "-"
    return (
        f"{spread(change['mean'], change['margin'], digits, sign='+')} ({int(change['down'])}/{int(change['n'])} down)"
    )


def spread(mean: float, width: float, digits: int, sign: str = "") -> str:
    """``mean ± width``, or what there is of it."""
    if math.isnan(mean):
        return "-"
    shown = f"{mean:{sign},.{digits}f}"
    return shown if math.isnan(width) else f"{shown} ± {width:,.{digits}f}"
