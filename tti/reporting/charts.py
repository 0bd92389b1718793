"""The data of figures: ``web/charts.js`` draws them on the page, ``plots`` for Markdown."""

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from tti.reporting import comparison
from tti.reporting.analysis import Analysis, spearman
from tti.reporting.pareto import front
from tti.reporting.statistics import half_width

MOST_POINTS = 160  # maximum points of a curve
Points = Mapping[str, tuple[float, ...]]  # x, y, and the half widths of their intervals


def plane(analysis: Analysis) -> dict[str, Any] | None:
    """The declared gain over its cost; without one, the first front; None if there is neither."""
    costs, gains = analysis.losses, analysis.gains
    points = {v: (costs.loc[v, "mean"], gains.loc[v, "mean"], costs.loc[v, "half_width"], gains.loc[v, "margin"])
              for v in analysis.controls}  # fmt: skip
    if not any(math.isfinite(y) for _, y, _, _ in points.values()):
        return next(iter(fronts(analysis)), None)
    points |= {
        control: (0.0, 0.0, math.nan, math.nan) for control in analysis.controls.values() if control not in points
    }
    labels = " or ".join(dict.fromkeys(gain.label for gain in analysis.declared.values()))
    return joined(analysis, points, "cost: change of the loss, nats", f"gain: {labels}", "more") | {"origin": True}


def fronts(analysis: Analysis) -> list[dict[str, Any]]:
    """Each front's metric over the loss."""
    shown = []
    for found in analysis.fronts:
        points: dict[str, tuple[float, ...]] = {}
        for variant in found.variants:
            pairs = [analysis.figures[name].astype(float).loc[variant] for name in (analysis.loss, found.metric)]
            points[variant] = (*[float(p.mean(skipna=False)) for p in pairs], *[half_width(p.tolist()) for p in pairs])
        better = "less" if found.less_is_better else "more"
        x = analysis.labels.get(analysis.loss, analysis.loss)
        shown.append(joined(analysis, points, x, f"{found.label} ({better} is better)", better))
    return shown


def joined(analysis: Analysis, points: Points, x: str, y: str, better: str) -> dict[str, Any]:
    """Points with intervals, in order of strength; ``better``: whether ``more`` or ``less`` of y is better."""
    there = {v: p for v, p in points.items() if math.isfinite(p[0]) and math.isfinite(p[1])}
    sign = -1 if better == "less" else 1
    on = dict(zip(there, front([p[0] for p in there.values()], [sign * p[1] for p in there.values()]), strict=True))
    methods: dict[str, list[str]] = {}
    for variant in sorted(there, key=lambda v: analysis.hues[v].rank):
        methods.setdefault(_series_of(analysis, variant), []).append(variant)
    series = [
        {"name": name, "colour": analysis.hues[variants[0]].colour, "turn": analysis.hues[variants[0]].turn,
         "points": [{"variant": v, "label": analysis.hues[v].label, "at": _rounded(there[v]), "front": bool(on[v])}
                    for v in variants]}
        for name, variants in sorted(methods.items(), key=lambda item: list(analysis.hues).index(item[1][0]))
    ]  # fmt: skip
    return {"kind": "plane", "x": x, "y": y, "better": better, "series": series}


def _series_of(analysis: Analysis, variant: str) -> str:
    """The name of a variant's series: its method, or the variant itself if it has no strength or is a baseline."""
    hue = analysis.hues[variant]
    return hue.method if hue.of > 1 else variant


def curves(logged: pd.DataFrame, panels: Mapping[str, str]) -> list[dict[str, Any]]:
    """Logged metrics over the steps, one chart per metric."""
    return [
        {"kind": "lines", "x": "step", "y": label, "series": _bands(logged, "step", name)}
        for name, label in panels.items()
    ]


def excess(analysis: Analysis) -> list[dict[str, Any]]:
    """Training cross-entropy above the control's."""
    if not analysis.controls or "train/ce" not in analysis.logged:
        return []
    above = comparison.excess(analysis.logged, "train/ce", analysis.controls)
    (chart,) = curves(above, {"train/ce": "train CE above its control's, nats"})
    return [chart | {"rules": [{"name": "control", "at": 0.0}]}]


