"""The penalties equal plain float64 implementations of their definitions; their gradients equal autograd's."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.conftest import make_step as step_of
from tti.models.network import Site
from tti.regularizers.anti_polysemantic import AntiPolysemantic, _MeanTypeEntropy
from tti.regularizers.decorrelation import Decorrelation, _MeanSquaredCorrelation
from tti.regularizers.hoyer import Hoyer, _MeanHoyer
from tti.regularizers.l1 import L1, _MeanAbs
from tti.regularizers.orthogonality import Orthogonality, _MeanAbsCosine
from tti.regularizers.pairs import PairRegularizer

SITE = {"blocks.0.mlp_out": Site(8)}
TYPES = torch.tensor([0, 1, 2, 1, 3, 4, 0, 2, 5, 1, 3, 0])


def attached(kind):
    knobs = {"sample": None} if issubclass(kind, PairRegularizer) else {}
    term = kind("blocks.*.mlp_out", weight=1.0, warmup=0.0, **knobs)
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


def with_silent_tokens():
    acts = sparse()
    acts[[0, 7]] = 0
    return acts


def with_constant_neurons():
    acts = dense() + 1
    acts[:, [2, 5]] = torch.tensor([0.7, -3.1])
    return acts


INPUTS = [dense, sparse, with_silent_neurons, one_token_types, with_silent_tokens, with_constant_neurons]


def naive_cosine(acts):
    norms = acts.norm(dim=0)
    pairs = [(i, j) for i in range(8) for j in range(8) if i != j]
    alive = [(i, j) for i, j in pairs if norms[i] > 0 and norms[j] > 0]
    return sum((acts[:, i] @ acts[:, j]).abs() / (norms[i] * norms[j]) for i, j in alive) / len(pairs)


def naive_correlation(acts):
    deviation = acts - acts.mean(0)
    norms = deviation.norm(dim=0)
    pairs = [(i, j) for i in range(8) for j in range(8) if i != j]
    varying = [(i, j) for i, j in pairs if min(norms[i], norms[j]) > 1e-9]
    return sum((deviation[:, i] @ deviation[:, j] / (norms[i] * norms[j])) ** 2 for i, j in varying) / len(pairs)


def naive_hoyer(acts):
    alive = [token for token in acts if token.any()]
    return sum(token.abs().sum() ** 2 / (token**2).sum() for token in alive) / 8 / len(acts)


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


FORMULAS = [
    (Orthogonality, naive_cosine),
    (Decorrelation, naive_correlation),
    (AntiPolysemantic, naive_entropy),
    (Hoyer, naive_hoyer),
    (L1, naive_l1),
]
KINDS = [kind for kind, _ in FORMULAS]
SCALE_FREE = [Orthogonality, Decorrelation, AntiPolysemantic, Hoyer]


@pytest.mark.parametrize("make_acts", INPUTS)
@pytest.mark.parametrize(("kind", "naive"), FORMULAS)
def test_value_and_gradient_are_those_of_the_definition(make_step, kind, naive, make_acts):
    acts = make_acts().requires_grad_()
    penalty = attached(kind)(make_step(acts, TYPES))
    (gradient,) = torch.autograd.grad(penalty, acts)
    exact = make_acts().double().requires_grad_()
    expected = naive(exact)
    (expected_gradient,) = torch.autograd.grad(expected, exact)
    # The entropy's slope is infinite if the sum over a type is 0: 0 by convention, as in the definition above.
    torch.testing.assert_close(penalty.double(), expected, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(gradient.double(), expected_gradient, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(("kind", "naive"), FORMULAS)
def test_the_gradient_is_scaled_with_what_comes_from_above(make_step, kind, naive):
    acts = dense().requires_grad_()
    term, step = attached(kind), make_step(acts, TYPES)
    (single,) = torch.autograd.grad(term(step), acts)
    (scaled,) = torch.autograd.grad(-300 * term(step), acts)
    torch.testing.assert_close(scaled, -300 * single)


@pytest.mark.parametrize("kind", KINDS)
def test_an_all_silent_batch_has_penalty_0_and_gradient_0(make_step, kind):
    acts = torch.zeros(12, 8, requires_grad=True)
    penalty = attached(kind)(make_step(acts, TYPES))
    assert penalty == 0
    penalty.backward()
    assert (acts.grad == 0).all()


def test_closed_forms_pass_gradcheck():
    acts = dense().double().requires_grad_()
    for formula in (_MeanAbsCosine, _MeanSquaredCorrelation, _MeanHoyer, _MeanAbs):
        assert torch.autograd.gradcheck(formula.apply, acts)
    assert torch.autograd.gradcheck(lambda a: _MeanTypeEntropy.apply(a, TYPES, 6)[0], acts)


@pytest.mark.parametrize("kind", SCALE_FREE)
def test_scale_is_no_way_out(make_step, kind):
    term = attached(kind)
    values = [term(make_step(dense() * scale, TYPES)).item() for scale in (1e-4, 1.0, 1e4)]
    assert values == pytest.approx([values[1]] * 3, rel=1e-4)


@pytest.mark.parametrize("kind", KINDS)
def test_a_step_down_the_gradient_lowers_the_penalty(make_step, kind):
    acts = dense().requires_grad_()
    term = attached(kind)
    penalty = term(make_step(acts, TYPES))
    (gradient,) = torch.autograd.grad(penalty, acts)
    assert term(make_step(acts - 0.01 * gradient / gradient.norm(), TYPES)) < penalty


def test_orthogonality_knows_orthogonal_and_equal_neurons(make_step):
    assert attached(Orthogonality)(make_step(torch.eye(8))) == 0
    assert attached(Orthogonality)(make_step(torch.randn(12, 1).expand(12, 8))).item() == pytest.approx(1)


def test_orthogonality_sees_the_mean_activation_and_decorrelation_does_not(make_step):
    shifted = [make_step(dense() + offset) for offset in (0.0, 5.0)]
    before, after = (attached(Decorrelation)(step).item() for step in shifted)
    assert after == pytest.approx(before, rel=1e-3)
    assert attached(Orthogonality)(shifted[1]) > 0.9 > attached(Orthogonality)(shifted[0])


def test_decorrelation_knows_uncorrelated_and_equal_neurons(make_step):
    walsh = torch.tensor([[1.0, 1.0], [1.0, -1.0]])
    uncorrelated = torch.kron(torch.kron(walsh, walsh), torch.kron(walsh, walsh))[:, 1:9] + 3
    assert attached(Decorrelation)(make_step(uncorrelated)).item() == pytest.approx(0, abs=1e-10)
    assert attached(Decorrelation)(make_step(dense()[:, :1].expand(12, 8))).item() == pytest.approx(1, abs=1e-5)


@pytest.mark.parametrize("on", range(1, 9))
def test_hoyer_is_the_fraction_of_neurons_that_are_on(make_step, on):
    acts = torch.zeros(12, 8)
    acts[:, :on] = -0.2
    assert attached(Hoyer)(make_step(acts)).item() == pytest.approx(on / 8)


@given(st.lists(st.floats(-1e3, 1e3, width=32).filter(lambda a: a == 0 or abs(a) > 1e-3), min_size=8, max_size=8))
@settings(max_examples=50, deadline=None)
def test_hoyer_is_from_one_neuron_to_all(token):
    value = attached(Hoyer)(step_of(torch.tensor([token]))).item()
    on = sum(a != 0 for a in token)
    assert (1 / 8 - 1e-6 <= value <= on / 8 + 1e-6) if on else value == 0


def test_a_silent_token_counts_0_and_is_not_left_out(make_step):
    acts = dense().requires_grad_()
    (gradient,) = torch.autograd.grad(attached(Hoyer)(make_step(acts)), acts)
    padded = torch.cat([dense(), torch.zeros(12, 8)]).requires_grad_()
    (half,) = torch.autograd.grad(attached(Hoyer)(make_step(padded)), padded)
    assert (half[12:] == 0).all()
    torch.testing.assert_close(half[:12], gradient / 2)


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
    term.attach({"blocks.0.mlp_out": Site(8), "blocks.1.mlp_out": Site(8)})
    step = make_step(with_silent_neurons(), TYPES)
    step.activations["blocks.1.mlp_out"] = with_silent_neurons()
    term(step)
    assert step.notes["silent"] == 4


@pytest.mark.parametrize("kind", KINDS)
def test_autocast_does_not_round_the_statistics(make_step, kind):
    term, step = attached(kind), make_step(dense(), TYPES)
    expected = term(step)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        torch.testing.assert_close(term(step), expected)


@pytest.mark.parametrize("kind", KINDS)
def test_bfloat16_activations_are_rounded_and_nothing_else(make_step, kind):
    """The value is that of the rounded activations in float32; the gradient is rounded once."""
    rounded = dense().bfloat16().requires_grad_()
    exact = rounded.detach().float().requires_grad_()
    penalty, expected = (attached(kind)(make_step(acts, TYPES)) for acts in (rounded, exact))
    assert torch.equal(penalty, expected)
    (gradient,), (expected_gradient,) = torch.autograd.grad(penalty, rounded), torch.autograd.grad(expected, exact)
    torch.testing.assert_close(gradient, expected_gradient.bfloat16(), rtol=2**-7, atol=1e-8)
