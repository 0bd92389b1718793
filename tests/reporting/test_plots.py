"""Figures contain the given values; their look needs human judgement."""

import math

import pandas as pd
from matplotlib.text import Text

from tti.reporting import plots
from tti.reporting.hues import Hue

CHART = {
    "x": "val loss", "y": "cosine", "better": "more", "origin": True,
    "series": [
        {"name": "l1", "colour": 0, "turn": 0, "points": [
            {"variant": "l1_1", "label": "1", "at": [1.0, 0.1, 0.2, 0.01], "front": True},
            {"variant": "l1_2", "label": "2", "at": [1.0, 0.1001, math.nan, math.nan], "front": True}]},
        {"name": "baseline", "colour": None, "turn": 0, "points": [
            {"variant": "baseline", "label": "baseline", "at": [2.0, 0.05, 0.1, 0.02], "front": False}]},
    ],
}  # fmt: skip
HUES = {"a": Hue("a", 0, 0, 0, 1, "a"), "b": Hue("b", 1, 0, 0, 1, "b")}


def test_a_method_is_one_line_through_its_strengths_with_intervals(tmp_path):
    figure = plots.plane(CHART)
    (axis,) = figure.axes
    assert [container.get_label() for container in axis.containers] == ["l1", "baseline"]
    points = [list(zip(*container.lines[0].get_data(), strict=True)) for container in axis.containers]
    assert points == [[(1.0, 0.1), (1.0, 0.1001)], [(2.0, 0.05)]]
    plots.save(figure, tmp_path / "front.png")
    assert (tmp_path / "front.png").stat().st_size > 1000


def test_strengths_are_named_at_their_points_and_no_two_names_overlap():
    figure = plots.plane(CHART)
    (axis,) = figure.axes
    figure.canvas.draw()
    names = [text for text in axis.texts if text.get_text() in ("1", "2")]
    assert len(names) == 2
    boxes = [Text.get_window_extent(text) for text in names]
    assert not boxes[0].overlaps(boxes[1])


def test_curves_average_over_seeds_and_skip_steps_without_the_metric():
    history = pd.DataFrame(
        {"variant": "a", "step": [1, 1, 2, 2, 3], "loss": [1.0, 3.0, 2.0, 2.0, None], "seed": [1, 2, 1, 2, 1]}
    )
    (line,) = plots.curves(history, {"loss": "val loss"}, HUES).axes[0].lines
    assert list(zip(*line.get_data(), strict=True)) == [(1, 2.0), (2, 2.0)]


def test_panels_wrap_and_a_variant_stands_once_in_the_legend_whichever_panel_it_is_in():
    history = pd.DataFrame({"variant": ["a", "b"], "step": [1, 1], "first": [1.0, None], "second": [None, 2.0]})
    history = history.assign(third=[1.0, 2.0], fourth=[1.0, 2.0])
    figure = plots.curves(history, dict.fromkeys(["first", "second", "third", "fourth"], "label"), HUES)
    (legend,) = figure.legends
    assert sorted(text.get_text() for text in legend.get_texts()) == ["a", "b"]
    assert sum(axis.axison for axis in figure.axes) == 4


def test_spreads_draws_a_box_a_variant_from_its_percentiles():
    quantiles = ["p05", "p25", "p50", "p75", "p95"]
    runs = pd.DataFrame([["a", 0.1, 0.2, 0.3, 0.4, 0.5], ["a", 0.3, 0.4, 0.5, 0.6, 0.7], ["b", 0, 0, 0, 0, 1]],
                        columns=["variant", *quantiles])  # fmt: skip
    (axis,) = plots.spreads(runs, quantiles, "firing rate").axes
    assert [tick.get_text() for tick in axis.get_yticklabels()] == ["b", "a"]
    medians = [
        line.get_xdata()[0] for line in axis.lines if len(set(line.get_xdata())) == 1 and len(line.get_xdata()) == 2
    ]
    assert 0.4 in [round(float(median), 6) for median in medians]


def test_a_variant_has_its_colour_also_where_others_are_missing():
    history = pd.DataFrame({"variant": ["b"], "step": [1], "loss": [1.0]})
    (line,) = plots.curves(history, {"loss": "val loss"}, HUES).axes[0].lines
    assert line.get_color() == plots.shade(HUES["b"])


def test_responses_have_their_control_as_a_band():
    chart = {"y": "loss", "rules": [{"name": "control", "at": 2.0, "low": 1.5, "high": 2.5}],
             "series": [{"variant": "l1", "colour": 0, "points": [[0.0, 1.0, 0.9, 1.1], [1e-3, 3.0, 2.9, 3.1]]},
                        {"variant": "not measured", "colour": 1, "points": []}]}  # fmt: skip
    (axis,) = plots.responses([chart]).axes
    assert [line.get_label() for line in axis.lines] == ["l1", "control"]
    assert axis.get_xscale() == "symlog"
    assert axis.patches[0].get_y() == 1.5
