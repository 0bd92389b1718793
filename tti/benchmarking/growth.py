"""Cost against the amount of work: points, the powers with which they grow, and their table."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby

from tti.benchmarking.memory import NONE
from tti.benchmarking.section import Section

MEANING = (
    "Every point is measured in a process of its own. Peak MiB: beyond what was in use before the work, without "
    "weights and optimizer state (of a report: of the whole process). Powers p are those of cost ~ work^p since the "
    "point before: 1 is proportional (dotted in the figure), 0 does not grow."
)


@dataclass(frozen=True)
class Point:
    """One measurement.

    Attributes:
        line: name of what was measured, of which other points have other amounts.
        amount: of work.
        seconds: in the unit of the panel.
        mib: peak memory; NaN where it cannot be measured.
    """

    line: str
    amount: float
    seconds: float
    mib: float


@dataclass(frozen=True)
class Panel:
    """Points with one kind of work.

    Attributes:
        title: the work.
        amount: what is counted.
        seconds: what the seconds are for.
        points: those of one line in a row, by ascending amount.
        notes: what was measured, and how it should grow.
    """

    title: str
    amount: str
    seconds: str
    points: tuple[Point, ...]
    notes: tuple[str, ...] = ()

    @property
    def lines(self) -> dict[str, list[Point]]:
        """The points by line."""
        return {name: list(points) for name, points in groupby(self.points, lambda point: point.line)}

    def section(self) -> Section:
        """The table of the points."""
        header = ["", self.amount, self.seconds, "power", "peak MiB", "power"]
        rows = [row for points in self.lines.values() for row in _rows(points)]
        return Section(self.title, header, rows, self.notes)


def power(work: Sequence[float], cost: Sequence[float]) -> float:
    """The power ``p`` with which a cost grows as ``work ** p`` between two points; NaN if it is undefined."""
    (before, after), (less, more) = work, cost
    if before == after or not (less > 0 and more > 0):
        return math.nan
    return math.log(more / less) / math.log(after / before)


def _rows(points: Sequence[Point]) -> list[list[str]]:
    rows = []
    for before, point in zip([points[0], *points], points, strict=False):
        work = before.amount, point.amount
        seconds, mib = power(work, (before.seconds, point.seconds)), power(work, (before.mib, point.mib))
        costs = [_figure(point.seconds), _spelled(seconds), _figure(point.mib), _spelled(mib)]
        rows.append([f"`{point.line}`", f"{point.amount:,.0f}", *costs])
    return rows


def _spelled(power: float) -> str:
    return NONE if math.isnan(power) else f"{power:.2f}"


def _figure(value: float) -> str:
    """Three significant digits."""
    if math.isnan(value):
        return NONE
    return f"{value:,.0f}" if value >= 100 else f"{value:#.3g}"
