"""Figures of a comparison, from tidy tables; nothing here depends on run folders."""

import math
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from itertools import cycle, pairwise
from pathlib import Path
from typing import Any

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib import patheffects
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.text import Text
from matplotlib.transforms import Bbox

from tti.figures import COLOURS, INK, STYLE
from tti.reporting.hues import Hue

MARKERS = "osD^vP*X"  # one per method, so that methods differ in more than colour
DASHES = ("-", "--", ":", "-.")
RULED = ("--", ":", "-.", (0, (6, 1)), (0, (1, 3)), (0, (4, 1, 1, 1, 1, 1)))  # of lines at what is known beforehand
MOST_COLUMNS = 3
ROW = 0.2  # height of a legend row in inches
AROUND = [
    (r * math.cos(a), r * math.sin(a)) for r in (11, 17, 25, 36, 50) for a in np.linspace(0, 2 * math.pi, 17)[:-1]
]
HALO = patheffects.withStroke(linewidth=2, foreground="white")
Hues = Mapping[str, Hue]


def plane(chart: Mapping[str, Any]) -> Figure:
    """One large figure with a panel of :func:`planes`."""
    with plt.rc_context(STYLE):
        figure, axis = plt.subplots(figsize=(7, 5), layout="constrained")
        _plane(axis, chart)
        _legend(figure, axis)
        _annotate(axis, chart)
    return figure


def planes(charts: Sequence[Mapping[str, Any]]) -> Figure:
    """A panel for each chart of ``charts.fronts``.

    Methods are lines through their strengths, with intervals over seeds; the front is a step line.
    """
    with plt.rc_context(STYLE):
        figure, axes = _panels(len(charts))
        for axis, chart in zip(axes, charts, strict=False):
            _plane(axis, chart)
        _legend(figure, *axes)
        for axis, chart in zip(axes, charts, strict=False):
            _annotate(axis, chart)
    return figure


def curves(history: pd.DataFrame, panels: Mapping[str, str], hues: Hues, log: bool = False) -> Figure:
    """One panel per metric (column -> label) over the steps: the mean over seeds, with their range as a band.

    Args:
        history: one row per logged step.
        panels: the metrics.
        hues: hues of all compared variants.
        log: use a logarithmic axis if any value is above 0.
    """
    with plt.rc_context(STYLE):
        figure, axes = _panels(len(panels))
        for axis, (column, label) in zip(axes, panels.items(), strict=False):
            for variant, runs in history.dropna(subset=[column]).groupby("variant", sort=False):
                steps = runs.groupby("step")[column].agg(["mean", "min", "max"])
                hue = hues[str(variant)]
                (line,) = axis.plot(
                    steps.index,
                    steps["mean"],
                    label=variant,
                    color=shade(hue),
                    linestyle=DASHES[hue.rank % len(DASHES)],
                )
                axis.fill_between(steps.index, steps["min"], steps["max"], color=line.get_color(), alpha=0.15)
            axis.set(xlabel="step", ylabel=label)
            if log and (history[column] > 0).any():
                axis.set_yscale("log")
        _legend(figure, *axes)
    return figure


