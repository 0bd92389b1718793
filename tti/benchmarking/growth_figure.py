"""The figure of cost against the amount of work."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.ticker import LogLocator, NullFormatter, NullLocator

from tti.benchmarking.growth import Panel, Point
from tti.figures import COLOURS, INK, STYLE

ALONE: dict[str, Any] = {"color": INK, "marker": "o", "markersize": 5}  # look of a panel's only line
MARKERS, DASHES = "osD^vP*X<>", ("-", "--", ":")  # lines differ in more than colour
COLUMNS = 4
PROPORTIONAL = "proportional"
DECADE = 10  # the least range of an axis


def draw(panels: Sequence[Panel], path: Path) -> None:
    """Write the figure: for every panel seconds above memory, on logarithmic axes, with a dotted line of power 1."""
    blocks = [panels[start : start + COLUMNS] for start in range(0, len(panels), COLUMNS)]
    with plt.rc_context(STYLE):
        figure = plt.figure(figsize=(3 * COLUMNS + 2, 5 * len(blocks)), layout="constrained")
        for part, block in zip(figure.subfigures(len(blocks), 1, squeeze=False)[:, 0], blocks, strict=True):
            axes = part.subplots(2, COLUMNS, squeeze=False, sharex="col")
            for column, panel in zip(axes.T, block, strict=False):
                _panel(column, panel)
            for axis in axes[:, len(block) :].flat:
                axis.set_axis_off()
            handles = {str(handle.get_label()): handle for axis in axes.flat for handle in axis.get_lines()}
            part.legend(handles.values(), handles.keys(), loc="outside right center", frameon=False)
        figure.savefig(path, dpi=100)
        plt.close(figure)


def _panel(column: Sequence[Axes], panel: Panel) -> None:
    amounts = sorted({point.amount for point in panel.points})
    for axis, key, unit in zip(column, ("seconds", "mib"), (panel.seconds, "peak MiB"), strict=True):
        for number, (name, points) in enumerate(panel.lines.items()):
            values = [getattr(point, key) for point in points]
            look = _look(number) if len(panel.lines) > 1 else ALONE
            axis.plot([point.amount for point in points], values, label=name, **look)
        _proportional(axis, panel.points, key)
        axis.set(xscale="log", ylabel=unit)
        axis.set_xticks(_apart(amounts), [_short(amount) for amount in _apart(amounts)])
        axis.xaxis.set_minor_locator(NullLocator())
        if any(getattr(point, key) > 0 for point in panel.points):
            _logarithmic(axis)
    column[0].set_title(panel.title, fontsize=9)
    column[1].set_xlabel(panel.amount)


def _logarithmic(axis: Axes) -> None:
    """A logarithmic axis of costs, of a decade or more: what does not grow looks level."""
    axis.set_yscale("log")
    low, high = axis.get_ylim()
    if high < DECADE * low:
        axis.set_ylim((low * high / DECADE) ** 0.5, (low * high * DECADE) ** 0.5)
    axis.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axis.yaxis.set_minor_formatter(NullFormatter())
    axis.yaxis.set_major_formatter(lambda value, _: f"{value:,.6g}")


def _look(number: int) -> Mapping[str, Any]:
    return {
        "color": COLOURS[number % len(COLOURS)],
        "marker": MARKERS[number % len(MARKERS)],
        "linestyle": DASHES[number // len(COLOURS) % len(DASHES)],
        "markersize": 5,
    }


def _proportional(axis: Axes, points: Sequence[Point], key: str) -> None:
    """A dotted line of power 1 through the middle of the points."""
    there = np.array([(point.amount, getattr(point, key)) for point in points])
    there = there[(there > 0).all(1)]
    if len(there):
        amount, cost = np.exp(np.log(there).mean(0))
        ends = np.array([there[:, 0].min(), there[:, 0].max()])
        axis.plot(ends, cost * ends / amount, ":", color="#888888", label=PROPORTIONAL, zorder=0)


def _apart(amounts: Sequence[float]) -> list[float]:
    """Those of ascending amounts whose labels do not touch."""
    least = (amounts[-1] / amounts[0]) ** 0.2
    kept = [amounts[0]]
    for amount in amounts[1:]:
        if amount >= kept[-1] * least:
            kept.append(amount)
    return kept


def _short(amount: float) -> str:
    """``30122112`` -> ``30.1M``."""
    size, unit = next(((size, unit) for size, unit in ((1e6, "M"), (1e3, "k")) if amount >= size), (1, ""))
    return f"{amount / size:.3g}{unit}"
