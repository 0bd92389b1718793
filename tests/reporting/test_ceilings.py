"""Shares of ceilings, and a part's own rotation."""

import pytest

from tti.reporting.ceilings import rotated, shares

METRICS = {
    "part/score": 0.3, "part/other": 0.1, "part/rotated/score": 0.1, "part/shuffled/score": 0.0,
    "part/ceiling_scalar/score": 0.6, "part/ceiling_one_hot/score": 0.2, "part/ceiling_scalar/absent": 0.5,
    "another/score": 9.0,
}  # fmt: skip


def test_a_score_is_over_the_better_of_its_ceilings():
    assert shares(METRICS) == {"part/score_of_ceiling": pytest.approx(0.5)}


def test_so_is_the_score_of_another_code_and_the_better_ideal_code_has_1():
    assert shares(METRICS, "shuffled/") == {"part/score_of_ceiling": 0.0}
    assert shares(METRICS, "ceiling_scalar/")["part/score_of_ceiling"] == 1
    assert shares(METRICS, "ceiling_one_hot/")["part/score_of_ceiling"] == pytest.approx(1 / 3)


def test_a_ceiling_of_0_has_no_share():
    assert shares({"part/score": 0.1, "part/ceiling_scalar/score": 0.0}) == {}


def test_the_rotation_that_a_part_made_has_the_names_of_the_scores():
    assert rotated(METRICS) == {"part/score": 0.1, "part/score_of_ceiling": pytest.approx(0.1 / 0.6)}
    assert rotated({"part/score": 0.3}) == {}