def responses(charts: Sequence[Mapping[str, Any]]) -> Figure:
    """One panel for each chart of ``charts.strengths``: lines over a logarithmic axis, controls as horizontal bands.

    A zero is placed at the left of the axis, which is linear below the smallest other number.
    """
    with plt.rc_context(STYLE):
        figure, axes = _panels(len(charts))
        for axis, chart in zip(axes, charts, strict=False):
            for series in (series for series in chart["series"] if series["points"]):
                x, mean, low, high = zip(*series["points"], strict=True)
                colour = COLOURS[series["colour"]]
                axis.plot(x, mean, "o-", markersize=3, color=colour, label=series["variant"])
                axis.fill_between(x, low, high, color=colour, alpha=0.15)
            _rules(axis, chart)
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
    """One row per variant: the middle half of a distribution as a box, its 5th to 95th percentile as whiskers.

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


def heats(charts: Sequence[Mapping[str, Any]]) -> Figure:
    """A panel for each heatmap, on one scale: variants as rows, layers as columns; without layers, two columns."""
    variants, layers = (list(dict.fromkeys(chart[name] for chart in charts)) for name in ("variant", "layer"))
    places = [(variants.index(chart["variant"]), layers.index(chart["layer"])) for chart in charts]
    if layers == [""]:
        places = [divmod(i, 2) for i in range(len(charts))]
    down, across = (1 + max(each) for each in zip(*places, strict=True))
    heights = [
        0.5 + 0.2 * max(len(chart["rows"]) for chart, place in zip(charts, places, strict=True) if place[0] == row)
        for row in range(down)
    ]
    columns = max(len(chart["columns"]) for chart in charts)
    with plt.rc_context({**STYLE, "axes.grid": False, "font.size": 7}):
        size = max(7, across * max(2.2, 0.8 + 0.32 * columns)), sum(heights)
        figure, axes = plt.subplots(
            down, across, figsize=size, height_ratios=heights, layout="constrained", squeeze=False
        )
        for axis in axes.flat:
            axis.set_axis_off()
        for chart, place in zip(charts, places, strict=True):
            axis = axes[place]
            values = np.array(chart["values"], float)
            axis.set_axis_on()
            axis.imshow(values, cmap="RdBu_r", vmin=-chart["most"], vmax=chart["most"], aspect="auto")
            slant = {"rotation": 45, "ha": "right", "rotation_mode": "anchor"} if chart.get("dense") else {}
            axis.set_xticks(range(len(chart["columns"])), chart["columns"], **slant)
            axis.set_yticks(range(len(chart["rows"])), chart["rows"])
            axis.set_title(chart["y"], fontsize=7)
            for (i, j), value in np.ndenumerate(values):
                dark = abs(value) > 0.6 * chart["most"]
                axis.text(
                    j,
                    i,
                    f"{value:.2f}".replace("-0.00", "0.00"),
                    ha="center",
                    va="center",
                    color="white" if dark else INK,
                    fontsize=6,
                )
        figure.supxlabel(charts[0]["unit"], fontsize=7)
    return figure


def save(figure: Figure, path: Path) -> None:
    """Save a figure as PNG and SVG, and close it."""
    figure.savefig(path, dpi=150)
    figure.savefig(path.with_suffix(".svg"), metadata={"Date": None})
    plt.close(figure)


def shade(hue: Hue) -> Any:
    """The colour of a variant: its method's, lighter for weaker strengths."""
    colour = INK if hue.colour is None else COLOURS[hue.colour]
    white = 0.55 * (1 - (hue.rank + 1) / hue.of)
    return tuple((1 - white) * part + white for part in mpl.colors.to_rgb(colour))


def _plane(axis: Axes, chart: Mapping[str, Any]) -> None:
    for series in chart["series"]:
        colour = INK if series["colour"] is None else COLOURS[series["colour"]]
        marker = MARKERS[-1 if series["colour"] is None else (series["colour"] + series["turn"]) % (len(MARKERS) - 1)]
        x, y, dx, dy = zip(*[point["at"] for point in series["points"]], strict=True)
        axis.errorbar(
            x,
            y,
            xerr=np.nan_to_num(dx),
            yerr=np.nan_to_num(dy),
            color=colour,
            marker=marker,
            markersize=6,
            linewidth=1.2,
            elinewidth=0.8,
            capsize=0,
            ecolor=(*mpl.colors.to_rgb(colour), 0.45),
            label=series["name"],
            zorder=3,
        )
    _rules(axis, chart)
    better = chart["better"] == "more"
    front = sorted(p["at"][:2] for series in chart["series"] for p in series["points"] if p["front"])
    if len(front) > 1:
        axis.step(
            *zip(*front, strict=True),
            where="post",
            color="grey",
            linestyle=(0, (3, 3)),
            linewidth=1,
            zorder=1,
            label="front: none is better in both",
        )
    if chart.get("origin"):
        axis.axhline(0, color="grey", linewidth=0.7, zorder=0)
        axis.axvline(0, color="grey", linewidth=0.7, zorder=0)
    axis.margins(0.12)
    axis.annotate(
        "better",
        (0.015, 0.985 if better else 0.015),
        xycoords="axes fraction",
        color="grey",
        fontsize=8,
        va="top" if better else "bottom",
    )
    axis.annotate(
        "",
        (0.01, 0.93 if better else 0.07),
        (0.05, 0.88 if better else 0.12),
        xycoords="axes fraction",
        arrowprops={"arrowstyle": "->", "color": "grey"},
    )
    axis.set(xlabel=chart["x"], ylabel="\n".join(textwrap.wrap(chart["y"], 38)))


