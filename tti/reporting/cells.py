"""Tables by content, rendered by Markdown and by the page."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace


@dataclass(frozen=True)
class Cell:
    """A cell: its text, the number that it is sorted by, and its tooltip.

    ``kind``: ``name`` (of a variant or metric), ``text``, ``good``, ``bad``, or several of them.
    """

    text: str
    value: float | None = None
    spread: str = ""
    title: str = ""
    kind: str = ""


@dataclass(frozen=True)
class Rows:
    """A table. A variant's name in the first column assigns the row to that variant."""

    header: Sequence[str]
    rows: Sequence[Sequence[Cell]] = field(default_factory=list)
    sortable: bool = True

    def marked(self, notes: Mapping[str, str]) -> "Rows":
        """The table with a note beside the names in its first column that have one."""
        rows = [[replace(row[0], spread=notes.get(row[0].text, row[0].spread)), *row[1:]] for row in self.rows]
        return replace(self, rows=rows)


@dataclass(frozen=True)
class Found:
    """A finding: a heading, notes (Markdown), and a table.

    ``folded``: a detail that the page hides until it is opened.
    """

    title: str
    notes: Sequence[str]
    table: Rows
    folded: bool = False
