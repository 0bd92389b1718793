from itertools import count

import torch

from tti.benchmarking.ours import Ours
from tti.benchmarking.regularizers import Penalties, Regularizers, attaches, regularizers


def test_every_option_that_adds_something_is_measured():
    assert {"l1", "orthogonality", "anti_polysemantic"} <= set(regularizers())
    assert "none" not in regularizers()


def test_only_sites_that_a_regularizer_accepts(setting):
    assert attaches(setting, "l1", "blocks.*.mlp_out")
    assert not attaches(setting, "l1", "blocks.*.nope")


def test_own_sites_come_first_and_what_needs_another_model_is_measured_at_them_alone(setting):
    table = Regularizers(["blocks.*.mlp_out"], needs={"l0": ["model/mlp=hard_concrete"]}, at={}, rounds=1)
    assert table._sites(setting, "l1") == ["blocks.*.mlp.post", "blocks.*.mlp_out"]
    assert table._sites(setting, "orthogonality") == ["blocks.*.mlp_out"]
    assert len(table._sites(setting.having("model/mlp=hard_concrete"), "l0")) == 1


def test_penalties_by_themselves_are_those_of_a_step_and_leave_nothing_behind(setting):
    loop = Ours(setting.having("regularizer=[l1,orthogonality]"))
    penalties = Penalties(loop, setting.samples)
    reached: dict[str, torch.Tensor] = {}
    for site, activation in penalties.steps[0].activations.items():
        activation.register_hook(lambda gradient, site=site: reached.update({site: gradient}))
    seconds = count()
    assert penalties.seconds_a_token(lambda: next(seconds), 0) == 1 / len(setting.samples[0].batch)
    assert set(reached) == {site for term in loop.net.objective.terms.values() for site in term.sites}
    assert all(gradient.abs().sum() > 0 for gradient in reached.values())
    assert all(parameter.grad is None for parameter in loop.net.parameters())
    assert all(activation.grad is None for activation in penalties.steps[0].activations.values())
