import math
from collections import Counter

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tti.measures import (
    SimilaritySums,
    add_gram,
    binary_information,
    centred,
    correlation_gradient,
    cosine_gradient,
    cosines,
    covariance,
    debiased_cka,
    gram_matrix,
    mean_abs_cosine,
    mean_over,
    mean_squared_correlation,
    mirrored,
    participation_ratio,
    rounding_error,
    type_entropy,
    type_entropy_with_gradient,
    type_mass,
    unshifted,
    weighted_mean_over_pairs,
)


def gram(acts):
    return acts.T @ acts


def covariance_of(acts):
    return centred(gram(acts), acts.sum(0), len(acts))


def test_a_gram_matrix_has_float32_products_whatever_autocast_says():
    acts = torch.randn(50, 5)
    expected, rounded = gram(acts), gram(acts.bfloat16().float())
    with torch.autocast("cpu", dtype=torch.bfloat16):
        torch.testing.assert_close(gram_matrix(acts), expected)
        torch.testing.assert_close(gram_matrix(acts.bfloat16()), rounded)
    assert gram_matrix(acts.double()).dtype == torch.float64


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
    acts = torch.tensor([[1.0, 1.0, 0.0], [0.0, 0.0, 1.0]])  # one of three pairs is parallel, two are orthogonal
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


def test_pairs_weighted_alike_have_the_plain_mean_and_weightless_neurons_do_not_count():
    acts = torch.randn(30, 4, dtype=torch.float64)
    cosine = cosines(gram(acts)).abs()
    plain = mean_abs_cosine(gram(acts)).item()
    assert weighted_mean_over_pairs(cosine, torch.full((4,), 0.3)) == pytest.approx(plain)
    weights = torch.tensor([1.0, 2, 3, 0])
    pairs = {(0, 1): 2, (0, 2): 3, (1, 2): 6}
    expected = sum(weight * cosine[pair].item() for pair, weight in pairs.items()) / 11
    assert weighted_mean_over_pairs(cosine, weights) == pytest.approx(expected)
    assert weighted_mean_over_pairs(cosine, torch.zeros(4)) == 0


def test_the_gram_matrix_is_left_alone():
    matrix = gram(torch.randn(30, 5))
    before = matrix.clone()
    mean_abs_cosine(matrix)
    cosine_gradient(matrix)
    centred(matrix, torch.full((5,), 2.0), 30)
    mean_squared_correlation(matrix)
    correlation_gradient(matrix)
    assert torch.equal(matrix, before)


def test_cosine_gradient_is_the_gradient():
    acts = torch.randn(12, 5, dtype=torch.float64, requires_grad=True)
    (expected,) = torch.autograd.grad(mean_abs_cosine(gram(acts)), acts)
    torch.testing.assert_close(acts @ cosine_gradient(gram(acts)), expected)


def test_correlations_are_those_of_the_textbook():
    acts = torch.randn(40, 6, dtype=torch.float64) @ torch.randn(6, 6, dtype=torch.float64) + 3
    expected = torch.corrcoef(acts.T)
    torch.testing.assert_close(cosines(covariance_of(acts)), expected)
    torch.testing.assert_close(covariance_of(acts), 39 * torch.cov(acts.T))
    off_diagonal = expected[~torch.eye(6, dtype=torch.bool)]
    torch.testing.assert_close(mean_squared_correlation(covariance_of(acts)), off_diagonal.square().mean())


def test_a_covariance_streams():
    acts = torch.randn(40, 6, dtype=torch.float64) + 1
    grams, totals = zip(*((gram(part), part.sum(0)) for part in acts.split([7, 30, 3])), strict=True)
    torch.testing.assert_close(centred(sum(grams), sum(totals), torch.tensor(40)), covariance_of(acts))


@given(seed=st.integers(0, 99), tokens=st.integers(2, 40), width=st.integers(2, 6))
@settings(max_examples=30, deadline=None)
def test_a_squared_correlation_is_from_0_to_1_and_sees_neither_scale_nor_offset(seed, tokens, width):
    generator = torch.Generator().manual_seed(seed)
    acts = torch.randn(tokens, width, generator=generator, dtype=torch.float64)
    offset, factor = torch.randn(2, width, generator=generator, dtype=torch.float64)
    value, moved = (mean_squared_correlation(covariance_of(a)) for a in (acts, acts * 10**factor - offset))
    assert -1e-12 <= value <= 1 + 1e-9
    torch.testing.assert_close(moved, value, rtol=0, atol=1e-4)


