"""A table as what it says, for Markdown and for the page alike."""

from collections.abc import Sequence
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Cell:
    """A cell: its text, the number it is sorted by, and what a pointer over it shows.

    ``kind``: ``name`` (of a variant or metric), ``text``, ``good``, ``bad``, or several of them.
    """

    text: str
    value: float | None = None
    spread: str = ""
    title: str = ""
    kind: str = ""


@dataclass(frozen=True)
class Rows:
    """A table. A variant's name in its first column makes a row part of that variant."""

    header: Sequence[str]
    rows: Sequence[Sequence[Cell]] = field(default_factory=list)
    sortable: bool = True


@dataclass(frozen=True)
class Found:
    """A finding: a heading, what must be said of it (Markdown), and its table.

    ``folded``: it is detail, which a page hides until it is asked for.
    """

    title: str
    notes: Sequence[str]
    table: Rows
    folded: bool = False
