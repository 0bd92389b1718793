"""Intervals, tests and corrections with known answers."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from tti.reporting.statistics import (
    detectable,
    difference_p,
    differs_power,
    equivalence_p,
    equivalence_power,
    half_width,
    in_sequence,
    ratio,
    seeds_needed,
    wilson,
)

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


def test_sequences_of_one_are_holms_procedure():
    p = {"a": 0.01, "b": 0.04, "c": 0.03, "none": math.nan}
    corrected = in_sequence(p, [[key] for key in p])
    assert corrected["a"] == pytest.approx(0.03)  # smallest of three: x 3
    assert corrected["c"] == pytest.approx(0.06)  # x 2
    assert corrected["b"] == pytest.approx(0.06)  # x 1 is 0.04, but never less than the previous one
    assert math.isnan(corrected["none"])
    assert in_sequence({}, []) == {}


def test_one_sequence_alone_costs_nothing_and_ends_at_the_first_that_is_not_shown():
    corrected = in_sequence({"mild": 0.04, "medium": 0.2, "strong": 0.001}, [["mild", "medium", "strong"]])
    assert corrected == pytest.approx({"mild": 0.04, "medium": 0.2, "strong": 0.2})


def test_a_sequence_that_ends_hands_its_share_on():
    p = {"a1": 0.02, "a2": 0.024, "b1": 0.04}
    # a1 and a2 are tested at half the level, then b1 at the full level: 0.04, not 0.08.
    assert in_sequence(p, [["a1", "a2"], ["b1"]]) == pytest.approx({"a1": 0.04, "a2": 0.048, "b1": 0.048})
    assert in_sequence(p | {"a2": 0.5}, [["a1", "a2"], ["b1"]])["b1"] == pytest.approx(0.08)


def test_false_rejections_in_sequences_stay_within_the_level():
    """Two methods of three strengths, with only the first of one true: testing on too freely would show here."""
    generator, false = np.random.default_rng(0), 0
    for _ in range(2000):
        p = dict(zip("abcdef", generator.uniform(size=6), strict=True)) | {"a": 0.0}
        corrected = in_sequence(p, ["abc", "def"])
        false += any(corrected[key] < 0.05 for key in "bcdef")
    assert false / 2000 < 0.065  # 0.05 and three standard errors


def test_power_of_the_t_test_is_that_of_simulated_experiments():
    generator = np.random.default_rng(0)
    samples = generator.normal(1.2, 1, (4000, 6))
    t = samples.mean(axis=1) / samples.std(axis=1, ddof=1) * math.sqrt(6)
    found = (np.abs(t) > stats.t.ppf(0.975, 5)).mean()
    assert differs_power(1.2, 1.0, 6) == pytest.approx(found, abs=0.025)


def test_power_of_equivalence_is_about_that_of_simulated_experiments():
    generator = np.random.default_rng(0)
    samples = generator.normal(0.1, 1, (4000, 12))
    shown = np.mean([equivalence_p(sample, 1.0) < 0.05 for sample in samples])
    assert equivalence_power(0.1, 1.0, 1.0, 12) == pytest.approx(shown, abs=0.025)


def test_the_smallest_detectable_change_has_the_power_it_is_named_for():
    assert differs_power(detectable(0.3, 4), 0.3, 4) == pytest.approx(0.8)
    assert math.isnan(detectable(0.3, 1))


def test_seeds_needed_are_the_fewest_that_decide():
    n = seeds_needed(0.02, 0.01, 0.01)
    assert differs_power(0.02, 0.01, n) >= 0.8 > differs_power(0.02, 0.01, n - 1)
    free = seeds_needed(0.0, 0.005, 0.01)
    assert equivalence_power(0.0, 0.005, 0.01, free) >= 0.8
    assert math.isinf(seeds_needed(0.01, 0.05, 0.01))  # at the margin neither test can succeed


def test_loss_by_story_is_that_of_all_tokens_and_its_interval_counts_stories():
    tokens = np.array([10.0, 30.0, 20.0, 40.0])
    assert ratio(0.5 * tokens, tokens) == (0.5, 0.0)  # equal per token in every story: no uncertainty
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
