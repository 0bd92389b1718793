"""Known answers of the comparison over seeds."""

import math

import pandas as pd
import pytest

from tti.reporting import comparison, markdown

RUNS = pd.DataFrame(
    {
        "variant": ["baseline"] * 3 + ["sparse"] * 3,
        "seed": [42, 43, 44] * 2,
        "loss": [1.0, 2.0, 3.0, 1.1, 2.2, 3.3],
        "cosine": [0.5, 0.5, 0.5, 0.4, 0.6, float("nan")],
    }
)
CONTROLS = {"sparse": "baseline"}


def test_means_and_deviations_over_seeds():
    summary = comparison.over_seeds(RUNS, ["loss"])
    assert summary.loc["baseline", ("loss", "mean")] == 2
    assert summary.loc["baseline", ("loss", "sd")] == 1  # n - 1
    assert summary.loc["sparse", ("seeds", "n")] == 3


def test_differences_are_paired_by_seed():
    change = comparison.against(RUNS, ["loss"], CONTROLS).loc["sparse", "loss"]
    assert change["mean"] == pytest.approx(0.2)
    # The differences 0.1, 0.2, 0.3 have sd 0.1; t(0.975, df 2) = 4.3027. Unpaired, it would be ten times as wide.
    assert change["margin"] == pytest.approx(4.3027 * 0.1 / math.sqrt(3), rel=1e-4)
    assert (change["down"], change["up"], change["n"]) == (0, 3, 3)


def test_a_missing_value_is_left_out_and_counted():
    change = comparison.against(RUNS, ["cosine"], CONTROLS).loc["sparse", "cosine"]
    assert (change["down"], change["up"], change["n"]) == (1, 1, 2)


def test_one_seed_has_no_interval():
    one = RUNS[RUNS.seed == 42]
    assert math.isnan(comparison.against(one, ["loss"], CONTROLS).loc["sparse", ("loss", "margin")])
    assert markdown.spread(1.5, float("nan"), 2) == "1.50"


def test_an_unknown_control_is_named_with_what_there_is():
    with pytest.raises(ValueError, match="'dense'; there is baseline, sparse"):
        comparison.controls_of(["baseline", "sparse"], "dense", {})
    with pytest.raises(ValueError, match="'relu'; there is baseline, sparse"):
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


def test_markdown_tables():
    means = markdown.means(comparison.over_seeds(RUNS, ["loss"]), {"loss": "val loss"}, {"loss": 2})
    assert means.splitlines() == [
        "| variant | seeds | val loss |",
        "| --- | ---: | ---: |",
        "| `baseline` | 3 | 2.00 ± 1.00 |",
        "| `sparse` | 3 | 2.20 ± 1.10 |",
    ]
    change = comparison.against(RUNS, ["loss"], CONTROLS)
    changes = markdown.changes(change, {"loss": "val loss"}, {"loss": 2}, CONTROLS)
    assert changes.splitlines()[-1] == "| `sparse` | `baseline` | +0.20 ± 0.25 (0/3 down) |"
