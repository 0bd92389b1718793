"""The declared aggregate: its scale comes from baseline and untrained networks only."""

import math

import pandas as pd
import pytest

from tti.reporting.aggregate import aggregate, z_scores

WEIGHTS = {"up": 1.0, "down": -3.0}
BASELINE = pd.DataFrame({"up": [1.0, 1.0], "down": [4.0, 4.0]})
UNTRAINED = pd.DataFrame({"up": [3.0, 3.0], "down": [2.0, 2.0]})


def test_baseline_is_zero_and_the_unit_is_half_the_way_to_the_untrained():
    runs = pd.DataFrame({"up": [1.0, 2.0], "down": [4.0, 3.0]})
    scores = z_scores(runs, WEIGHTS, BASELINE, UNTRAINED)
    assert scores["up"].tolist() == [0.0, 1.0]
    assert scores["down"].tolist() == [0.0, 1.0]  # less is better
    assert aggregate(scores, WEIGHTS).tolist() == [0.0, 1.0]


def test_weights_weigh():
    runs = pd.DataFrame({"up": [2.0], "down": [4.0]})
    assert aggregate(z_scores(runs, WEIGHTS, BASELINE, UNTRAINED), WEIGHTS).tolist() == [0.25]


def test_no_compared_run_moves_another():
    alone = z_scores(pd.DataFrame({"up": [2.0]}), WEIGHTS, BASELINE, UNTRAINED)
    beside = z_scores(pd.DataFrame({"up": [2.0, 900.0]}), WEIGHTS, BASELINE, UNTRAINED)
    assert alone["up"][0] == beside["up"][0]


def test_a_missing_metric_makes_no_score():
    runs = pd.DataFrame({"up": [2.0], "down": [math.nan]})
    assert math.isnan(aggregate(z_scores(runs, WEIGHTS, BASELINE, UNTRAINED), WEIGHTS)[0])


def test_a_metric_that_never_differs_has_no_scale():
    same = pd.DataFrame({"up": [1.0]})
    assert list(z_scores(same, WEIGHTS, same, same)) == []


def test_spread_within_the_groups_counts():
    wide = pd.DataFrame({"up": [0.0, 2.0]})  # mean 1, variance 1, and the same again: sd 1
    assert z_scores(pd.DataFrame({"up": [3.0]}), WEIGHTS, wide, wide)["up"][0] == pytest.approx(2.0)