def test_linear_functions_of_one_another_are_correlated_and_parity_is_not():
    column = torch.arange(20.0)[:, None]
    assert mean_squared_correlation(covariance_of(column * torch.tensor([1.0, -3, 2]) + 1)).item() == pytest.approx(1)
    parity = torch.tensor([[1.0, 1, 1], [1, -1, -1], [-1, 1, -1], [-1, -1, 1]])
    assert mean_squared_correlation(covariance_of(parity)) == 0


def test_independent_neurons_have_the_squared_correlation_of_the_number_of_tokens():
    generator = torch.Generator().manual_seed(0)
    values = [mean_squared_correlation(covariance_of(torch.randn(26, 30, generator=generator))) for _ in range(50)]
    assert torch.stack(values).mean().item() == pytest.approx(1 / 25, rel=0.03)


@pytest.mark.parametrize("constant", [0.0, 1e-3, 0.1, 7.3, -4e3])
@pytest.mark.parametrize("tokens", [3, 1000, 20_000])
def test_constant_neurons_are_uncorrelated_whatever_the_rounding(constant, tokens):
    acts = torch.randn(tokens, 4, generator=torch.Generator().manual_seed(0))
    acts[:, 2] = constant
    covariance = covariance_of(acts)
    assert (cosines(covariance)[2] == 0).all()
    assert (correlation_gradient(covariance)[2] == 0).all()
    kept = covariance_of(acts[:, [0, 1, 3]])
    torch.testing.assert_close(mean_squared_correlation(covariance), mean_squared_correlation(kept) * 6 / 12)


@pytest.mark.parametrize("constant", [1e-3, 0.1, 7.3, -4e3])
@pytest.mark.parametrize("tokens", [3, 1000, 20_000, 300_000])
@pytest.mark.parametrize("order", ["one after another", "pairwise"])
def test_a_constant_neuron_has_no_variance_in_any_order_of_summation(constant, tokens, order):
    column = np.full(tokens, constant, np.float32)
    add = (lambda terms: np.cumsum(terms)[-1]) if order == "one after another" else np.sum
    square, total = (torch.tensor([[float(add(terms))]]) for terms in (column * column, column))
    assert centred(square, total[0], tokens) == 0
    assert abs(float(square) / (tokens * constant**2) - 1) < rounding_error(tokens, torch.float32)


def test_rounding_error_grows_with_the_terms_and_knows_the_precision():
    assert rounding_error(1000, torch.float64) == pytest.approx(1000 * 2**-53)
    assert rounding_error(1000, torch.float32) == pytest.approx(1000 * 2**-24, rel=1e-3)
    assert rounding_error(10**12, torch.float32) == 1  # nothing is known about such a sum


@pytest.mark.parametrize("mean", [0, 30, 300, 3000])
def test_a_large_mean_does_not_drown_the_covariance(mean):
    acts = torch.randn(2000, 4, generator=torch.Generator().manual_seed(0))
    acts[:, 1] += acts[:, 0]
    acts = acts + mean
    found, average = covariance(acts)
    torch.testing.assert_close(found.double(), 1999 * torch.cov(acts.double().T), rtol=1e-4, atol=0.05)
    torch.testing.assert_close(average.double(), acts.double().mean(0), rtol=1e-7, atol=1e-6)


def test_a_shift_is_taken_back():
    acts, shift = torch.randn(40, 5, dtype=torch.float64), torch.randn(5, dtype=torch.float64)
    moved = acts - shift
    torch.testing.assert_close(unshifted(gram(moved), moved.sum(0), 40, shift), gram(acts))


