"""Matched loss, by hand."""

import math

import pandas as pd
import pytest

from tti.reporting.matched import at_loss, differences


def run(variant, losses, metric):
    steps = [100 * (i + 1) for i in range(len(losses))]
    return pd.DataFrame({"variant": variant, "seed": 1, "step": steps, "loss": losses, "metric": metric})


def test_metrics_are_read_where_the_loss_last_passed():
    history = run("a", [3.0, 2.0, 2.5, 1.0], [0.0, 1.0, 2.0, 5.0])
    assert at_loss(history, "loss", ["metric"], 2.25)["metric"] == pytest.approx(2.0 + 3.0 * 0.25 / 1.5)
    assert at_loss(history, "loss", ["metric"], 1.0)["metric"] == 5.0
    assert math.isnan(at_loss(history, "loss", ["metric"], 9.0)["metric"])
    assert math.isnan(at_loss(history.head(1), "loss", ["metric"], 3.5)["metric"])


def test_both_are_taken_at_the_larger_of_the_final_losses():
    # The penalised run ends where the baseline was at its second validation, with the same metric: just undertrained.
    history = pd.concat(
        [run("baseline", [3.0, 2.0, 1.0], [0.1, 0.2, 0.3]), run("slow", [4.0, 3.0, 2.0], [0.0, 0.1, 0.2])]
    )
    (row,) = differences(history, "loss", ["metric"], {"slow": "baseline"}).to_dict("records")
    assert (row["variant"], row["seed"], row["loss"]) == ("slow", 1, 2.0)
    assert row["metric"] == pytest.approx(0.0)


def test_a_better_run_is_taken_back_to_the_loss_of_its_control():
    history = pd.concat([run("baseline", [3.0, 2.0], [0.1, 0.2]), run("fast", [2.5, 1.5], [0.0, 1.0])])
    (row,) = differences(history, "loss", ["metric"], {"fast": "baseline"}).to_dict("records")
    assert row["loss"] == 2.0
    assert row["metric"] == pytest.approx(0.5 - 0.2)


def test_without_a_control_of_that_seed_there_is_no_row():
    assert differences(run("slow", [2.0, 1.0], 0.0), "loss", ["metric"], {"slow": "baseline"}).empty
