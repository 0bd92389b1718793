"""V and G of metrics whose relation to the truth is known."""

import numpy as np
import pandas as pd
import pytest
from omegaconf import OmegaConf

from tti.court import trained
from tti.court.scores import Metric
from tti.court.trained import Trained, beats, partial

DECLARED = OmegaConf.create(
    {
        "truth": "truth",
        "given": ["loss", "density"],
        "decoys": ["decoys"],
        "validity": 0.0,
        "auc": 0.9,
        "goodhart": {"for_honest": "honest", "for_hollow": "hollow", "for_still": "still"},
    }
)
SEEDS = range(4)


@pytest.fixture
def networks():
    """Runs in which ``honest`` is the truth, ``dense`` the density, ``hollow`` high in decoys, and one is trained for
    each of three."""
    draw = np.random.default_rng(0)
    truths = {"baseline": 0.2, **{f"strength_{i}": 0.1 + 0.05 * i for i in range(8)}, "decoys": 0.0,
              "for_honest": 0.5, "for_hollow": 0.05, "for_still": 0.2}  # fmt: skip
    rows = []
    for variant, truth in truths.items():
        for seed in SEEDS:
            own, density = truth + 0.004 * draw.standard_normal(), draw.random()
            rows.append({
                "variant": f"expt/{variant}", "seed": seed, "truth": own, "loss": draw.random(), "density": density,
                "honest": own + 0.004 * draw.standard_normal(), "dense": density, "still": 1.0,
                "hollow": 1 - own + 0.001 * draw.standard_normal(), "undefined": np.nan if seed else 1.0,
            })  # fmt: skip
    found = object.__new__(Trained)
    found.declared, found.baseline, found._validity = DECLARED, "baseline", {}
    found.figures = pd.DataFrame(rows).set_index(["variant", "seed"]).sort_index()
    return found


def metric(name, better="more"):
    return Metric(name, better, "")


def test_a_metric_that_is_the_truth_is_valid(networks):
    found = networks.validity(metric("honest"))
    assert found.met
    assert found.correlation > 0.9
    assert found.low > 0.8
    assert networks.truth_auc == 1


def test_one_that_goes_with_the_density_is_not_since_density_is_given(networks):
    assert np.isnan(networks.validity(metric("dense")).correlation)
    assert not networks.validity(metric("dense")).met


def test_one_that_falls_with_the_truth_is_valid_only_if_less_is_better(networks):
    assert networks.validity(metric("hollow")).correlation < -0.9
    assert networks.validity(metric("hollow", "less")).met


def test_one_that_is_undefined_in_a_run_is_not_in(networks):
    assert networks.validity(metric("undefined")) is None


def test_training_for_the_truth_keeps_it_and_for_its_opposite_does_not(networks):
    kept, lost = networks.survival(metric("honest")), networks.survival(metric("hollow"))
    assert (kept.moved, kept.met, lost.moved, lost.met) == (True, True, True, False)
    assert kept.truth[0] == pytest.approx(0.3, abs=0.01)
    assert lost.truth[0] == pytest.approx(-0.15, abs=0.01)
    assert kept.seeds == len(SEEDS)


def test_a_metric_that_training_did_not_move_was_not_tried(networks):
    found = networks.survival(metric("still"))
    assert (found.moved, found.met) == (False, False)


def test_no_network_was_trained_for_others(networks):
    assert networks.survival(metric("dense")) is None


def test_partial_correlation_leaves_out_what_is_given():
    draw = np.random.default_rng(1)
    given = draw.standard_normal((400, 1))
    one, other = given[:, 0] + 0.1 * draw.standard_normal((2, 400))
    assert abs(partial(one, other, given)) < 0.2 < 0.9 < partial(one, one**3, given)


def test_beats():
    assert beats(np.array([2.0, 3.0]), np.array([1.0])) == 1
    assert beats(np.array([1.0]), np.array([1.0])) == 0.5
    assert np.isnan(beats(np.array([1.0]), np.array([])))


def test_figures_are_named_as_in_the_court():
    named = trained._named({"part/a/mlp.post/mean": 3.0, "part/b": 1.0}, {"part/a/mlp.post/mean": 1.0})
    assert named == {"part/a": 3.0, "part/b": 1.0, "part/a - rotation": 2.0}
