"""Figures of a comparison. They take tidy tables and know nothing of run folders."""

from collections.abc import Mapping, Sequence
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
    "svg.fonttype": "none",  # text stays text
    "svg.hashsalt": "tti",  # equal figures are equal files
}
MARKERS = "osD^vP*X<"  # nine, beside ten colours: no pair of the two comes twice
DASHES = ("-", "--", ":", "-.")
MOST_COLUMNS = 3


def front(runs: pd.DataFrame, x: tuple[str, str], ys: Mapping[str, str]) -> Figure:
    """One panel for each metric of ``ys`` (column -> label) over ``x``: small marks are seeds, large ones means."""
    with plt.rc_context(STYLE):
        figure, axes = _panels(len(ys))
        for axis, (column, label) in zip(axes, ys.items(), strict=False):
            _scatter(axis, runs, x[0], column)
            axis.set(xlabel=x[1], ylabel=label)
        _legend(figure, axes[0])
    return figure


def curves(history: pd.DataFrame, panels: Mapping[str, str]) -> Figure:
    """One panel for each metric (column -> label) over the steps: the mean over seeds, and their range as a band."""
    with plt.rc_context(STYLE):
        figure, axes = _panels(len(panels))
        styles = _styles(history)
        for axis, (column, label) in zip(axes, panels.items(), strict=False):
            for variant, runs in history.dropna(subset=[column]).groupby("variant", sort=False):
                steps = runs.groupby("step")[column].agg(["mean", "min", "max"])
                (line,) = axis.plot(steps.index, steps["mean"], label=variant, **styles[str(variant)])
                axis.fill_between(steps.index, steps["min"], steps["max"], color=line.get_color(), alpha=0.15)
            axis.set(xlabel="step", ylabel=label)
        _legend(figure, *axes)
    return figure


def spreads(runs: pd.DataFrame, quantiles: Sequence[str], label: str) -> Figure:
    """A row a variant: the middle half of a distribution as a box, its 5th to 95th percentile as whiskers.

    ``quantiles`` are the columns with the 5th, 25th, 50th, 75th and 95th percentile; they are averaged over seeds.
    """
    means = runs.groupby("variant", sort=False)[list(quantiles)].mean().dropna()
    keys = ("whislo", "q1", "med", "q3", "whishi")
    boxes = [
        {**dict(zip(keys, row, strict=True)), "label": variant}
        for variant, row in zip(means.index, means.values, strict=True)
    ]
    with plt.rc_context(STYLE):
        figure, axis = plt.subplots(figsize=(7, 0.8 + 0.27 * len(boxes)), layout="constrained")
        axis.bxp(boxes[::-1], orientation="horizontal", showfliers=False, widths=0.6)
        axis.set(xlabel=label)
    return figure


def save(figure: Figure, path: Path) -> None:
    """Write a figure as PNG, and as SVG beside it, and free it."""
    figure.savefig(path, dpi=150)
    figure.savefig(path.with_suffix(".svg"), metadata={"Date": None})
    plt.close(figure)


def _scatter(axis: Axes, runs: pd.DataFrame, x: str, y: str) -> None:
    for i, (variant, seeds) in enumerate(runs.groupby("variant", sort=False)):
        marker, color = MARKERS[i % len(MARKERS)], f"C{i % 10}"
        axis.scatter(seeds[x], seeds[y], s=14, marker=marker, color=color, alpha=0.5, linewidths=0)
        axis.scatter(seeds[x].mean(), seeds[y].mean(), s=60, marker=marker, color=color, label=variant)


def _panels(count: int) -> tuple[Figure, list[Axes]]:
    columns = min(count, MOST_COLUMNS)
    rows = -(-count // columns)
    figure, axes = plt.subplots(
        rows, columns, figsize=(max(6, 4 * columns), 3.8 * rows), layout="constrained", squeeze=False
    )
    for axis in axes.flat[count:]:
        axis.set_axis_off()
    return figure, list(axes.flat)


def _styles(table: pd.DataFrame) -> dict[str, Any]:
    """A colour and a dash for each variant, the same in every panel and told apart beyond ten."""
    variants = table["variant"].unique()
    return {str(variant): {"color": f"C{i % 10}", "linestyle": DASHES[i // 10]} for i, variant in enumerate(variants)}


def _legend(figure: Figure, *axes: Axes) -> None:
    """Each variant once, whichever panel it is in."""
    entries = {label: handle for axis in axes for handle, label in zip(*axis.get_legend_handles_labels(), strict=True)}
    figure.legend(
        entries.values(),
        entries.keys(),
        loc="outside lower center",
        ncols=max(2, round(figure.get_figwidth() / 2.5)),
        frameon=False,
    )
