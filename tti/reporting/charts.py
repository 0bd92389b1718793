"""The data of the page's charts; ``web/charts.js`` draws them."""

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from tti.reporting import comparison
from tti.reporting import similarity as alike
from tti.reporting.analysis import Analysis, spearman

MOST_POINTS = 160  # of a curve
WIDEST_PROFILE = 6.0  # standard deviations at the outer ring of the radar, at most


def fronts(analysis: Analysis) -> list[dict[str, Any]]:
    """Each front's figure over the loss."""
    shown = []
    for front in analysis.fronts:
        series = []
        for (variant, runs), on in zip(analysis.table.groupby("variant", sort=False), front.on_front, strict=True):
            points = runs[[analysis.primary, front.metric]].astype(float)
            mean = points.mean().tolist()
            series.append({"variant": variant, "points": points.to_numpy().tolist(), "mean": mean, "front": on})
        better = "less" if front.less_is_better else "more"
        x = analysis.labels.get(analysis.primary, analysis.primary)
        shown.append({"kind": "scatter", "x": x, "y": f"{front.label} ({better} is better)", "series": series})
    return shown


def curves(logged: pd.DataFrame, panels: Mapping[str, str]) -> list[dict[str, Any]]:
    """Logged metrics over the steps, one chart a metric."""
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
    """The loss and each front's figure over the strength of each method."""
    methods = analysis.table.dropna(subset=["strength"])
    counted = methods.groupby("method")["strength"].nunique()
    methods = methods[methods["method"].isin(counted[counted > 1].index)]
    if methods.empty:
        return []
    metrics = {analysis.primary: analysis.labels.get(analysis.primary, analysis.primary)} | {
        f.metric: f.label for f in analysis.fronts
    }
    order = list(methods["method"].unique())
    shown = []
    for metric, label in metrics.items():
        series = [
            {
                "variant": " · ".join(filter(None, (str(method), str(runs["knob"].iloc[0])))),
                "colour": order.index(method),
                "variants": True,
                "points": _band(runs, "strength", metric),
            }
            for method, runs in methods.groupby("method", sort=False)
        ]
        chart = {
            "kind": "lines",
            "x": "the number that is named in the legend",
            "y": label,
            "log": True,
            "series": series,
            "names": True,
        }
        chart["rules"] = [_rule(analysis, control, metric) for control in compared_with(analysis, methods["variant"])]
        shown.append(chart)
    return shown


def compared_with(analysis: Analysis, variants: Iterable[str]) -> list[str]:
    """The controls of these variants, each once; one that is itself a point of the chart is none of its rules."""
    variants = list(variants)
    controls = dict.fromkeys(analysis.controls.get(str(variant), "") for variant in variants)
    return [control for control in controls if control and control not in variants]


def _rule(analysis: Analysis, variant: str, metric: str) -> dict[str, Any]:
    """The mean over seeds as a level line, their range as its band."""
    values = analysis.table.loc[analysis.table["variant"] == variant, metric].astype(float)
    return {"name": variant, "at": values.mean(), "low": values.min(), "high": values.max()}


def layers(analysis: Analysis) -> list[dict[str, Any]]:
    """What the fronts and the aggregate are of, over the layers."""
    shown = []
    wanted = [*[front.metric for front in analysis.fronts], *analysis.units]
    for name in dict.fromkeys(wanted):
        label = analysis.labels.get(name, name)
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
    """CKA with the baseline over the layers, one chart a kind of site; two seeds of the baseline as reference."""
    shown = []
    for kind, pairs in alike.between_runs(analysis).groupby("kind", sort=False):
        if pairs["layer"].nunique() < 2:
            continue
        series = _bands(pairs[pairs["variant"] != ""], "layer", "cka")
        chart = {"kind": "lines", "x": "layer", "y": f"CKA with the baseline, {kind}", "whole": True, "series": series}
        if len(reference := pairs[pairs["variant"] == ""]):
            chart["reference"] = {"name": "two seeds of the baseline", "points": _band(reference, "layer", "cka")}
        shown.append(chart)
    return shown


def layer_similarity(analysis: Analysis) -> list[dict[str, Any]]:
    """CKA between the layers of each variant."""
    return [
        {
            "kind": "cells",
            "x": "layer",
            "y": f"{variant} · {kind}",
            "variant": variant,
            "values": [[float(f"{v:.4g}") for v in row] for row in matrix],
        }
        for variant, kind, matrix in alike.layers(analysis)
    ]


def radar(analysis: Analysis) -> list[dict[str, Any]]:
    """z-scores of the aggregate's parts, outwards is better."""
    if len(analysis.scores.columns) < 3:
        return []
    means = analysis.scores.groupby(analysis.table["variant"], sort=False).mean()
    most = min(WIDEST_PROFILE, max(1.0, math.ceil(float(np.nanmax(means.abs().to_numpy())))))
    axes = [analysis.labels.get(name, name) for name in means]
    series = [{"variant": v, "values": row.tolist()} for v, row in means.iterrows()]
    return [
        {
            "kind": "radar",
            "x": "",
            "y": f"z-scores, −{most:g} to {most:g}",
            "axes": axes,
            "most": most,
            "series": series,
        }
    ]


def correlation(analysis: Analysis) -> list[dict[str, Any]]:
    """Rank correlations between the metrics that are shown."""
    table = spearman(
        analysis.table, {n: label for n, label in analysis.labels.items() if "better" in analysis.metrics[n]}
    )
    if len(table) < 2:
        return []
    labels = [analysis.labels[name] for name in table]
    return [
        {
            "kind": "matrix",
            "x": "",
            "y": f"Spearman's ρ over at most {len(analysis.table)} runs: blue −1, orange +1",
            "labels": labels,
            "values": table.to_numpy().tolist(),
        }
    ]


def _bands(table: pd.DataFrame, x: str, y: str) -> list[dict[str, Any]]:
    return [{"variant": variant, "points": _band(rows, x, y)} for variant, rows in table.groupby("variant", sort=False)]


def _band(rows: pd.DataFrame, x: str, y: str) -> Sequence[Sequence[float]]:
    """``x, mean, low, high`` over seeds."""
    along = rows.dropna(subset=[y]).groupby(x)[y].agg(["mean", "min", "max"]).reset_index()
    if len(along) > MOST_POINTS:
        along = along.iloc[np.linspace(0, len(along) - 1, MOST_POINTS).round().astype(int)]
    return [[float(f"{value:.6g}") for value in row] for row in along.to_numpy(float)]
