from itertools import pairwise

import numpy as np
import pytest

from tti.benchmarking.pairing import estimate, take_turns


def test_a_known_ratio_is_found_under_drift_that_is_far_larger():
    """The machine gets ten times slower each round, and one candidate costs 1.5 times the other."""
    costs = take_turns({"plain": lambda turn: 10.0**turn, "slow": lambda turn: 1.5 * 10**turn}, 5, "")
    ratio = estimate(costs["slow"] / costs["plain"])
    assert (ratio.median, ratio.low, ratio.high) == pytest.approx((1.5, 1.5, 1.5))


def test_the_interval_holds_the_true_median_about_as_often_as_it_says():
    random = np.random.default_rng(0)
    intervals = [estimate(random.normal(3.0, 1.0, size=25)) for _ in range(100)]
    assert 88 <= sum(each.low <= 3.0 <= each.high for each in intervals) <= 99


def test_every_candidate_runs_once_a_round_and_is_first_as_often_as_any_other():
    taken: list[tuple[str, int]] = []
    candidates = {name: lambda turn, name=name: taken.append((name, turn)) or 0.0 for name in "abc"}
    take_turns(candidates, 6, "")
    rounds = [[name for name, turn in taken if turn == number] for number in range(6)]
    assert all(sorted(each) == ["a", "b", "c"] for each in rounds)
    assert sorted(each[0] for each in rounds) == sorted("aabbcc")
    before = {pair for each in rounds for pair in pairwise(each)}
    assert {(then, first) for first, then in before} == before


def test_an_estimate_is_spelled_with_its_interval():
    assert estimate(np.array([2.0, 2.0])).spelled(1, sign="+") == "+2.0 [+2.0, +2.0]"
