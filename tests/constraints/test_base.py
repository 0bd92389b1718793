import pytest
import torch
from torch import nn

from tti.constraints.base import Constraint


class Ball(Constraint):
    """A constraint of the norm to 1 when fully tight, and to 2 in the middle of the warm-up."""

    def projected(self, weight, tightness):
        return weight / (weight.norm() * tightness).clamp_min(1)


def net():
    torch.manual_seed(0)
    return nn.ModuleDict({"inp": nn.Linear(4, 8), "out": nn.Linear(8, 4)})


def norms(module):
    return {name: parameter.norm().item() for name, parameter in module.named_parameters()}


def test_only_the_chosen_parameters_are_projected():
    module, ball = net(), Ball("*.weight", warmup=0.0)
    before = norms(module)
    ball.attach(module)
    ball.project(0.1)
    after = norms(module)
    assert after["inp.weight"] == pytest.approx(1)
    assert after["out.weight"] == pytest.approx(1)
    assert [after[name] for name in ("inp.bias", "out.bias")] == [before[name] for name in ("inp.bias", "out.bias")]


def test_it_tightens_over_the_warm_up():
    for progress, expected in ((0.0, None), (0.25, 2.0), (0.5, 1.0), (1.0, 1.0)):
        module, ball = net(), Ball("inp.weight", warmup=0.5)
        module["inp"].weight.data.mul_(10)
        before = norms(module)["inp.weight"]
        ball.attach(module)
        ball.project(progress)
        assert norms(module)["inp.weight"] == pytest.approx(expected or before)


def test_a_projection_keeps_the_parameter_and_its_gradient():
    module, ball = net(), Ball("inp.weight", warmup=0.0)
    weight = module["inp"].weight
    module["inp"](torch.ones(4)).sum().backward()
    ball.attach(module)
    ball.project(1.0)
    assert module["inp"].weight is weight
    assert weight.requires_grad
    assert weight.grad is not None


def test_a_glob_that_matches_nothing_is_an_error():
    with pytest.raises(ValueError, match=r"no parameter of this model matches 'nope'; it has: inp.bias, inp.weight"):
        Ball("nope", warmup=0.0).attach(net())


@pytest.mark.parametrize("warmup", [-0.1, 1.1])
def test_the_warm_up_is_a_fraction(warmup):
    with pytest.raises(ValueError, match=rf"warmup={warmup} must be a fraction"):
        Ball("*", warmup=warmup)
