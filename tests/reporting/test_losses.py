"""The cost of a variant: pairing, verdicts, and the families of tests that are corrected."""

import math

import numpy as np
import pandas as pd
import pytest

from tti.reporting import losses
from tti.reporting.statistics import difference_p, equivalence_p
from tti.reporting.tables import StoryLosses

ROWS = {"baseline": [1.0, 2.0, 3.0], "same": [1.001, 2.0, 2.999], "worse": [1.2, 2.21, 3.19], "noisy": [1.3, 1.9, 3.4]}
CONTROLS = dict.fromkeys(["same", "worse", "noisy"], "baseline")
ALONE = [["same"], ["worse"], ["noisy"]]


def loss(rows=ROWS):
    cells = {(variant, seed): value for variant, row in rows.items() for seed, value in enumerate(row, start=1)}
    return pd.Series(list(cells.values()), index=pd.MultiIndex.from_tuples(list(cells), names=["variant", "seed"]))


def changes(rows=ROWS, stories=None, margin=0.01, sequences=ALONE):
    return losses.changes(loss(rows), dict.fromkeys(CONTROLS, margin), CONTROLS, sequences, stories or {})


def test_verdicts():
    table = changes()
    assert table["verdict"].to_dict() == {"same": "free", "worse": "costs", "noisy": "undecided"}
    assert table.loc["worse", "mean"] == pytest.approx(0.2)
    assert table.loc["worse", "seeds"] == pytest.approx({1: 0.2, 2: 0.21, 3: 0.19})


def test_a_lower_loss_is_a_gain():
    rows = ROWS | {"worse": [value - 0.4 for value in ROWS["worse"]]}
    assert changes(rows).loc["worse", "verdict"] == "lowers it"


def test_each_family_is_corrected_for_three_methods():
    table = changes()
    assert table.loc["worse", "p"] == pytest.approx(3 * difference_p([0.2, 0.21, 0.19]))
    assert table.loc["same", "p_equivalent"] == pytest.approx(3 * equivalence_p([0.001, 0, -0.001], 0.01))


def test_strengths_of_one_method_are_not_corrected_for_each_other():
    table = changes(sequences=[["same", "noisy", "worse"]])
    assert table.loc["same", "p_equivalent"] == pytest.approx(equivalence_p([0.001, 0, -0.001], 0.01))  # weakest first
    assert table.loc["worse", "p"] == pytest.approx(difference_p([0.2, 0.21, 0.19]))  # strongest first


def test_behind_one_that_is_not_shown_nothing_is_shown():
    table = changes(sequences=[["noisy", "same"], ["worse"]])
    assert table.loc["same", "verdict"] == "undecided"


def test_absence_of_a_found_difference_is_not_called_free():
    assert changes(margin=1e-6).loc["same", "verdict"] == "undecided"


def test_margins_are_each_variants_own():
    margins = {"same": 1e-6, "worse": 1.0, "noisy": 0.01}
    table = losses.changes(loss(), margins, CONTROLS, ALONE, {})
    assert table["verdict"].to_dict() == {"same": "undecided", "worse": "free", "noisy": "undecided"}


def test_one_seed_has_no_test():
    row = changes({variant: values[:1] for variant, values in ROWS.items()}).loc["same"]
    assert (row["n"], row["verdict"]) == (1, "no test with one seed")
    assert math.isnan(row["p"])


def test_a_loss_that_is_nan_is_a_verdict():
    row = changes(ROWS | {"same": [1.001, math.nan, 2.999]}).loc["same"]
    assert (row["n"], row["verdict"]) == (3, "NaN")
    assert math.isnan(row["mean"])


def test_what_is_undecided_has_a_number_of_seeds_that_would_decide():
    row = changes().loc["noisy"]
    assert row["needed"] > 3
    assert row["detectable"] > abs(row["mean"])
    assert changes().loc["same", "needed"] == 0


def test_stories_give_the_difference_and_how_well_a_seed_is_told_apart():
    generator, tokens = np.random.default_rng(0), np.full(500, 100.0)
    nll = generator.normal(200, 50, 500)  # stories differ far more than models do
    stories = {}
    for seed in (1, 2, 3):
        stories["baseline", seed] = StoryLosses(nll, tokens)
        stories["worse", seed] = StoryLosses(nll + 5 + generator.normal(0, 1, 500), tokens)
    row = changes(stories=stories).loc["worse"]
    assert row["mean"] == pytest.approx(0.05, abs=0.002)
    assert all(0 < width < 0.002 for width in row["within"].values())


def test_other_stories_are_not_paired():
    stories = {("baseline", 1): StoryLosses(np.ones(2), np.ones(2)), ("same", 1): StoryLosses(np.ones(3), np.ones(3))}
    row = changes(stories=stories).loc["same"]
    assert row["seeds"][1] == pytest.approx(0.001)
    assert math.isnan(row["within"][1])
