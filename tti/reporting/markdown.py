"""Findings as Markdown."""

import math
import re

from tti.markdown import code, escaped, table
from tti.reporting.cells import Cell, Found, Rows


def section(found: Found) -> list[str]:
    """Heading, notes and table."""
    return [f"## {found.title}", *found.notes, *([rows(found.table)] if found.table.rows else [])]


def rows(shown: Rows) -> str:
    """A table, with names in backticks."""
    return table([escaped(name) for name in shown.header], [[_cell(cell) for cell in row] for row in shown.rows])


def _cell(cell: Cell) -> str:
    text = code(cell.text) if cell.text and "name" in cell.kind.split() else escaped(cell.text)
    return " ".join(filter(None, (text, escaped(cell.spread))))


def p_value(p: float) -> str:
    """A p-value with two digits, and ``<0.001`` below that."""
    if math.isnan(p):
        return "-"
    return "<0.001" if p < 0.001 else f"{p:.2g}"


def spread(mean: float, width: float, digits: int, sign: str = "") -> str:
    """``mean ± width``, or the mean alone, or ``-``."""
    if math.isnan(mean):
        return "-"
    shown = f"{mean:{sign},.{digits}f}"
    return shown if math.isnan(width) else f"{shown} ± {width:,.{digits}f}"


def plain(line: str) -> str:
    """Text without Markdown's marks, for places that do not render it."""
    text = re.sub(r"(`+) ?(.+?) ?\1(?!`)", r"\2", line.removeprefix("- "))
    text = re.sub(r"\*\*|(?<![\w\\])\*(?=\w)|(?<=\w)\*(?!\w)", "", text)
    return re.sub(r"\\([\\`*\[\]<>#|&_])", r"\1", text)
