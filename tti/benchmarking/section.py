"""Sections of figures, which a table yields, as Markdown and for the terminal."""

from dataclasses import dataclass

from rich.markup import escape
from rich.table import Column, Table

from tti import markdown


@dataclass(frozen=True)
class Section:
    """A titled table whose first column is text, with notes that explain it."""

    title: str
    header: list[str]
    rows: list[list[str]]
    notes: tuple[str, ...] = ()

    def markdown(self) -> str:
        """The section as Markdown."""
        notes = "\n".join(f"- {note}" for note in self.notes)
        return "\n\n".join(filter(None, [f"## {self.title}", markdown.table(self.header, self.rows), notes]))

    def terminal(self) -> Table:
        """The section for a terminal."""
        first, *others = self.header
        columns = [Column(first, overflow="fold"), *(Column(name, justify="right", overflow="fold") for name in others)]
        table = Table(*columns, title=self.title, title_justify="left", box=None)
        for row in self.rows:
            table.add_row(*(escape(cell.replace("`", "")) for cell in row))
        return table
