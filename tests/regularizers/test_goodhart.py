"""Formulas as objectives: they equal the metric, have the gradient of finite differences, and move the metric."""

import math

import pytest
import torch

from tests.conftest import make_step
from tti import measures
from tti.models.network import Site
from tti.regularizers import goodhart

FORMULAS = [goodhart.type_entropy, goodhart.cosine, goodhart.correlation, goodhart.density, goodhart.selectivity]
TYPES = torch.arange(60) % 7
each_formula = pytest.mark.parametrize("formula", FORMULAS, ids=lambda formula: formula.__name__)


def activations():
    acts = torch.randn(60, 5, generator=torch.Generator().manual_seed(0))
    acts[:, 0] += 3.0 * (TYPES == 2)
    return acts


def term(formula, maximise=False):
    made = goodhart.Goodhart("blocks.*.mlp_out", weight=1.0, warmup=0.0, formula=formula, maximise=maximise)
    made.attach({"blocks.0.mlp_out": Site(5)})
    return made


@each_formula
def test_maximising_is_minimising_the_negative(formula):
    step = make_step(activations(), TYPES)
    value = formula(step.activations["blocks.0.mlp_out"], step)
    assert term(formula)(step).item() == pytest.approx(value.item())
    assert step.notes["value"].item() == pytest.approx(value.item())
    assert term(formula, maximise=True)(step).item() == pytest.approx(-value.item())


@each_formula
def test_a_step_down_the_gradient_lowers_the_formula(formula):
    acts = activations().requires_grad_()
    before = formula(acts, make_step(acts, TYPES))
    (gradient,) = torch.autograd.grad(before, acts)
    assert gradient.isfinite().all()
    moved = acts.detach() - 1e-3 * gradient / gradient.norm()
    change = formula(moved, make_step(moved, TYPES)) - before.detach()
    assert change.item() == pytest.approx(-1e-3 * gradient.norm().item(), rel=0.2)


@each_formula
@pytest.mark.parametrize("acts", [torch.zeros(60, 5), torch.ones(60, 5), activations().relu() * (activations() > 1)])
def test_silent_and_constant_neurons_have_finite_gradients(formula, acts):
    acts = acts.clone().requires_grad_()
    value = formula(acts, make_step(acts, TYPES, n_types=9))
    assert value.isfinite()
    assert torch.autograd.grad(value, acts)[0].isfinite().all()


def test_density_of_known_neurons():
    acts = torch.zeros(8, 3)
    acts[:, 0] = -2
    acts[:2, 1] = 5
    found, active = measures.density(acts)
    assert found.tolist() == pytest.approx([1, 0.25, 0])
    assert active.tolist() == [True, True, False]


def test_soft_selectivity_of_known_neurons():
    types = torch.arange(400) % 20
    acts = torch.zeros(400, 3)
    acts[:, 0] = (types == 3).float()
    acts[:, 1] = torch.randn(400, generator=torch.Generator().manual_seed(1))
    acts[:, 2] = 1
    found = measures.soft_selectivity(acts, types, 20, width=0.01)
    hard = [information / entropy for information, entropy in zip(
        *measures.binary_information(_counts(acts[:, :2], types), torch.full((20,), 20)), strict=True)]  # fmt: skip
    assert found[1].item() == pytest.approx(float(hard[1]), abs=0.05)
    assert found[2] == 0
    assert math.isclose(float(hard[0]), 1)


def _counts(acts, types):
    on = (acts > acts.kthvalue(380, 0).values).float()
    return torch.zeros(20, acts.shape[1]).index_add_(0, types, on)
