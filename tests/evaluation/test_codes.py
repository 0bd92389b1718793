"""Scores of codes that are computed by hand, ideal codes, and a published toy: 4 factors of 20 values."""

from functools import partial

import numpy as np
import pytest
from sklearn.ensemble import ExtraTreesClassifier, RandomForestClassifier
from sklearn.metrics import mutual_info_score

from tti.evaluation import codes
from tti.evaluation.codes import Split

TREES = partial(RandomForestClassifier, n_estimators=10, max_features=None, random_state=0)
EXTRA = partial(ExtraTreesClassifier, n_estimators=10, max_features=None, random_state=0)
SETTINGS = 2000, 1000, 20, TREES, EXTRA


def drawn(sizes, sentences=3000, seed=0):
    return np.random.default_rng(seed).integers(0, sizes, (sentences, len(sizes)))


@pytest.fixture(scope="module")
def toy():
    return drawn([20] * 4)


@pytest.fixture(scope="module")
def mixed():
    return drawn([2, 2, 16, 8])


def scored(code, table):
    return dict(codes.scores(code, table, *SETTINGS))


@pytest.fixture(scope="module")
def ideal(mixed):
    return {"scalar": scored(codes.scalar_code(mixed), mixed), "one_hot": scored(codes.one_hot_code(mixed), mixed)}


def test_information_is_what_scikit_learn_counts(mixed):
    code = np.random.default_rng(1).standard_normal((3000, 3)) + mixed[:, 2:3]
    for binned in (codes.equal_width, codes.by_rank):
        found = codes.informations(code, mixed, 20, binned)
        for latent, row in zip(code.T, found, strict=True):
            wanted = [mutual_info_score(binned(latent, 20), factor) for factor in mixed.T]
            assert row == pytest.approx(wanted, abs=1e-9)


def test_a_perfect_scalar_code_of_the_toy_has_a_gap_of_one_and_separates_hardly_anything(toy):
    """SAP .05: a line through one scalar finds 2 of 20 values, 1 of them by chance."""
    code = codes.scalar_code(toy)
    information = codes.informations(code, toy, 20, codes.equal_width)
    assert codes.mig(information, codes.entropies(toy)) == pytest.approx(1, abs=0.03)
    assert codes.sap(Split.of(code, toy, 2000)) == pytest.approx(0.05, abs=0.02)