def strengths(analysis: Analysis) -> list[dict[str, Any]]:
    """The loss and each front's metric over the strength of each method."""
    methods = analysis.table.dropna(subset=["strength"])
    counted = methods.groupby("method")["strength"].nunique()
    methods = methods[methods["method"].isin(counted[counted > 1].index)]
    if methods.empty:
        return []
    metrics = {analysis.loss: analysis.labels.get(analysis.loss, analysis.loss)}
    metrics |= {found.metric: analysis.labels[found.metric] for found in analysis.fronts}
    shown = []
    for metric, label in metrics.items():
        series = [
            {
                "variant": " · ".join(filter(None, (str(method), str(runs["knob"].iloc[0])))),
                "colour": _colour(analysis, runs["variant"]),
                "variants": True,
                "points": _band(runs, "strength", metric),
            }
            for method, runs in methods.groupby("method", sort=False)
        ]
        rules = [_rule(analysis, control, metric) for control in compared_with(analysis, methods["variant"])]
        shown.append({"kind": "lines", "x": "the number that is named in the legend", "y": label, "log": True,
                      "names": True, "series": series, "rules": rules})  # fmt: skip
    return shown


def _colour(analysis: Analysis, variants: Iterable[str]) -> int:
    colours = [analysis.hues[variant].colour for variant in variants]
    return next((colour for colour in colours if colour is not None), 0)


def compared_with(analysis: Analysis, variants: Iterable[str]) -> list[str]:
    """The controls of these variants, each once, except those that are points of the chart themselves."""
    variants = list(variants)
    controls = dict.fromkeys(analysis.controls.get(str(variant), "") for variant in variants)
    return [control for control in controls if control and control not in variants]


def _rule(analysis: Analysis, variant: str, metric: str) -> dict[str, Any]:
    """The mean over seeds as a horizontal line, with the range as a band."""
    values = analysis.table.loc[analysis.table["variant"] == variant, metric].astype(float)
    return {"name": variant, "at": values.mean(skipna=False), "low": values.min(), "high": values.max()}


def layers(analysis: Analysis) -> list[dict[str, Any]]:
    """The fronts' metrics by layer."""
    shown = []
    for name in dict.fromkeys(found.metric for found in analysis.fronts):
        label = analysis.labels[name]
        stem = name.removesuffix("mean") + "layer_"
        found = {c: int(c.removeprefix(stem)) for c in analysis.table if c.startswith(stem)}
        if name.endswith("/mean") and len(found) > 1:
            long = analysis.table.melt(["variant", "seed"], list(found), "layer", "value")
            long["layer"] = long["layer"].map(found)
            if long["value"].nunique() > 1:
                series = _bands(long, "layer", "value")
                shown.append({"kind": "lines", "x": "layer", "y": label, "whole": True, "series": series})
    return shown


def similarity(analysis: Analysis) -> list[dict[str, Any]]:
    """CKA with the baseline by layer, one chart per kind of site; two seeds of the baseline as a reference."""
    shown = []
    for kind, pairs in analysis.similarity.groupby("kind", sort=False):
        if pairs["layer"].nunique() < 2:
            continue
        series = _bands(pairs[pairs["variant"] != ""], "layer", "cka")
        chart = {"kind": "lines", "x": "layer", "y": f"CKA with the baseline, {kind}", "whole": True, "series": series}
        if len(reference := pairs[pairs["variant"] == ""]):
            chart["reference"] = {"name": "two seeds of the baseline", "points": _band(reference, "layer", "cka")}
        shown.append(chart)
    return shown


def layer_similarity(matrices: Iterable[tuple[str, str, np.ndarray]]) -> list[dict[str, Any]]:
    """CKA between the layers of each variant."""
    return [
        {"kind": "cells", "x": "layer", "y": f"{variant} · {kind}", "variant": variant,
         "values": [[float(f"{v:.4g}") for v in row] for row in matrix]}
        for variant, kind, matrix in matrices
    ]  # fmt: skip


def correlation(analysis: Analysis) -> list[dict[str, Any]]:
    """Rank correlations between the displayed metrics."""
    table = spearman(analysis.table, [name for name in analysis.metrics if analysis.sign(name)])
    if len(table) < 2:
        return []
    y = f"Spearman's ρ over at most {len(analysis.table)} runs: blue −1, orange +1"
    return [{"kind": "matrix", "x": "", "y": y, "labels": [analysis.labels[name] for name in table],
             "values": table.to_numpy().tolist()}]  # fmt: skip


def _bands(table: pd.DataFrame, x: str, y: str) -> list[dict[str, Any]]:
    return [{"variant": variant, "points": _band(rows, x, y)} for variant, rows in table.groupby("variant", sort=False)]


def _band(rows: pd.DataFrame, x: str, y: str) -> Sequence[Sequence[float]]:
    """``x, mean, low, high`` over seeds."""
    along = rows.dropna(subset=[y]).groupby(x)[y].agg(["mean", "min", "max"]).reset_index()
    if len(along) > MOST_POINTS:
        along = along.iloc[np.linspace(0, len(along) - 1, MOST_POINTS).round().astype(int)]
    return [_rounded(row) for row in along.to_numpy(float)]


def _rounded(row: Iterable[float]) -> list[float]:
    return [float(f"{value:.6g}") for value in row]
