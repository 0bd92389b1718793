"""The declared aggregate: its scale comes from the declaration, baseline and untrained networks only."""

import math

import pandas as pd
import pytest

from tti.reporting.aggregate import aggregate, units, without_one, z_scores

DECLARED = {"up": {"weight": 1.0, "range": 1.0}, "down": {"weight": 3.0, "range": 1.0}}
SIGNS = {"up": 1, "down": -1, "other": 1}
BASELINE = pd.DataFrame({"up": [1.0, 1.0], "down": [4.0, 4.0]})
UNTRAINED = pd.DataFrame({"up": [3.0, 3.0], "down": [2.0, 2.0]})
SCALE = units(DECLARED, 0.05, SIGNS, BASELINE, UNTRAINED)


def test_baseline_is_zero_and_the_unit_is_half_the_way_to_the_untrained():
    runs = pd.DataFrame({"up": [1.0, 2.0], "down": [4.0, 3.0]})
    scores = z_scores(runs, SCALE)
    assert scores["up"].tolist() == [0.0, 1.0]
    assert scores["down"].tolist() == [0.0, 1.0]  # less is better
    assert aggregate(scores, SCALE).tolist() == [0.0, 1.0]


def test_weights_weigh():
    runs = pd.DataFrame({"up": [2.0], "down": [4.0]})
    assert aggregate(z_scores(runs, SCALE), SCALE).tolist() == [0.25]


def test_no_compared_run_moves_another():
    alone = z_scores(pd.DataFrame({"up": [2.0]}), SCALE)
    beside = z_scores(pd.DataFrame({"up": [2.0, 900.0]}), SCALE)
    assert alone["up"][0] == beside["up"][0]


def test_a_missing_metric_makes_no_score():
    runs = pd.DataFrame({"up": [2.0], "down": [math.nan]})
    scores = z_scores(runs, SCALE)
    assert math.isnan(aggregate(scores, SCALE)[0])
    assert without_one(scores, SCALE).isna().all(axis=None)


def test_a_metric_that_training_does_not_move_has_no_loud_voice():
    close = pd.DataFrame({"up": [1.0]}), pd.DataFrame({"up": [1.002]})
    (unit,) = units({"up": {"weight": 1, "range": 4}}, 0.05, SIGNS, *close).values()
    assert unit.spread == pytest.approx(0.001)
    assert unit.size == unit.floor == pytest.approx(0.2)  # without the floor, the next line were 1000
    assert z_scores(pd.DataFrame({"up": [2.0]}), {"up": unit})["up"][0] == pytest.approx(5.0)


def test_a_unit_above_its_floor_is_the_spread():
    assert SCALE["up"].size == SCALE["up"].spread == 1.0


def test_spread_within_the_groups_counts():
    wide = pd.DataFrame({"up": [0.0, 2.0]})  # mean 1, variance 1, and the same again: sd 1
    scale = units({"up": DECLARED["up"]}, 0.05, SIGNS, wide, wide)
    assert z_scores(pd.DataFrame({"up": [3.0]}), scale)["up"][0] == pytest.approx(2.0)


def test_a_metric_that_was_not_measured_is_left_out():
    assert list(units({"other": DECLARED["up"]} | DECLARED, 0.05, SIGNS, BASELINE, UNTRAINED)) == ["up", "down"]


@pytest.mark.parametrize(("floor", "width"), [(0, 1), (0.05, 0), (0.05, -1)])
def test_a_unit_must_have_a_floor(floor, width):
    with pytest.raises(ValueError, match=r"the range of up must be above 0"):
        units({"up": {"weight": 1, "range": width}}, floor, SIGNS, BASELINE, UNTRAINED)


def test_what_is_left_without_one_metric():
    scores = pd.DataFrame({"up": [2.0], "down": [-1.0]})
    assert without_one(scores, SCALE).to_numpy().tolist() == [[-1.0, 2.0]]


def test_weight_zero_has_a_score_but_no_voice():
    scale = units(DECLARED | {"up": {"weight": 0, "range": 1}}, 0.05, SIGNS, BASELINE, UNTRAINED)
    scores = z_scores(pd.DataFrame({"up": [2.0], "down": [3.0]}), scale)
    assert scores["up"].tolist() == [1.0]
    assert aggregate(scores, scale).tolist() == [1.0]
    assert without_one(scores, scale).isna().all(axis=None)


@pytest.mark.parametrize(("weight", "signs"), [(-1, SIGNS), (1, {})])
def test_the_direction_is_said_once_and_not_by_the_weight(weight, signs):
    with pytest.raises(ValueError, match="the weight of up must be 0 or more, and metrics must say what is `better`"):
        units({"up": {"weight": weight, "range": 1}}, 0.05, signs, BASELINE, UNTRAINED)