def test_correlation_gradient_is_the_gradient():
    acts = (torch.randn(12, 5, dtype=torch.float64) + 2).requires_grad_()
    (expected,) = torch.autograd.grad(mean_squared_correlation(covariance_of(acts)), acts)
    torch.testing.assert_close((acts - acts.mean(0)) @ correlation_gradient(covariance_of(acts)), expected)


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
    torch.testing.assert_close(type_entropy_with_gradient(mass.detach())[1], expected)
    sparse = mass.detach().clone()
    sparse[2, 1] = sparse[:, 3] = 0
    value, gradient, active = type_entropy_with_gradient(sparse)
    assert value == mean_over(*type_entropy(sparse))
    assert active.tolist() == [True, True, True, False]
    assert gradient.isfinite().all()
    assert gradient[2, 1] == 0
    assert (gradient[:, 3] == 0).all()


def test_a_gram_matrix_is_added_up_by_its_upper_triangle():
    acts = torch.randn(50, 300, generator=torch.Generator().manual_seed(0))
    gram = torch.zeros(300, 300, dtype=torch.float64)
    for part in acts.split(20):
        add_gram(gram, part)
    torch.testing.assert_close(mirrored(gram), acts.double().T @ acts.double(), atol=1e-4, rtol=1e-5)


# -- dimensions and similarity ----------------------------------------------------------------------------------------


def test_participation_ratio_counts_directions():
    assert participation_ratio(torch.eye(7)).item() == pytest.approx(7)
    assert participation_ratio(torch.diag(torch.tensor([3.0, 0, 0]))).item() == pytest.approx(1)
    assert participation_ratio(torch.diag(torch.tensor([2.0, 2, 0, 0]))).item() == pytest.approx(2)


def test_participation_ratio_does_not_see_rotations():
    acts = normal(200, 6) * torch.tensor([5.0, 3, 2, 1, 1, 0.1])
    q, _ = torch.linalg.qr(normal(6, 6, seed=1))
    covariances = [torch.cov(each.T) for each in (acts, acts @ q)]
    assert participation_ratio(covariances[1]).item() == pytest.approx(participation_ratio(covariances[0]).item())


def normal(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def unbiased_hsic(x, y):
    """Song et al. 2012, equation 5, over all pairs of tokens."""
    n = len(x)
    k, other = ((each @ each.T).fill_diagonal_(0) for each in (x, y))
    products = k.sum() * other.sum() / ((n - 1) * (n - 2))
    return ((k @ other).trace() + products - 2 / (n - 2) * (k @ other).sum()) / (n * (n - 3))


def test_debiased_cka_in_one_pass_is_that_over_all_pairs():
    x = normal(40, 5) + 2
    y = x @ normal(5, 3, seed=1) + normal(40, 3, seed=2)
    expected = unbiased_hsic(x, y) / (unbiased_hsic(x, x) * unbiased_hsic(y, y)).sqrt()
    assert debiased_cka(x, y).item() == pytest.approx(expected.item(), rel=1e-9)
    sums = SimilaritySums([5, 3], torch.device("cpu"))
    for part in (slice(0, 11), slice(11, 40)):
        sums.add([x[part], y[part]])
    assert sums.cka()[0, 1].item() == pytest.approx(expected.item(), rel=1e-9)


def test_cka_is_one_for_a_rotated_scaled_and_shifted_layer():
    x = normal(50, 6)
    q, _ = torch.linalg.qr(normal(6, 6, seed=1))
    assert debiased_cka(x, 3 * x @ q + 7).item() == pytest.approx(1)


def test_debiased_cka_of_independent_layers_is_0_in_the_mean():
    found = [debiased_cka(normal(30, 20, seed=2 * i), normal(30, 20, seed=2 * i + 1)).item() for i in range(60)]
    error = torch.tensor(found).std().item() / 60**0.5
    assert abs(sum(found) / 60) < 4 * error < 0.1  # their plain (biased) CKA is about 0.4


def test_cka_of_too_few_tokens_is_not_a_number():
    assert debiased_cka(normal(3, 2), normal(3, 2)).isnan()


def test_binary_information_of_a_detector_and_of_chance():
    total = torch.tensor([10.0, 30, 60])
    on = torch.stack([torch.tensor([10.0, 0, 0]), total / 2], 1)
    information, entropy = binary_information(on, total)
    assert information[0].item() == pytest.approx(entropy[0].item())  # the type determines the activation
    assert entropy[0].item() == pytest.approx(-(0.1 * math.log(0.1) + 0.9 * math.log(0.9)))
    assert information[1].item() == pytest.approx(0, abs=1e-12)
    assert entropy[1].item() == pytest.approx(math.log(2))
