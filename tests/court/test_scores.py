"""Scores of metrics whose values are given."""

import math

import numpy as np
import pytest

from tti.court.plan import Plan
from tti.court.scores import Metric, Score, spearman

REPLICATES = 6


@pytest.fixture(scope="module")
def trial(court_config):
    return court_config("trial=planted").trial


@pytest.fixture(scope="module")
def score(trial):
    """``score(function of a recipe)``: the scores of a metric with these values."""
    plan = Plan.of(trial)

    def made(values, better="more"):
        def lookup(recipe):
            return np.broadcast_to(np.asarray(values(recipe), float), (REPLICATES,))

        return Score(Metric("part/metric", better, ""), plan, lookup, trial.thresholds, 1.0)

    return made


def test_the_truth_is_reportable(score):
    found = score(lambda recipe: recipe.truth)
    assert found.sensitivity == pytest.approx(1)
    assert found.nuisance == 0
    assert found.calibration == (0, 0)
    assert found.resolution == pytest.approx(math.sin(math.radians(13)) ** 2)
    assert found.failed == []


def test_less_may_be_better(score):
    assert score(lambda recipe: 3 - 3 * recipe.truth, "less").failed == ["C"]
    assert score(lambda recipe: -recipe.truth, "less").failed == []
    assert score(lambda recipe: -recipe.truth).sensitivity == pytest.approx(-1)


def test_a_constant_fails_since_nothing_moves_it(score):
    found = score(lambda recipe: 0.7)
    assert found.sensitivity == 0
    assert math.isnan(found.nuisance)
    assert found.resolution == math.inf
    assert found.failed == ["S", "N", "C", "R"]


def test_a_random_metric_fails_since_it_does_not_follow_the_dose(score):
    draw = np.random.default_rng(0)
    found = score(lambda recipe: draw.normal(size=REPLICATES))
    assert abs(found.sensitivity) < 0.5
    assert {"S", "R"} <= set(found.failed)


def test_a_density_fails_under_the_dial_of_density(score):
    found = score(lambda recipe: recipe.truth - recipe.density)
    assert found.sensitivity == pytest.approx(1)
    assert str(found.worst) == "density 0"
    assert found.nuisance == pytest.approx(1)
    assert "N" in found.failed


def test_a_metric_that_sees_one_kind_of_dose_only_is_as_sensitive_as_to_the_other(score):
    found = score(lambda recipe: recipe.union * recipe.truth)
    assert found.sensitivities == pytest.approx({"rotation": 1, "union": 0})
    assert found.sensitivity == 0


def test_noise_sets_the_resolution(score):
    noise = np.tile([1.0, -1.0], REPLICATES // 2)
    spread = np.std(noise, ddof=1)
    # doses of 0.05 0.10 0.25 0.50 0.75 1; told apart from 2 sqrt(2) spreads on
    found = score(lambda recipe: recipe.truth + 0.3 / (2 * math.sqrt(2) * spread) * noise)
    assert found.resolution == pytest.approx(0.5)
    assert found.failed == ["R"]


def test_a_dose_that_is_not_told_apart_ends_the_resolution(score):
    found = score(lambda recipe: 1.0 if recipe.rotation == 60 else recipe.truth)
    assert found.resolution == pytest.approx(1)


def test_a_null_is_judged_by_its_spread_or_by_what_a_dose_does(score):
    noise = np.array([1.0, -1, 1, -1, 1, -1])

    def at(mean, spread):
        return lambda recipe: recipe.truth if recipe.control == "none" else mean + spread * noise

    assert "C" in score(at(0.1, 0)).failed
    assert "C" not in score(at(0.1, 0.1)).failed
    assert "C" not in score(at(0.019, 0)).failed
    assert score(at(0.1, 0.1)).calibration == pytest.approx((0.1, 0.1 * np.std(noise, ddof=1)))


def test_an_undefined_value_passes_nothing_that_it_enters(score):
    found = score(lambda recipe: math.nan if recipe.rotation == 45 or recipe.density == 0 else recipe.truth)
    assert {"S", "N", "R"} <= set(found.failed)
    assert str(found.worst) == "density 0"


def test_rank_correlation_with_ties():
    assert spearman(np.array([1.0, 2, 3]), np.array([2.0, 2, 5])) == pytest.approx(math.sqrt(3) / 2)
    assert spearman(np.array([1.0, 2]), np.array([5.0, 5])) == 0
    assert math.isnan(spearman(np.array([1.0, 2]), np.array([5.0, math.nan])))
