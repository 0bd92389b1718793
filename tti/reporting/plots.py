"""Figures of a comparison. They take tidy tables and know nothing of run folders."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import matplotlib as mpl
import matplotlib.pyplot as plt
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

mpl.use("Agg")  # figures go to files; a machine without a display has no other backend
STYLE: Any = {
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.alpha": 0.25,
    "font.size": 9,
}
MARKERS = "osD^vP*X<>"


def front(runs: pd.DataFrame, x: tuple[str, str], ys: Mapping[str, str]) -> Figure:
    """One panel for each metric of ``ys`` (column -> label) over ``x``: small marks are seeds, large ones means."""
    with plt.rc_context(STYLE):
        figure, axes = plt.subplots(1, len(ys), figsize=(4 * len(ys), 4), layout="constrained", squeeze=False)
        for axis, (column, label) in zip(axes[0], ys.items(), strict=True):
            _scatter(axis, runs, x[0], column)
            axis.set(xlabel=x[1], ylabel=label)
        _legend(figure, axes[0][0])
    return figure


def curves(history: pd.DataFrame, panels: Mapping[str, str]) -> Figure:
    """One panel for each metric (column -> label) over the steps: the mean over seeds, and their range as a band."""
    with plt.rc_context(STYLE):
        figure, axes = plt.subplots(1, len(panels), figsize=(4 * len(panels), 4), layout="constrained", squeeze=False)
        for axis, (column, label) in zip(axes[0], panels.items(), strict=True):
            for variant, runs in history.dropna(subset=[column]).groupby("variant", sort=False):
                steps = runs.groupby("step")[column].agg(["mean", "min", "max"])
                (line,) = axis.plot(steps.index, steps["mean"], label=variant)
                axis.fill_between(steps.index, steps["min"], steps["max"], color=line.get_color(), alpha=0.15)
            axis.set(xlabel="step", ylabel=label)
        _legend(figure, axes[0][0])
    return figure


def save(figure: Figure, path: Path) -> None:
    """Write a figure as PNG and free it."""
    figure.savefig(path, dpi=150)
    plt.close(figure)


def _scatter(axis: Axes, runs: pd.DataFrame, x: str, y: str) -> None:
    for i, (variant, seeds) in enumerate(runs.groupby("variant", sort=False)):
        marker, color = MARKERS[i % len(MARKERS)], f"C{i % 10}"
        axis.scatter(seeds[x], seeds[y], s=14, marker=marker, color=color, alpha=0.5, linewidths=0)
        axis.scatter(seeds[x].mean(), seeds[y].mean(), s=60, marker=marker, color=color, label=variant)


def _legend(figure: Figure, axis: Axes) -> None:
    handles, labels = axis.get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=4, frameon=False)
