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


def test_means_and_deviations_over_seeds():
    summary = comparison.over_seeds(RUNS, ["loss"])
    assert summary.loc["baseline", ("loss", "mean")] == 2
    assert summary.loc["baseline", ("loss", "sd")] == 1  # n - 1
    assert summary.loc["sparse", ("seeds", "n")] == 3


def test_differences_are_paired_by_seed():
    change = comparison.against(RUNS, ["loss"], "baseline").loc["sparse", "loss"]
    assert change["mean"] == pytest.approx(0.2)
    # The differences 0.1, 0.2, 0.3 have sd 0.1; t(0.975, df 2) = 4.3027. Unpaired, it would be ten times as wide.
    assert change["margin"] == pytest.approx(4.3027 * 0.1 / math.sqrt(3), rel=1e-4)
    assert (change["down"], change["up"], change["n"]) == (0, 3, 3)


def test_a_missing_value_is_left_out_and_counted():
    change = comparison.against(RUNS, ["cosine"], "baseline").loc["sparse", "cosine"]
    assert (change["down"], change["up"], change["n"]) == (1, 1, 2)


def test_one_seed_has_no_interval():
    one = RUNS[RUNS.seed == 42]
    assert math.isnan(comparison.against(one, ["loss"], "baseline").loc["sparse", ("loss", "margin")])
    assert markdown.spread(1.5, float("nan"), 2) == "1.50"


def test_an_unknown_baseline_is_named_with_what_there_is():
    with pytest.raises(ValueError, match="'dense'; there is baseline, sparse"):
        comparison.against(RUNS, ["loss"], "dense")


def test_markdown_tables():
    means = markdown.means(comparison.over_seeds(RUNS, ["loss"]), {"loss": "val loss"}, {"loss": 2})
    assert means.splitlines() == [
        "| variant | seeds | val loss |",
        "| --- | ---: | ---: |",
        "| `baseline` | 3 | 2.00 ± 1.00 |",
        "| `sparse` | 3 | 2.20 ± 1.10 |",
    ]
    changes = markdown.changes(comparison.against(RUNS, ["loss"], "baseline"), {"loss": "val loss"}, {"loss": 2})
    assert changes.splitlines()[-1] == "| `sparse` | +0.20 ± 0.25 (0/3 down) |"
