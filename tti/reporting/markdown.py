"""Comparisons as Markdown tables."""

import math
from collections.abc import Mapping

import pandas as pd

from tti.markdown import table
from tti.reporting.cells import Cell, Found, Rows
from tti.reporting.statistics import ALPHA


def section(found: Found) -> list[str]:
    """Heading, notes and table."""
    return [f"## {found.title}", *found.notes, *([rows(found.table)] if found.table.rows else [])]


def rows(shown: Rows) -> str:
    """A table, its names in backticks."""
    return table(list(shown.header), [[_cell(cell) for cell in row] for row in shown.rows])


def _cell(cell: Cell) -> str:
    text = f"`{cell.text}`" if cell.text and "name" in cell.kind.split() else cell.text
    return " ".join(filter(None, (text, cell.spread)))


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
    """``comparison.against`` as ``mean ± margin (seeds that fell of all)``, starred where the corrected test "
    "rejects."""
    rows = []
    for variant, row in differences.iterrows():
        cells = [_moved(row[metric], digits[metric]) for metric in labels]
        rows.append([f"`{variant}`", f"`{controls[str(variant)]}`", *cells])
    return table(["variant", "against", *labels.values()], rows)


def losses(changed: pd.DataFrame) -> str:
    """``losses.changes``: the change over seeds, its tests and verdict, and each seed's own change."""
    header = ["variant", "against", "change, nats", "p", "p, equivalence", "verdict", "seeds"]
    rows = []
    for variant, row in changed.iterrows():
        seeds = ", ".join(
            f"{seed}: {spread(change, row['within'][seed], 4, sign='+')}" for seed, change in row["seeds"].items()
        )
        change = spread(row["mean"], row["half_width"], 4, sign="+")
        tests = [p_value(row["p_holm"]), p_value(row["p_equivalent_holm"])]
        rows.append([f"`{variant}`", f"`{row['control']}`", change, *tests, row["verdict"], f"({seeds})"])
    return table(header, rows)


def p_value(p: float) -> str:
    """Two figures, and nothing made up below 0.001."""
    if math.isnan(p):
        return "-"
    return "<0.001" if p < 0.001 else f"{p:.2g}"


def _moved(change: pd.Series, digits: int) -> str:
    if not change["n"]:
        return "-"
    star = "*" if change["p_holm"] < ALPHA else ""
    shown = spread(change["mean"], change["margin"], digits, sign="+")
    return f"{shown}{star} ({int(change['down'])}/{int(change['n'])} down)"


def spread(mean: float, width: float, digits: int, sign: str = "") -> str:
    """``mean ± width``, or what there is of it."""
    if math.isnan(mean):
        return "-"
    shown = f"{mean:{sign},.{digits}f}"
    return shown if math.isnan(width) else f"{shown} ± {width:,.{digits}f}"
