"""The penalties against plain implementations of their definitions in float64, gradients by autograd."""

import math

import pytest
import torch

from tti.regularizers.anti_polysemantic import AntiPolysemantic, _MeanTypeEntropy
from tti.regularizers.l1 import L1
from tti.regularizers.orthogonality import Orthogonality, _MeanAbsCosine

SITE = {"blocks.0.mlp_out": 8}
TYPES = torch.tensor([0, 1, 2, 1, 3, 4, 0, 2, 5, 1, 3, 0])


def attached(kind):
    term = kind("blocks.*.mlp_out", weight=1.0, warmup=0.0)
    term.attach(SITE)
    return term


def dense():
    return torch.randn(12, 8, generator=torch.Generator().manual_seed(0))


def sparse():
    return dense().relu() * (dense() > 0.3)


def with_silent_neurons():
    acts = sparse()
    acts[:, [1, 6]] = 0
    return acts


def one_token_types():
    acts = torch.zeros(12, 8)
    acts[4] = 1.5
    return acts


INPUTS = [dense, sparse, with_silent_neurons, one_token_types]


def naive_cosine(acts):
    norms = acts.norm(dim=0)
    pairs = [(i, j) for i in range(8) for j in range(8) if i != j]
    alive = [(i, j) for i, j in pairs if norms[i] > 0 and norms[j] > 0]
    return sum((acts[:, i] @ acts[:, j]).abs() / (norms[i] * norms[j]) for i, j in alive) / len(pairs)


def naive_entropy(acts):
    entropies = []
    for neuron in acts.unbind(1):
        mass = torch.stack([neuron[type_ == TYPES].abs().sum() for type_ in TYPES.unique()])
        if mass.sum() > 0:
            p = mass[mass > 0] / mass.sum()
            entropies.append(-(p * p.log()).sum())
    return torch.stack(entropies).mean()


def naive_l1(acts):
    return acts.abs().mean()


FORMULAS = [(Orthogonality, naive_cosine), (AntiPolysemantic, naive_entropy), (L1, naive_l1)]


@pytest.mark.parametrize("make_acts", INPUTS)
@pytest.mark.parametrize(("kind", "naive"), FORMULAS)
def test_value_and_gradient_are_those_of_the_definition(make_step, kind, naive, make_acts):
    acts = make_acts().requires_grad_()
    penalty = attached(kind)(make_step(acts, TYPES))
    (gradient,) = torch.autograd.grad(penalty, acts)
    exact = make_acts().double().requires_grad_()
    expected = naive(exact)
    (expected_gradient,) = torch.autograd.grad(expected, exact)
    # Where a sum over a type is 0 the entropy's slope is infinite: 0 by convention, as in the definition above.
    torch.testing.assert_close(penalty.double(), expected, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(gradient.double(), expected_gradient, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(("kind", "naive"), FORMULAS)
def test_the_gradient_is_scaled_with_what_comes_from_above(make_step, kind, naive):
    acts = dense().requires_grad_()
    term, step = attached(kind), make_step(acts, TYPES)
    (single,) = torch.autograd.grad(term(step), acts)
    (scaled,) = torch.autograd.grad(-300 * term(step), acts)
    torch.testing.assert_close(scaled, -300 * single)


@pytest.mark.parametrize("kind", [Orthogonality, AntiPolysemantic, L1])
def test_an_all_silent_batch_has_penalty_0_and_gradient_0(make_step, kind):
    acts = torch.zeros(12, 8, requires_grad=True)
    penalty = attached(kind)(make_step(acts, TYPES))
    assert penalty == 0
    penalty.backward()
    assert (acts.grad == 0).all()


def test_closed_forms_pass_gradcheck():
    acts = dense().double().requires_grad_()
    assert torch.autograd.gradcheck(_MeanAbsCosine.apply, acts)
    assert torch.autograd.gradcheck(lambda a: _MeanTypeEntropy.apply(a, TYPES, 6)[0], acts)


@pytest.mark.parametrize("kind", [Orthogonality, AntiPolysemantic])
def test_scale_is_no_way_out(make_step, kind):
    term = attached(kind)
    values = [term(make_step(dense() * scale, TYPES)).item() for scale in (1e-4, 1.0, 1e4)]
    assert values == pytest.approx([values[1]] * 3, rel=1e-4)


@pytest.mark.parametrize("kind", [Orthogonality, AntiPolysemantic, L1])
def test_a_step_down_the_gradient_lowers_the_penalty(make_step, kind):
    acts = dense().requires_grad_()
    term = attached(kind)
    penalty = term(make_step(acts, TYPES))
    (gradient,) = torch.autograd.grad(penalty, acts)
    assert term(make_step(acts - 0.01 * gradient / gradient.norm(), TYPES)) < penalty


def test_orthogonality_knows_orthogonal_and_equal_neurons(make_step):
    assert attached(Orthogonality)(make_step(torch.eye(8))) == 0
    assert attached(Orthogonality)(make_step(torch.randn(12, 1).expand(12, 8))).item() == pytest.approx(1)


def test_a_neuron_of_one_type_has_entropy_0_and_a_constant_one_log_n(make_step):
    types = torch.arange(6).repeat(2)
    assert attached(AntiPolysemantic)(make_step(torch.ones(12, 8), types)).item() == pytest.approx(math.log(6))
    monosemantic = torch.nn.functional.one_hot(types, 8).float()[:, :6]
    assert attached(AntiPolysemantic)(make_step(monosemantic, types)).item() == pytest.approx(0, abs=1e-6)


def test_silent_neurons_are_left_out_and_counted(make_step):
    step = make_step(with_silent_neurons(), TYPES)
    penalty = attached(AntiPolysemantic)(step)
    assert step.notes["silent"] == 2
    kept = with_silent_neurons()[:, [0, 2, 3, 4, 5, 7]]
    torch.testing.assert_close(penalty, attached(AntiPolysemantic)(make_step(kept, TYPES)))


def test_silent_neurons_are_counted_over_all_sites(make_step):
    term = AntiPolysemantic("blocks.*.mlp_out", weight=1.0, warmup=0.0)
    term.attach({"blocks.0.mlp_out": 8, "blocks.1.mlp_out": 8})
    step = make_step(with_silent_neurons(), TYPES)
    step.activations["blocks.1.mlp_out"] = with_silent_neurons()
    term(step)
    assert step.notes["silent"] == 4


@pytest.mark.parametrize("kind", [Orthogonality, AntiPolysemantic])
def test_autocast_does_not_round_the_statistics(make_step, kind):
    term, step = attached(kind), make_step(dense(), TYPES)
    expected = term(step)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        torch.testing.assert_close(term(step), expected)
