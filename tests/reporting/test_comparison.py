"""Comparisons over seeds with known answers."""

import math

import pandas as pd
import pytest

from tti.reporting import comparison, markdown
from tti.reporting.cells import Cell, Rows


def values(**seeds):
    rows = {(variant, 42 + i): value for variant, row in seeds.items() for i, value in enumerate(row)}
    return pd.Series(list(rows.values()), index=pd.MultiIndex.from_tuples(list(rows), names=["variant", "seed"]))


LOSS = values(baseline=[1.0, 2.0, 3.0], sparse=[1.1, 2.2, 3.3])
COSINE = values(baseline=[0.5, 0.5, 0.5], sparse=[0.4, 0.6, math.nan])
CONTROLS = {"sparse": "baseline"}


def test_means_and_deviations_over_seeds():
    summary = comparison.over_seeds(LOSS)
    assert summary.loc["baseline", "mean"] == 2
    assert summary.loc["baseline", "sd"] == 1  # n - 1
    assert summary.loc["sparse", "n"] == 3


def test_differences_are_paired_by_seed():
    change = comparison.against({"loss": LOSS}, CONTROLS).loc["sparse", "loss"]
    assert change["mean"] == pytest.approx(0.2)
    # The differences 0.1, 0.2, 0.3 have sd 0.1; t(0.975, df 2) = 4.3027. Unpaired, it would be ten times wider.
    assert change["margin"] == pytest.approx(4.3027 * 0.1 / math.sqrt(3), rel=1e-4)
    assert (change["down"], change["up"], change["n"]) == (0, 3, 3)


def test_a_nan_is_a_result_and_no_smaller_sample():
    change = comparison.against({"cosine": COSINE}, CONTROLS).loc["sparse", "cosine"]
    assert math.isnan(change["mean"])
    assert (change["n"], change["nan"]) == (3, 1)
    assert math.isnan(comparison.over_seeds(COSINE).loc["sparse", "mean"])
    assert comparison.over_seeds(COSINE)["nan"].to_dict() == {"baseline": 0, "sparse": 1}


def test_what_was_not_measured_is_a_smaller_sample():
    change = comparison.against({"cosine": COSINE.iloc[:-1]}, CONTROLS).loc["sparse", "cosine"]
    assert change["mean"] == pytest.approx(0.0)
    assert (change["n"], change["nan"]) == (2, 0)


def test_one_seed_has_no_interval():
    one = LOSS[LOSS.index.get_level_values("seed") == 42]
    assert math.isnan(comparison.against({"loss": one}, CONTROLS).loc["sparse", ("loss", "margin")])
    assert markdown.spread(1.5, float("nan"), 2) == "1.50"


def test_seeds_that_only_one_of_both_has_are_no_pairs():
    assert comparison.against({"loss": LOSS.drop(("baseline", 43))}, CONTROLS).loc["sparse", ("loss", "n")] == 2
    assert comparison.against({"loss": LOSS.drop("baseline")}, CONTROLS).loc["sparse", ("loss", "n")] == 0


def test_an_unknown_control_is_named_with_what_there_is():
    with pytest.raises(ValueError, match="'dense'; there are baseline, sparse"):
        comparison.controls_of(["baseline", "sparse"], "dense", {})
    with pytest.raises(ValueError, match="'relu'; there are baseline, sparse"):
        comparison.controls_of(["baseline", "sparse"], "baseline", {"sparse": "relu"})


def test_controls_are_found_by_glob_and_are_compared_with_the_baseline_themselves():
    variants = ["baseline", "relu", "l0_0", "l0_1e-3", "decoder_l1_3e-5", "l1_1e-2"]
    controls = comparison.controls_of(variants, "baseline", {"decoder_l1_*": "relu", "l0_*": "l0_0"})
    assert controls == {
        "relu": "baseline",
        "l0_0": "baseline",
        "l0_1e-3": "l0_0",
        "decoder_l1_3e-5": "relu",
        "l1_1e-2": "baseline",
    }


def test_excess_is_paired_by_seed_and_step():
    logged = pd.DataFrame(
        [("baseline", 1, 5, 2.0), ("baseline", 2, 5, 3.0), ("sparse", 1, 5, 2.1), ("sparse", 2, 5, 3.3)],
        columns=["variant", "seed", "step", "train/ce"],
    )
    logged.loc[len(logged)] = ["sparse", 1, 10, 1.0]  # the baseline logged nothing at that step
    above = comparison.excess(logged, "train/ce", CONTROLS)
    assert above[["variant", "seed", "step"]].values.tolist() == [["sparse", 1, 5], ["sparse", 2, 5]]
    assert above["train/ce"].tolist() == pytest.approx([0.1, 0.3])


def test_markdown_tables_have_names_in_backticks_and_no_markup_of_others():
    found = Rows(["variant", "a | b"], [[Cell("<b>`x`</b>", kind="name"), Cell("+0.20", 0.2, "± 0.25")]])
    assert markdown.rows(found).splitlines() == [
        "| variant | a \\| b |",
        "| --- | ---: |",
        "| ``<b>`x`</b>`` | +0.20 ± 0.25 |",
    ]
    assert markdown.plain("**a** `` b`c `` *d* \\<i>") == "a b`c d <i>"
