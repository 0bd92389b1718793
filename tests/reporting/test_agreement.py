"""Krippendorff's alpha: his own example, and the ends of the scale."""

import math
import random

import pytest

from tti.reporting.agreement import krippendorff_alpha


def test_krippendorffs_own_example():
    # Krippendorff 2011, "Computing Krippendorff's Alpha-Reliability", section C: four observers, twelve units.
    a = [1, 2, 3, 3, 2, 1, 4, 1, 2, None, None, None]
    b = [1, 2, 3, 3, 2, 2, 4, 1, 2, 5, None, 3]
    c = [None, 3, 3, 3, 2, 3, 4, 2, 2, 5, 1, None]
    d = [1, 2, 3, 3, 2, 4, 4, 1, 2, 5, 1, None]
    units = [[str(value) for value in unit if value is not None] for unit in zip(a, b, c, d, strict=True)]
    assert krippendorff_alpha(units) == pytest.approx(0.743, abs=5e-4)


def test_two_raters_binary_by_hand():
    # 14 zeros, 6 ones, 4 units of 10 differ: 1 - 19 x 4 / (14 x 6)
    a, b = "0100000000", "1110010100"
    assert krippendorff_alpha(zip(a, b, strict=True)) == pytest.approx(0.095, abs=5e-4)


def test_full_agreement_is_one_and_chance_is_zero():
    assert krippendorff_alpha([["m", "m"], ["p", "p"]]) == 1.0
    draw = random.Random(0)
    assert abs(krippendorff_alpha([[draw.choice("mpu"), draw.choice("mpu")] for _ in range(20_000)])) < 0.02


def test_nothing_rated_twice_or_only_one_category_has_no_alpha():
    assert math.isnan(krippendorff_alpha([["m"], ["p"]]))
    assert math.isnan(krippendorff_alpha([["m", "m"], ["m", "m"]]))
