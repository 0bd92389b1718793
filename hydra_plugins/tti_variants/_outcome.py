"""The table at the end of a sweep."""

from collections import Counter
from pathlib import Path

from rich.console import Console
from rich.table import Column, Table
from rich.text import Text

from tti.runs import Run

LOG_WIDTH = 240  # characters


def report(folders: list[str], failure: BaseException | None) -> bool:
    """Print the outcome of the runs in ``folders``; returns whether all have finished and nothing failed."""
    runs = [Run(Path(folder)) for folder in folders]
    figures = [Column(head, no_wrap=True, min_width=len(head)) for head in ("state", "val loss", "steps", "tokens/s")]
    table = Table(Column("run", overflow="fold", min_width=20), *figures, Column("why", overflow="fold"), box=None)
    for run in runs:
        table.add_row(*map(Text, _row(run)))  # as text: a message may contain what looks like markup
    console = Console(stderr=True)
    if not console.is_terminal:  # a log, whose lines may be long
        console.width = LOG_WIDTH
    console.print(table)
    counts = Counter(run.status for run in runs)
    console.print(", ".join(f"{count} {status}" for status, count in counts.items()))
    if failure is None and counts["finished"] == len(runs):
        return True
    if isinstance(failure, Exception) and not counts["failed"]:  # a folder held another run, a worker was lost, ...
        console.print(Text(f"error: {failure}"))
    console.print("Repeat the command to continue what has not finished.")
    return False


def _row(run: Run) -> list[str]:
    name = "/".join(run.folder.parts[-2:])
    if run.status != "finished":
        return [name, run.status, "", "", "", run.failure.partition("\n")[0]]
    summary = run.summary
    figures = [f"{summary['metrics']['val/loss']:.4f}", f"{summary['steps']:,}", f"{summary['tokens_per_second']:,.0f}"]
    return [name, run.status, *figures, ""]