def _rules(axis: Axes, chart: Mapping[str, Any]) -> None:
    """Horizontal lines at what is known beforehand, with bands."""
    for dashes, rule in zip(cycle(RULED), chart.get("rules", ()), strict=False):
        axis.axhspan(rule["low"], rule["high"], color="grey", alpha=0.15, linewidth=0)
        axis.axhline(rule["at"], color="grey", linestyle=dashes, linewidth=1, label=rule["name"])


def _annotate(axis: Axes, chart: Mapping[str, Any]) -> None:
    """Label points with their strengths, where nothing else is drawn."""
    axis.figure.canvas.draw()
    scale = axis.figure.dpi / 72
    points = [point for series in chart["series"] for point in series["points"]]
    taken = [
        Bbox.from_bounds(x - 5 * scale, y - 5 * scale, 10 * scale, 10 * scale)
        for x, y in axis.transData.transform([point["at"][:2] for point in points])
    ]
    taken += [text.get_window_extent() for text in axis.texts]
    crossed = [Bbox.from_bounds(x - 2 * scale, y - 2 * scale, 4 * scale, 4 * scale) for x, y in _along(axis, chart)]
    for series in chart["series"]:
        for point in series["points"] if len(series["points"]) > 1 else ():
            colour = COLOURS[series["colour"]] if series["colour"] is not None else INK
            at, anchor = axis.transData.transform(point["at"][:2]), (0.0, 0.0)
            text = axis.annotate(point["label"], point["at"][:2], anchor, textcoords="offset points", fontsize=7.5,
                                 color=colour, ha="center", va="center", zorder=4, path_effects=[HALO])  # fmt: skip
            size = Text.get_window_extent(text)
            text.remove()
            boxes = [(o, Bbox.from_bounds(at[0] + o[0] * scale - size.width / 2, at[1] + o[1] * scale - size.height / 2,
                                          size.width, size.height)) for o in AROUND]  # fmt: skip
            inside = [each for each in boxes if axis.bbox.containsx(each[1].x0) and axis.bbox.containsx(each[1].x1)
                      and axis.bbox.containsy(each[1].y0) and axis.bbox.containsy(each[1].y1)]  # fmt: skip
            free = [each for each in inside if not any(each[1].overlaps(other) for other in taken)]
            clear = [each for each in free if not any(each[1].overlaps(other) for other in crossed)]
            for offset, box in (clear or free)[:1]:
                far = {"arrowstyle": "-", "color": colour, "linewidth": 0.5, "alpha": 0.6, "shrinkA": 0, "shrinkB": 3}
                axis.annotate(point["label"], point["at"][:2], offset, textcoords="offset points", fontsize=7.5,
                              color=colour, ha="center", va="center", zorder=4, path_effects=[HALO],
                              arrowprops=far if math.hypot(*offset) > 18 else None)  # fmt: skip
                taken.append(box)


def _along(axis: Axes, chart: Mapping[str, Any]) -> Iterator[np.ndarray]:
    """Pixels on the intervals and lines of a chart."""
    for series in chart["series"]:
        points = [np.array(point["at"]) for point in series["points"]]
        ends = [(p[:2] - d, p[:2] + d) for p in points for d in np.diag(np.nan_to_num(p[2:]))]
        for start, end in [*ends, *((a[:2], b[:2]) for a, b in pairwise(points))]:
            first, last = axis.transData.transform([start, end])
            yield from np.linspace(first, last, 2 + int(np.hypot(*(last - first)) / 6))


def _panels(count: int) -> tuple[Figure, list[Axes]]:
    columns = min(count, MOST_COLUMNS)
    rows = -(-count // columns)
    figure, axes = plt.subplots(
        rows, columns, figsize=(max(7, 4 * columns), 3.6 * rows), layout="constrained", squeeze=False
    )
    for axis in axes.flat[count:]:
        axis.set_axis_off()
    return figure, list(axes.flat)


def _legend(figure: Figure, *axes: Axes) -> None:
    """A legend with each variant once, whichever panel it is in."""
    entries = {label: handle for axis in axes for handle, label in zip(*axis.get_legend_handles_labels(), strict=True)}
    columns = max(2, round(figure.get_figwidth() / 2.5))
    width, height = figure.get_size_inches()
    figure.set_size_inches(width, height + ROW * -(-len(entries) // columns))  # not at the panels' expense
    figure.legend(entries.values(), entries.keys(), loc="outside lower center", ncols=columns, frameon=False)
