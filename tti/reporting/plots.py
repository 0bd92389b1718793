"""Figures of a comparison. They take tidy tables and know nothing of run folders."""

import math
from collections.abc import Mapping, Sequence
from itertools import cycle
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
ROW = 0.2  # inches of the legend


def front(runs: pd.DataFrame, x: tuple[str, str], ys: Mapping[str, str]) -> Figure:
    """One panel for each metric of ``ys`` (column -> label) over ``x``: small marks are seeds, large ones means."""
    with plt.rc_context(STYLE):
        figure, axes = _panels(len(ys))
        for axis, (column, label) in zip(axes, ys.items(), strict=False):
            _scatter(axis, runs, x[0], column)
            axis.set(xlabel=x[1], ylabel=label)
        _legend(figure, axes[0])
    return figure


def curves(history: pd.DataFrame, panels: Mapping[str, str], variants: Sequence[str], log: bool = False) -> Figure:
    """One panel for each metric (column -> label) over the steps: the mean over seeds, and their range as a band.

    Args:
        history: a row a logged step.
        panels: what is shown.
        variants: all that are compared, also those not in this table: one has one colour in all figures.
        log: a logarithmic axis, for what is above 0.
    """
    with plt.rc_context(STYLE):
        figure, axes = _panels(len(panels))
        styles = _styles(variants)
        for axis, (column, label) in zip(axes, panels.items(), strict=False):
            for variant, runs in history.dropna(subset=[column]).groupby("variant", sort=False):
                steps = runs.groupby("step")[column].agg(["mean", "min", "max"])
                (line,) = axis.plot(steps.index, steps["mean"], label=variant, **styles[str(variant)])
                axis.fill_between(steps.index, steps["min"], steps["max"], color=line.get_color(), alpha=0.15)
            axis.set(xlabel="step", ylabel=label)
            if log and (history[column] > 0).any():
                axis.set_yscale("log")
        _legend(figure, *axes)
    return figure


def responses(charts: Sequence[Mapping[str, Any]]) -> Figure:
    """One panel for each chart of ``charts.strengths``: lines over a logarithmic axis, controls level with a band.

    A zero stands at the left of the axis, which is linear below the smallest other number.
    """
    with plt.rc_context(STYLE):
        figure, axes = _panels(len(charts))
        for axis, chart in zip(axes, charts, strict=False):
            for i, series in enumerate(chart["series"]):
                if not series["points"]:
                    continue  # not measured
                x, mean, low, high = zip(*series["points"], strict=True)
                axis.plot(x, mean, "o-", markersize=3, color=f"C{i % 10}", label=series["variant"])
                axis.fill_between(x, low, high, color=f"C{i % 10}", alpha=0.15)
            for dashes, rule in zip(cycle(DASHES[1:]), chart["rules"], strict=False):
                axis.axhspan(rule["low"], rule["high"], color="grey", alpha=0.15, linewidth=0)
                axis.axhline(rule["at"], color="grey", linestyle=dashes, linewidth=1, label=rule["name"])
            numbers = [point[0] for series in chart["series"] for point in series["points"] if point[0] > 0]
            powers = [
                10.0**p for p in range(math.floor(math.log10(min(numbers))), math.ceil(math.log10(max(numbers))) + 1)
            ]
            if any(point[0] == 0 for series in chart["series"] for point in series["points"]):
                axis.set_xscale("symlog", linthresh=powers[0])
                axis.set(xlim=(-powers[0] / 3, 1.5 * max(numbers)), xticks=[0, *powers[1:]])
            else:
                axis.set_xscale("log")
            axis.set(xlabel="the number that is named in the legend", ylabel=chart["y"])
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
        rows, columns, figsize=(max(7, 4 * columns), 3.6 * rows), layout="constrained", squeeze=False
    )
    for axis in axes.flat[count:]:
        axis.set_axis_off()
    return figure, list(axes.flat)


def _styles(variants: Sequence[str]) -> dict[str, Any]:
    """A colour and a dash for each variant, the same in every figure and told apart beyond ten."""
    return {
        variant: {"color": f"C{i % 10}", "linestyle": DASHES[i // 10 % len(DASHES)]}
        for i, variant in enumerate(variants)
    }


def _legend(figure: Figure, *axes: Axes) -> None:
    """Each variant once, whichever panel it is in."""
    entries = {label: handle for axis in axes for handle, label in zip(*axis.get_legend_handles_labels(), strict=True)}
    columns = max(2, round(figure.get_figwidth() / 2.5))
    width, height = figure.get_size_inches()
    figure.set_size_inches(width, height + ROW * -(-len(entries) // columns))  # not at the panels' expense
    figure.legend(entries.values(), entries.keys(), loc="outside lower center", ncols=columns, frameon=False)
