"""A sweep at a glance: a live table in a terminal, otherwise a line for every change."""

import json
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

from rich.console import Console
from rich.live import Live
from rich.table import Column, Table
from rich.text import Text

from tti.launchers.job import Job

STATES = ("queued", "running", "done", "failed", "stopped")


class Board:
    """The states of jobs, and the progress of running ones."""

    def __init__(self, jobs: Sequence[Job]) -> None:
        self.console = Console(stderr=True)
        self._states = dict.fromkeys(jobs, "queued")
        self._progress: dict[Job, dict[str, float]] = {}
        self._live = Live(console=self.console, auto_refresh=False) if self.console.is_terminal else None

    def showing(self) -> AbstractContextManager[Any]:
        """A context in which a terminal shows the table."""
        return self._live or nullcontext()

    def running(self, job: Job, progress: bytes | None) -> None:
        """Record a running job; ``progress`` is its ``progress.json``, if it exists."""
        figures = _figures(progress)
        if figures:
            self._progress[job] = figures
            self._set(job, "running")

    def ended(self, job: Job, state: str, why: str = "") -> None:
        """Record that a job is ``done`` and its results are here, has ``failed``, or was ``stopped``."""
        self._progress.pop(job, None)
        self._set(job, state, why.partition("\n")[0])

    def say(self, text: str) -> None:
        """Print a line above the table."""
        self.console.print(Text(text), soft_wrap=True)

    def refresh(self) -> None:
        """Update the table."""
        if self._live:
            self._live.update(self._table(), refresh=True)

    def _set(self, job: Job, state: str, why: str = "") -> None:
        changed, self._states[job] = self._states[job] != state, state
        if changed and not self._live:
            self.say(f"{job.name}: {state} {why}".rstrip())

    def _table(self) -> Table:
        counts = [f"{count} {state}" for state in STATES if (count := list(self._states.values()).count(state))]
        table = Table(Column("run", overflow="fold"), "state", "step", "tokens/s", "loss", "left", box=None)
        table.caption = ", ".join(counts)
        for job, state in self._states.items():
            table.add_row(*map(Text, [job.name, state, *_cells(self._progress.get(job))]))
        return table


def _figures(progress: bytes | None) -> dict[str, float] | None:
    try:
        return dict(json.loads(progress)) if progress else None
    except ValueError:  # read during a write
        return None


def _cells(progress: dict[str, float] | None) -> list[str]:
    if not progress:
        return [""] * 4
    minutes = progress.get("seconds_left", float("nan")) / 60
    return [
        f"{progress.get('step', 0):,}/{progress.get('max_steps', 0):,}",
        f"{progress.get('train/tokens_per_second', 0):,.0f}",
        f"{progress.get('train/loss', float('nan')):.4f}",
        f"{minutes:.0f} min",
    ]
