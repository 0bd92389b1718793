"""Method and strength of a variant, from its name and its overrides."""

import math
from types import SimpleNamespace

from tti.reporting.given import Key
from tti.reporting.tables import Strength, strengths

KL = ["regularizer=kl", "regularizer.kl.weight=3"]
LABELS = ["regularizer=[kl,supervision]", "regularizer.kl.weight=3", "regularizer.kl.target=20"]
VARIANTS = {
    "baseline": ["model.noise=false"],
    "beta_0.3": ["regularizer=kl", "regularizer.kl.weight=0.3"],
    "beta_4": ["regularizer=kl", "regularizer.kl.weight=4", "regularizer.kl.free=0.25"],
    "kl_2": [*KL, "regularizer.kl.target=2"],
    "kl_20": [*KL, "regularizer.kl.target=20"],
    "supervised_10": [*LABELS, "regularizer.supervision.labelled=0.1"],
    "supervised_100": LABELS,
    "topk_25": ["model/mlp=topk", "model.mlp.keep=0.25"],
    "l1": ["regularizer=l1", "regularizer.l1.weight=1e-3"],
    "several": [*KL, "regularizer.kl.target=7"],
}


def found():
    runs = [SimpleNamespace(key=Key("e", name, 1), overrides=overrides) for name, overrides in VARIANTS.items()]
    return strengths(runs)


def test_the_number_at_the_end_of_a_name_tells_which_of_the_numbers_is_the_strength():
    assert found()["kl_2"] == Strength("kl", "regularizer.kl.target", 2.0)
    assert found()["beta_4"] == Strength("beta", "regularizer.kl.weight", 4.0)


def test_so_methods_with_equal_words_are_told_apart():
    """Without their names, both would be the method ``kl``."""
    assert found()["beta_0.3"] == Strength("beta", "regularizer.kl.weight", 0.3)
    assert {name for name, strength in found().items() if strength.method == "kl"} == {"kl_2", "kl_20"}


def test_a_number_that_is_none_of_several_is_the_strength_all_the_same():
    assert [found()[f"supervised_{share}"] for share in (10, 100)] == [
        Strength("supervised", "", 10.0), Strength("supervised", "", 100.0)]  # fmt: skip


def test_a_single_number_is_the_strength_whatever_the_name():
    assert found()["topk_25"] == Strength("topk", "model.mlp.keep", 0.25)
    assert found()["l1"] == Strength("l1", "regularizer.l1.weight", 1e-3)


def test_several_numbers_without_a_name_for_one_are_none():
    assert found()["several"].method == "several"
    assert math.isnan(found()["several"].value)
