"""Cells that sum up an evaluated figure of a variant over its runs."""

import pandas as pd

from tti.reporting.cells import Cell
from tti.reporting.findings import figure
from tti.reporting.statistics import half_width

DIGITS = 3


def values(table: pd.DataFrame, column: str, variant: str) -> pd.Series:
    """The values of a column in the runs of a variant that have one."""
    return present(table[table["variant"] == variant], column)


def present(runs: pd.DataFrame, column: str) -> pd.Series:
    """The values of a column in the runs that have one."""
    return runs[column].dropna() if column in runs else pd.Series(dtype=float)


def mean(of_runs: pd.Series) -> Cell:
    """The mean over runs with its t interval."""
    return figure(float(of_runs.mean()), half_width(of_runs.tolist()), DIGITS) if len(of_runs) else Cell("-")


def lowest_to_highest(of_runs: pd.Series) -> Cell:
    """The range over runs, or the value that they share."""
    low, high = (f"{float(end):.{DIGITS}f}" for end in (of_runs.min(), of_runs.max()))
    shown = low if low == high else f"{low} to {high}"
    return Cell(shown, float(of_runs.mean())) if of_runs.notna().any() else Cell("-")