def test_a_perfect_code_of_the_toy_with_two_scalars_for_each_factor_has_almost_no_gap(toy):
    """Value v as (v div 5, v mod 5): MIG is log(5 / 4) / log 20, though the code is perfect."""
    code = np.concatenate([toy // 5, toy % 5], 1).astype(float)
    for binned in (codes.equal_width, codes.by_rank):
        information = codes.informations(code, toy, 20, binned)
        assert codes.mig(information, codes.entropies(toy)) == pytest.approx(np.log(5 / 4) / np.log(20), abs=0.005)


def test_ideal_codes_reach_their_ceilings(ideal):
    """One scalar a factor: 1 in what is about factors. One latent a value: 1 in what is about values."""
    for name in ("mig", "mig_rank", "mig_values", "dci_d", "dci_c", "dci_i"):
        assert ideal["scalar"][name] == pytest.approx(1, abs=0.03), name
    for name in ("mig_values", "mig_values_rank", "dci_d", "dci_d_values", "dci_c_values", "informativeness", "info_e"):
        assert ideal["one_hot"][name] == pytest.approx(1, abs=0.03), name
    assert ideal["one_hot"]["info_m"] > 0.9
    assert ideal["one_hot"]["sap_values"] == pytest.approx(0.4, abs=0.1)  # 0.5 but for what else a value excludes


def test_a_factor_of_many_values_has_no_gap_if_each_value_is_a_latent(ideal):
    """Half of the factors have two values, and so one latent."""
    assert ideal["one_hot"]["mig"] == pytest.approx(0.5, abs=0.03)
    assert ideal["scalar"]["dci_d_values"] < 0.7


def test_a_rotation_of_an_ideal_code_falls_to_the_null_in_the_gap_and_stays_informative(mixed):
    code = codes.one_hot_code(mixed)
    rotated = scored(code @ codes.rotation(code.shape[1]), mixed)
    null = scored(np.roll(code, 1, 0), mixed)
    for name in ("mig", "mig_rank", "mig_values", "sap", "sap_values"):
        assert rotated[name] < null[name] + 0.12, name
    assert rotated["informativeness"] > 0.97
    assert rotated["dci_d"] < 0.7


def test_the_null_is_what_counting_and_guessing_give(mixed):
    null = scored(np.random.default_rng(2).standard_normal((3000, 6)), mixed)
    chance = np.mean([1 / 2, 1 / 2, 1 / 16, 1 / 8])
    assert null["informativeness"] == pytest.approx(chance, abs=0.03)
    assert null["dci_i"] == pytest.approx(chance, abs=0.03)
    assert null["info_e"] == pytest.approx(0, abs=0.01)
    for name in ("mig", "mig_rank", "mig_values", "sap", "sap_values"):
        assert null[name] == pytest.approx(0, abs=0.03), name
    assert null["dci_d"] < 0.15


def test_importances_by_hand():
    eye = np.eye(3)
    assert codes.disentanglement(eye) == pytest.approx(1)
    assert codes.completeness(eye) == pytest.approx(1)
    assert codes.disentanglement(np.ones((4, 3))) == pytest.approx(0)
    assert codes.completeness(np.ones((4, 3))) == pytest.approx(0)
    two_latents = np.array([[1.0, 0], [1, 0], [0, 2]])  # the first factor is split over two latents
    assert codes.disentanglement(two_latents) == pytest.approx(1)
    assert codes.completeness(two_latents) == pytest.approx((1 - np.log(2) / np.log(3)) * 0.5 + 0.5)
    two_factors = np.array([[3.0, 1], [0, 4]])  # the first latent: (3/4, 1/4), half of all importance
    entropy = -(0.75 * np.log2(0.75) + 0.25 * np.log2(0.25))
    assert codes.disentanglement(two_factors) == pytest.approx(0.5 * (1 - entropy) + 0.5)
    assert np.isnan(codes.disentanglement(np.zeros((2, 2))))


def test_concentration_by_hand():
    information, whole = np.array([[2.0, 0], [1, 1], [0, 0]]), np.array([2.0, 4.0])
    assert codes.modularity(information, whole) == pytest.approx((1 + ((0.5 / 0.75) - 0.5) / 0.5) / 2)
    assert codes.compactness(information, whole) == pytest.approx((((1 / 1.5) - 1 / 3) / (2 / 3) + 1) / 2)
    assert np.isnan(codes.concentration(np.zeros((2, 3))))


def test_the_gap_of_one_latent_is_its_score():
    assert codes.gap(np.array([[0.3, 0.2]])) == pytest.approx([0.3, 0.2])
    assert codes.gap(np.array([[0.3, 0.2], [0.1, 0.9]])) == pytest.approx([0.2, 0.7])


def test_one_outlier_empties_bins_of_equal_width_and_no_ranks(mixed):
    code = codes.scalar_code(mixed)
    code[0] = 1e6
    equal, ranks = (
        codes.mig(codes.informations(code, mixed, 20, binned), codes.entropies(mixed))
        for binned in (codes.equal_width, codes.by_rank)
    )
    assert equal < 0.01
    assert ranks > 0.97


def test_bins_of_a_constant_latent_say_nothing(mixed):
    constant = np.zeros((3000, 1))
    for binned in (codes.equal_width, codes.by_rank):
        assert codes.informations(constant, mixed, 20, binned) == pytest.approx(0, abs=1e-9)


def test_the_best_threshold_by_hand():
    """Latent 0 separates the value but for one of four sentences with it, from below; latent 1 knows nothing."""
    table = np.array([[1], [1], [1], [1], [0], [0], [0], [0]])
    code = np.array([[-3.0, 0], [-2, 1], [-1, 0], [5, 1], [1, 0], [2, 1], [3, 0], [4, 1]])
    assert codes.value_sap(Split(code, table, code, table)) == pytest.approx((1 + 0.75) / 2 - 0.5)


@pytest.mark.parametrize("shift", [0.0, 1.0])
def test_active_latents_are_those_that_vary(shift):
    code = np.random.default_rng(0).standard_normal((2000, 3)) * [1.0, 0.05, 0.2] + shift
    assert codes.active(code).tolist() == [0, 2]
