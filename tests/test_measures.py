import math
from collections import Counter

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tti.measures import (
    cosine_gradient,
    cosines,
    mean_abs_cosine,
    mean_over,
    type_entropy,
    type_entropy_gradient,
    type_mass,
)


def gram(acts):
    return acts.T @ acts


def test_orthogonal_neurons_have_cosine_0():
    assert mean_abs_cosine(torch.eye(5)) == 0
    assert mean_abs_cosine(gram(torch.linalg.qr(torch.randn(20, 6, dtype=torch.float64)).Q)) < 1e-12


def test_equal_and_opposite_neurons_have_cosine_1():
    column = torch.randn(20, 1)
    assert mean_abs_cosine(gram(column.expand(20, 4))).item() == pytest.approx(1)
    assert mean_abs_cosine(gram(torch.cat([column, -3 * column], dim=1))).item() == pytest.approx(1)


def test_a_known_value():
    acts = torch.tensor([[1.0, 1.0], [0.0, 1.0]])  # at 45 degrees
    assert mean_abs_cosine(gram(acts)).item() == pytest.approx(math.sqrt(0.5))
    torch.testing.assert_close(cosines(gram(acts)), torch.tensor([[1.0, 0.5**0.5], [0.5**0.5, 1.0]]))


def test_the_mean_is_over_ordered_pairs_without_the_diagonal():
    acts = torch.tensor([[1.0, 1.0, 0.0], [0.0, 0.0, 1.0]])  # of three pairs one is parallel, two orthogonal
    assert mean_abs_cosine(gram(acts)).item() == pytest.approx(1 / 3)


@pytest.mark.parametrize("scale", [1e-6, 1e-3, 1e6])
def test_cosines_do_not_change_with_the_scale_of_neurons(scale):
    acts = torch.randn(30, 5)
    scaled = acts * torch.tensor([scale, 1.0, 2.0, scale, 1.0])
    torch.testing.assert_close(cosines(gram(scaled)), cosines(gram(acts)), rtol=1e-4, atol=1e-5)


def test_a_dead_neuron_is_orthogonal_to_all():
    acts = torch.randn(30, 5)
    acts[:, 2] = 0
    assert (cosines(gram(acts))[2] == 0).all()
    assert (cosine_gradient(gram(acts))[2] == 0).all()
    kept = acts[:, [0, 1, 3, 4]]
    assert mean_abs_cosine(gram(acts)).item() == pytest.approx(mean_abs_cosine(gram(kept)).item() * 12 / 20)
    assert mean_abs_cosine(torch.zeros(4, 4)) == 0
    assert (cosine_gradient(torch.zeros(4, 4)) == 0).all()


def test_the_gram_matrix_is_left_alone():
    matrix = gram(torch.randn(30, 5))
    before = matrix.clone()
    mean_abs_cosine(matrix)
    cosine_gradient(matrix)
    assert torch.equal(matrix, before)


def test_cosine_gradient_is_the_gradient():
    acts = torch.randn(12, 5, dtype=torch.float64, requires_grad=True)
    (expected,) = torch.autograd.grad(mean_abs_cosine(gram(acts)), acts)
    torch.testing.assert_close(acts @ cosine_gradient(gram(acts)), expected)


def test_mass_is_summed_by_type():
    acts = torch.tensor([[1.0, -2.0], [3.0, 0.0], [-5.0, 4.0]])
    mass = type_mass(acts, torch.tensor([2, 0, 2]), 3)
    assert mass.tolist() == [[3, 0], [0, 0], [6, 6]]


@pytest.mark.parametrize("types", [1, 2, 10])
def test_entropy_is_0_for_one_type_and_log_n_for_n_alike(types):
    one = torch.zeros(types, 1)
    one[-1] = 7.0
    entropy, active = type_entropy(torch.cat([one, torch.full((types, 1), 0.3)], dim=1))
    assert entropy[0] == 0
    assert entropy[1].item() == pytest.approx(math.log(types), abs=1e-6)
    assert active.all()


def test_entropy_does_not_change_with_scale():
    mass = torch.rand(9, 3)
    for scale in (1e-20, 1e20):
        torch.testing.assert_close(type_entropy(mass * scale)[0], type_entropy(mass)[0])


def test_a_silent_neuron_is_not_active_and_is_left_out_of_the_mean():
    mass = torch.tensor([[1.0, 0.0, 2.0], [1.0, 0.0, 0.0]])
    entropy, active = type_entropy(mass)
    assert active.tolist() == [True, False, True]
    assert entropy[1] == 0
    assert mean_over(entropy, active).item() == pytest.approx(math.log(2) / 2)
    assert mean_over(entropy, torch.zeros(3, dtype=torch.bool)) == 0


def brute_force(acts, types):
    """Entropy of every neuron from dictionaries, token by token."""
    entropies = []
    for neuron in zip(*acts.tolist(), strict=True):
        mass: Counter[int] = Counter()
        for activation, type_ in zip(neuron, types, strict=True):
            mass[type_] += abs(activation)
        total = sum(mass.values())
        shares = [m / total for m in mass.values() if m > 0]
        entropies.append(-sum(p * math.log(p) for p in shares))
    return entropies


@given(types=st.lists(st.integers(0, 6), min_size=1, max_size=30), seed=st.integers(0, 99))
@settings(max_examples=30, deadline=None)
def test_entropy_is_that_of_a_brute_force_count(types, seed):
    acts = torch.randn(len(types), 4, generator=torch.Generator().manual_seed(seed))
    acts[:, 1] = acts[:, 1].relu()
    entropy, active = type_entropy(type_mass(acts, torch.tensor(types), 7))
    assert entropy.tolist() == pytest.approx(brute_force(acts, types), abs=1e-5)
    assert (entropy <= math.log(len(set(types))) + 1e-5).all()
    assert active.tolist() == [bool(total > 0) for total in acts.abs().sum(0)]


def test_entropy_gradient_is_the_gradient_and_0_where_a_type_has_no_mass():
    mass = torch.rand(6, 4, dtype=torch.float64, requires_grad=True)
    (expected,) = torch.autograd.grad(mean_over(*type_entropy(mass)), mass)
    torch.testing.assert_close(type_entropy_gradient(mass.detach()), expected)
    sparse = mass.detach().clone()
    sparse[2, 1] = sparse[:, 3] = 0
    gradient = type_entropy_gradient(sparse)
    assert gradient.isfinite().all()
    assert gradient[2, 1] == 0
    assert (gradient[:, 3] == 0).all()
