"""Fronts and areas by hand."""

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tti.reporting.pareto import front, hypervolume

LOSSES, SCORES = [1.0, 2.0, 3.0, 2.5], [1.0, 2.0, 3.0, 1.5]
POINT = st.tuples(st.floats(0, 10), st.floats(0, 10))


def test_dominated_points_are_not_on_the_front():
    assert front(LOSSES, SCORES).tolist() == [True, True, True, False]
    assert front([1.0, 1.0], [2.0, 2.0]).tolist() == [True, True]  # equal points do not dominate each other
    assert front([1.0, 1.0], [2.0, 1.0]).tolist() == [True, False]


def test_a_missing_figure_is_never_on_the_front_and_dominates_nothing():
    assert front([math.nan, 1.0], [5.0, 1.0]).tolist() == [False, True]


def test_area_by_hand():
    # from (4, 0): a step of height 1 and width 3, then of 1 and 2, then of 1 and 1
    assert hypervolume(LOSSES, SCORES, (4.0, 0.0)) == 6.0
    assert hypervolume(LOSSES, SCORES, (2.0, 0.0)) == 1.0  # only the first is better than the reference
    assert hypervolume([], [], (1.0, 0.0)) == 0.0


@settings(max_examples=50, deadline=None)
@given(st.lists(POINT, min_size=1, max_size=8), POINT)
def test_another_point_never_takes_area_away(points, other):
    def area(points):
        return hypervolume(*zip(*points, strict=True), (10.0, 0.0))

    assert area([*points, other]) >= area(points) - 1e-9


@settings(max_examples=50, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 6), st.integers(0, 6)), min_size=1, max_size=8))
def test_area_equals_counting_unit_squares(points):
    losses, scores = zip(*points, strict=True)
    squares = sum(any(loss <= x and y + 1 <= score for loss, score in points) for x in range(6) for y in range(6))
    assert hypervolume(losses, scores, (6.0, 0.0)) == pytest.approx(squares)
