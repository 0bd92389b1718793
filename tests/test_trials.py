"""The evaluation of tuning trials, without training."""

import math
from pathlib import Path

import pytest

from hydra_plugins.tti_variants import _trials
from hydra_plugins.tti_variants._trials import Trial, best, of_method, tuned_overrides, wider


def trials(losses, variant="v"):
    found = []
    for value, loss in losses.items():
        trial = Trial(variant, "optimizer.lr", value, (Path("none"),))
        trial.__dict__["losses"] = [loss]
        found.append(trial)
    return found


def test_the_lowest_loss_is_best_and_of_equals_the_smallest_value():
    assert best(trials({1.0: 2.0, 2.0: 1.5, 4.0: 1.5}))["v"].value == 2.0


def test_a_diverged_trial_is_never_best_and_all_diverged_is_an_error():
    assert best(trials({1.0: 2.0, 2.0: math.inf}))["v"].value == 1.0
    with pytest.raises(ValueError, match="every value of the grid made v diverge"):
        best(trials({1.0: math.inf, 2.0: math.inf}))


def test_the_grid_widens_where_the_best_lies_at_an_edge_and_only_there():
    assert wider(trials({1.0: 3.0, 2.0: 2.0, 4.0: 1.0})) == [8.0]
    assert wider(trials({1.0: 1.0, 2.0: 2.0, 4.0: 3.0})) == [0.5]
    assert wider(trials({1.0: 3.0, 2.0: 1.0, 4.0: 2.0})) == []


def test_strengths_of_one_method_differ_in_numbers_only():
    mild, strong = (of_method(["regularizer=l1", f"regularizer.l1.weight={w}"]) for w in ("1e-4", "1e-2"))
    assert mild == strong
    assert mild != of_method(["regularizer=l1", "regularizer.l1.weight=1e-4", "model/mlp=relu"])
    assert of_method(["model/mlp=topk"]) != of_method(["model/mlp=relu"])


def test_a_variant_takes_its_own_value_else_that_of_its_method(tmp_path):
    variants = {
        "baseline": [],
        "l1_1": ["regularizer=l1", "regularizer.l1.weight=1"],
        "l1_2": ["regularizer=l1", "regularizer.l1.weight=2"],
        "l1_3": ["regularizer=l1", "regularizer.l1.weight=3"],
    }
    file = tmp_path / "tuning.yaml"
    file.write_text("baseline: [optimizer.lr=1]\nl1_1: [optimizer.lr=2]\nl1_3: [optimizer.lr=3]\n")
    assert tuned_overrides(file, variants, list(variants)) == {
        "baseline": ["optimizer.lr=1"],
        "l1_1": ["optimizer.lr=2"],
        "l1_2": ["optimizer.lr=2"],
        "l1_3": ["optimizer.lr=3"],
    }
    assert tuned_overrides(file, variants, ["l1_2"]) == {"l1_2": ["optimizer.lr=2"]}


def test_a_file_that_is_no_table_is_named(tmp_path):
    (tmp_path / "t.yaml").write_text("just text")
    with pytest.raises(ValueError, match=r"t\.yaml is not a tuning table"):
        _trials.tuned_overrides(tmp_path / "t.yaml", {}, [])


def test_the_loss_that_decides_is_the_mean_over_seeds_and_a_diverged_one_rules_it_out():
    lucky, steady, lost = trials({1.0: 0, 2.0: 0, 4.0: 0})
    for trial, losses in ((lucky, [0.1, 0.9]), (steady, [0.4, 0.4]), (lost, [0.1, math.inf])):
        trial.__dict__["losses"] = losses
    assert best([lucky, steady, lost])["v"] is steady
