"""Known answers of intervals, tests and corrections."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from tti.reporting.statistics import difference_p, equivalence_p, half_width, holm, ratio, wilson

SAMPLE = [0.1, 0.2, 0.3]


def test_t_interval_of_three_seeds():
    assert half_width(SAMPLE) == pytest.approx(4.3027 * 0.1 / math.sqrt(3), rel=1e-4)  # t(0.975, df 2)


def test_one_value_has_no_interval_and_no_test():
    assert math.isnan(half_width([1.0]))
    assert math.isnan(difference_p([1.0]))
    assert math.isnan(equivalence_p([1.0], 0.01))


def test_difference_is_scipys_one_sample_t_test():
    assert difference_p(SAMPLE) == pytest.approx(stats.ttest_1samp(SAMPLE, 0).pvalue)


@pytest.mark.parametrize("margin", [0.05, 0.25, 0.5])
def test_equivalence_is_the_larger_of_two_one_sided_tests(margin):
    above = stats.ttest_1samp(SAMPLE, -margin, alternative="greater").pvalue
    below = stats.ttest_1samp(SAMPLE, margin, alternative="less").pvalue
    assert equivalence_p(SAMPLE, margin) == pytest.approx(max(above, below))


@settings(max_examples=50, deadline=None)
@given(st.lists(st.floats(-1, 1), min_size=3, max_size=6), st.floats(0.01, 1))
def test_equivalent_is_when_the_90_percent_interval_lies_within_the_margin(sample, margin):
    if np.std(sample) > 1e-6:
        interval = stats.t.interval(0.9, len(sample) - 1, np.mean(sample), stats.sem(sample))
        inside = -margin < interval[0] and interval[1] < margin
        assert inside == (equivalence_p(sample, margin) < 0.05)


def test_no_spread_at_all_decides_without_a_test():
    assert (difference_p([0.0, 0.0]), difference_p([0.1, 0.1])) == (1.0, 0.0)
    assert (equivalence_p([0.001, 0.001], 0.01), equivalence_p([0.1, 0.1], 0.01)) == (0.0, 1.0)


def test_holm_by_hand_with_a_missing_test():
    corrected = holm({"a": 0.01, "b": 0.04, "c": 0.03, "none": math.nan})
    assert corrected["a"] == pytest.approx(0.03)  # smallest of three: x 3
    assert corrected["c"] == pytest.approx(0.06)  # x 2
    assert corrected["b"] == pytest.approx(0.06)  # x 1 is 0.04, but never below the one before
    assert math.isnan(corrected["none"])
    assert holm({}) == {}


def test_loss_by_story_is_that_of_all_tokens_and_its_interval_counts_stories():
    tokens = np.array([10.0, 30.0, 20.0, 40.0])
    assert ratio(0.5 * tokens, tokens) == (0.5, 0.0)  # the same a token in every story: nothing is uncertain
    equal = np.full(4, 10.0)
    differences = np.array([1.0, 2.0, 3.0, 4.0])
    estimate, width = ratio(differences, equal)  # of equal length: a plain t interval
    assert estimate == 0.25
    assert width == pytest.approx(half_width(list(differences / 10)))


def test_ratio_covers_the_truth_about_as_often_as_it_says():
    generator = np.random.default_rng(0)
    hits = 0
    for _ in range(400):
        tokens = generator.integers(50, 400, 200).astype(float)
        differences = 0.02 * tokens + generator.normal(0, 5, 200) * np.sqrt(tokens / 200)
        estimate, width = ratio(differences, tokens)
        hits += abs(estimate - 0.02) < width
    assert 0.92 < hits / 400 < 0.98


def test_wilson():
    low, high = wilson(8, 10)
    assert (low, high) == (pytest.approx(0.4902, abs=1e-4), pytest.approx(0.9433, abs=1e-4))
    assert all(map(math.isnan, wilson(0, 0)))
