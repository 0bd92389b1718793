"""What a variant costs: pairing, verdicts, and the families that are corrected."""

import math

import numpy as np
import pandas as pd
import pytest

from tti.reporting import losses
from tti.reporting.tables import StoryLosses

RUNS = pd.DataFrame(
    {
        "variant": ["baseline"] * 3 + ["same"] * 3 + ["worse"] * 3 + ["noisy"] * 3,
        "seed": [1, 2, 3] * 4,
        "loss": [1.0, 2.0, 3.0, 1.001, 2.0, 2.999, 1.2, 2.21, 3.19, 1.3, 1.9, 3.4],
    }
)
CONTROLS = dict.fromkeys(["same", "worse", "noisy"], "baseline")


def changes(runs=RUNS, stories=None, margin=0.01):
    return losses.changes(runs, "loss", margin, CONTROLS, stories or {})


def test_verdicts():
    table = changes()
    assert table["verdict"].to_dict() == {"same": "free (within the margin)", "worse": "costs", "noisy": "undecided"}
    assert table.loc["worse", "mean"] == pytest.approx(0.2)
    assert table.loc["worse", "seeds"] == pytest.approx({1: 0.2, 2: 0.21, 3: 0.19})


def test_a_lower_loss_is_a_gain():
    runs = RUNS.assign(loss=RUNS.loss.where(RUNS.variant != "worse", RUNS.loss - 0.4))
    assert changes(runs).loc["worse", "verdict"] == "gains"


def test_each_family_is_corrected_for_three_variants():
    table = changes()
    assert table["p_holm"].min() == pytest.approx(3 * table["p"].min())
    assert table["p_equivalent_holm"].min() == pytest.approx(3 * table["p_equivalent"].min())


def test_absence_of_a_found_difference_is_not_called_free():
    assert changes(margin=1e-6).loc["same", "verdict"] == "undecided"


def test_one_seed_has_no_test():
    row = changes(RUNS[RUNS.seed == 1]).loc["same"]
    assert (row["n"], row["verdict"]) == (1, "no test with one seed")
    assert math.isnan(row["p_holm"])


def test_a_loss_that_is_not_a_number_is_no_pair():
    runs = RUNS.assign(loss=RUNS.loss.where((RUNS.variant != "same") | (RUNS.seed != 2)))
    assert changes(runs).loc["same", "n"] == 2


def test_stories_give_the_difference_and_how_well_a_seed_is_told_apart():
    generator, tokens = np.random.default_rng(0), np.full(500, 100.0)
    nll = generator.normal(200, 50, 500)  # stories differ by far more than models do
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
