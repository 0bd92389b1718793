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
    (line,) = plots.curves(history, {"loss": "val loss"}).axes[0].lines
    assert list(zip(*line.get_data(), strict=True)) == [(1, 2.0), (2, 2.0)]
