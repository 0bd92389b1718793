"""Figures hold what they are given. How they look is for people to judge."""

import pandas as pd

from tti.reporting import plots

RUNS = pd.DataFrame({"variant": ["a", "a", "b"], "seed": [1, 2, 1], "loss": [1.0, 3.0, 4.0], "cosine": [0.1, 0.3, 0.2]})


def test_front_shows_every_seed_and_every_mean(tmp_path):
    figure = plots.front(RUNS, ("loss", "val loss"), {"cosine": "mean abs cos"})
    (axis,) = figure.axes
    points = [tuple(point) for mark in axis.collections for point in mark.get_offsets()]
    assert points == [(1.0, 0.1), (3.0, 0.3), (2.0, 0.2), (4.0, 0.2), (4.0, 0.2)]
    plots.save(figure, tmp_path / "front.png")
    assert (tmp_path / "front.png").stat().st_size > 1000


def test_curves_average_over_seeds_and_skip_steps_without_the_metric():
    history = pd.DataFrame(
        {"variant": "a", "step": [1, 1, 2, 2, 3], "loss": [1.0, 3.0, 2.0, 2.0, None], "seed": [1, 2, 1, 2, 1]}
    )
    (line,) = plots.curves(history, {"loss": "val loss"}, ["a"]).axes[0].lines
    assert list(zip(*line.get_data(), strict=True)) == [(1, 2.0), (2, 2.0)]


def test_panels_wrap_and_a_variant_stands_once_in_the_legend_whichever_panel_it_is_in():
    history = pd.DataFrame({"variant": ["a", "b"], "step": [1, 1], "first": [1.0, None], "second": [None, 2.0]})
    history = history.assign(third=[1.0, 2.0], fourth=[1.0, 2.0])
    figure = plots.curves(history, dict.fromkeys(["first", "second", "third", "fourth"], "label"), ["a", "b"])
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
    (line,) = plots.curves(history, {"loss": "val loss"}, ["a", "b"]).axes[0].lines
    assert line.get_color() == "C1"


def test_responses_have_their_control_as_a_band():
    chart = {"y": "loss", "rules": [{"name": "control", "at": 2.0, "low": 1.5, "high": 2.5}],
             "series": [{"variant": "l1", "points": [[0.0, 1.0, 0.9, 1.1], [1e-3, 3.0, 2.9, 3.1]]},
                        {"variant": "not measured", "points": []}]}  # fmt: skip
    (axis,) = plots.responses([chart]).axes
    assert [line.get_label() for line in axis.lines] == ["l1", "control"]
    assert axis.get_xscale() == "symlog"
    assert axis.patches[0].get_y() == 1.5
