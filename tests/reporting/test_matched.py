"""Comparison at matched loss and convergence from shorter runs, by hand."""

import math

import pandas as pd
import pytest

from tti.reporting import summary
from tti.reporting.matched import at_loss, differences, falls


def trainings(variant, losses, metric):
    steps = [100 * (i + 1) for i in range(len(losses))]
    return pd.DataFrame({"variant": variant, "seed": 1, "steps": steps, "loss": losses, "metric": metric})


def test_figures_are_read_between_the_lengths_that_enclose_the_loss():
    lengths = trainings("a", [3.0, 2.0, 2.5, 1.0], [0.0, 1.0, 2.0, 5.0])
    assert at_loss(lengths, "loss", ["metric"], 2.25)["metric"] == pytest.approx(2.0 + 3.0 * 0.25 / 1.5)
    assert at_loss(lengths, "loss", ["metric"], 1.0)["metric"] == 5.0
    assert math.isnan(at_loss(lengths, "loss", ["metric"], 9.0)["metric"])
    assert math.isnan(at_loss(lengths.head(1), "loss", ["metric"], 3.5)["metric"])
    assert at_loss(lengths.head(1), "loss", ["metric"], 3.0)["metric"] == 0.0  # a full run is its own end


def test_both_are_taken_at_the_larger_of_the_final_losses():
    # The penalized run ends like a control with half the steps, with the same metric: it is merely undertrained.
    lengths = pd.concat([trainings("baseline", [3.0, 2.0, 1.0], [0.1, 0.2, 0.3]), trainings("slow", [2.0], [0.2])])
    (row,) = differences(lengths, "loss", ["metric"], {"slow": "baseline"}).to_dict("records")
    assert (row["variant"], row["seed"], row["loss"]) == ("slow", 1, 2.0)
    assert row["metric"] == pytest.approx(0.0)


def test_a_better_run_without_shorter_ones_has_no_figure():
    lengths = pd.concat([trainings("baseline", [3.0, 2.0], [0.1, 0.2]), trainings("fast", [1.5], [1.0])])
    (row,) = differences(lengths, "loss", ["metric"], {"fast": "baseline"}).to_dict("records")
    assert math.isnan(row["metric"])


def test_a_training_falls_from_the_nearest_length_to_its_end():
    lengths = pd.concat([trainings("a", [2.0] * 6 + [1.5, 1.2, 1.1, 1.0], 0.0), trainings("b", [3.0], 0.0)])
    assert falls(lengths, "loss", 0.7).to_dict() == {("a", 1): pytest.approx(0.5)}


def test_a_shorter_run_is_a_length_of_its_variant_and_no_variant(written_run, reported):
    for seed in (1, 2, 3):
        written_run("baseline", seed, 1.0, overrides=("trainer.max_steps=10",))
        written_run("baseline_0.7", seed, 1.3, overrides=("trainer.max_steps=7",), length=7)
        written_run("sparse", seed, 1.15, overrides=("regularizer=l1", "trainer.max_steps=10"))
    analysis = reported()
    assert analysis.variants == ["baseline", "sparse"]
    assert analysis.losses.index.tolist() == ["sparse"]
    cosine = analysis.matched.loc["sparse", "val/mean_abs_cosine/mlp_out/mean"]
    assert (cosine["mean"], cosine["n"]) == (pytest.approx(0.0), 3)  # the metric is a tenth of the loss in all of them
    assert "`baseline` -0.3000: no" in "\n".join(summary.sentences(analysis))
