"""Scores of a code: how well its latents, one by one, stand for the factors of a table.

A code is ``[sentence, latent]``, the table ``[sentence, factor]`` with the numbers of the values. A *value* score
asks about every value of every factor whether a sentence has it or not, so that a factor with many unordered values
need not be a single scalar. Every score has a ceiling below 1 for some perfect codes: compare it with those of the
ideal codes (:func:`scalar_code`, :func:`one_hot_code`), and with the null, the score under shuffled sentences.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float, Int
from scipy.stats import entropy
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss
from sklearn.preprocessing import StandardScaler
from sklearn.svm import LinearSVC

Code = Float[np.ndarray, "sentence latent"]
Table = Int[np.ndarray, "sentence factor"]
Estimator = Callable[[], Any]
ACTIVE = 0.01  # variance of a latent above which it is active (Burda et al. 2016, section 4.2)


@dataclass(frozen=True)
class Split:
    """A code with its table, in a part to learn from and a part to measure on."""

    code: Code
    table: Table
    test_code: Code
    test_table: Table

    @classmethod
    def of(cls, code: Code, table: Table, learned: int) -> "Split":
        """The first ``learned`` sentences to learn from, the others to measure on."""
        return cls(code[:learned], table[:learned], code[learned:], table[learned:])


# --- ideal codes


def scalar_code(table: Table) -> Code:
    """One latent for each factor: the number of its value, with mean 0 and variance 1 over all values."""
    sizes = table.max(0) + 1
    return (table - (sizes - 1) / 2) / np.sqrt((sizes**2 - 1) / 12)


def one_hot_code(table: Table) -> Code:
    """One latent for each value (for two values, one for both): 1 for sentences that have it, else 0."""
    return values(table)[0].astype(float)


def rotation(latents: int, seed: int = 0) -> Float[np.ndarray, "latent latent"]:
    """A random rotation (Haar measure)."""
    q, r = np.linalg.qr(np.random.default_rng(seed).standard_normal((latents, latents)))
    return q * np.sign(np.diag(r))


# --- information


def equal_width(latent: Float[np.ndarray, "sentence"], bins: int) -> Int[np.ndarray, "sentence"]:
    """Bins of equal width between the minimum and the maximum, as in disentanglement_lib; one outlier empties most."""
    return np.digitize(latent, np.histogram_bin_edges(latent, bins)[1:-1])


def by_rank(latent: Float[np.ndarray, "sentence"], bins: int) -> Int[np.ndarray, "sentence"]:
    """Bins with equally many sentences; equal values share a bin."""
    return np.digitize(latent, np.quantile(latent, np.arange(1, bins) / bins))


def informations(code: Code, table: Table, bins: int, binned: Callable[..., Any]) -> Float[np.ndarray, "latent factor"]:
    """I(latent; factor) in nats, of binned latents, by counting; biased by about ``(bins - 1)(values - 1) / 2N``."""
    sizes = table.max(0) + 1
    has = np.concatenate([np.eye(size)[column] for size, column in zip(sizes, table.T, strict=True)], 1)
    counts = [np.eye(bins)[binned(latent, bins)].T @ has for latent in code.T]
    return np.array([[_information(each) for each in np.split(both, sizes.cumsum()[:-1], 1)] for both in counts])


def entropies(table: Table) -> Float[np.ndarray, "factor"]:
    """H(factor) in nats, by counting."""
    return np.array([entropy(np.bincount(factor)) for factor in table.T])


def _information(counts: Float[np.ndarray, "bin value"]) -> float:
    return float(entropy(counts.sum(0)) + entropy(counts.sum(1)) - entropy(counts.ravel()))


def gap(scores: Float[np.ndarray, "latent factor"]) -> Float[np.ndarray, "factor"]:
    """The best latent's score of each factor, minus the second best's (0 if there is only one latent)."""
    ordered = np.sort(np.concatenate([np.zeros((1, scores.shape[1])), scores]), 0)
    return ordered[-1] - ordered[-2]


def mig(information: Float[np.ndarray, "latent factor"], whole: Float[np.ndarray, "factor"]) -> float:
    """Mutual information gap (Chen et al. 2018, "Isolating sources of disentanglement in VAEs", eq. 6).

    ``(I1 - I2) / H(factor)`` of the two latents that know most about the factor, averaged over factors.
    """
    return float(np.mean(gap(information) / whole))


def values(table: Table) -> tuple[Int[np.ndarray, "sentence value"], Int[np.ndarray, "value"]]:
    """Whether each sentence has each value, and the factor of each value. Of two values, the second stands for both."""
    sizes = table.max(0) + 1
    pairs = [(factor, value) for factor, size in enumerate(sizes) for value in range(size) if size > 2 or value == 1]
    indicators = np.stack([table[:, factor] == value for factor, value in pairs], 1).astype(np.int64)
    return indicators, np.array([factor for factor, _ in pairs])


def over_factors(scores: Float[np.ndarray, "value"], factor: Int[np.ndarray, "value"]) -> float:
    """Mean over factors of the mean over each factor's values."""
    return float(np.mean([scores[factor == each].mean() for each in np.unique(factor)]))


def modularity(information: Float[np.ndarray, "latent factor"], whole: Float[np.ndarray, "factor"]) -> float:
    """InfoM: how much of what a latent knows is about one factor (Hsu et al. 2023, "Disentanglement via latent
    quantization", section 4): ``(max_f n / sum_f n - 1/F) / (1 - 1/F)`` with ``n = I / H(factor)``, averaged over
    latents that know something.
    """
    return concentration(information / whole)


def compactness(information: Float[np.ndarray, "latent factor"], whole: Float[np.ndarray, "factor"]) -> float:
    """InfoC: how much of what is known of a factor is in one latent: :func:`modularity` with the two exchanged."""
    return concentration((information / whole).T)


def concentration(shares: Float[np.ndarray, "row column"]) -> float:
    """``(max / sum - 1/n) / (1 - 1/n)`` of the n columns, averaged over rows that are not 0; NaN if all are."""
    known, columns = shares[shares.sum(1) > 0], shares.shape[1]
    if not len(known) or columns == 1:
        return float("nan")
    return float(np.mean((known.max(1) / known.sum(1) - 1 / columns) / (1 - 1 / columns)))


# --- separation by one latent


def sap(split: Split) -> float:
    """Separated attribute predictability (Kumar et al. 2018, "Variational inference of disentangled latent concepts").

    Test accuracy of a linear classifier that sees one latent (a balanced support vector machine, C = 0.01, as in
    disentanglement_lib), the best latent's minus the second best's, averaged over factors. A line cuts an unordered
    factor with many values badly, whatever the code.
    """
    accuracy = np.array(
        [[_accuracy(split, latent, factor) for factor in _range(split.table)] for latent in _range(split.code)]
    )
    return float(gap(accuracy).mean())


def _accuracy(split: Split, latent: int, factor: int) -> float:
    learner = LinearSVC(C=0.01, class_weight="balanced", dual=False)
    learner.fit(split.code[:, latent : latent + 1], split.table[:, factor])
    return float(learner.score(split.test_code[:, latent : latent + 1], split.test_table[:, factor]))


def value_sap(split: Split) -> float:
    """The same per value: balanced accuracy of the best threshold of one latent, ``(1 + J) / 2`` with Youden's J.

    The threshold and its side are chosen on one part of the sentences, and measured on the other.
    """
    has, factor = values(np.concatenate([split.table, split.test_table]))
    learned = len(split.table)
    best = [_thresholds(latent, has[:learned]) for latent in split.code.T]
    scores = [_balanced(latent, has[learned:], *each) for latent, each in zip(split.test_code.T, best, strict=True)]
    return over_factors(gap(np.array(scores)), factor)


def _thresholds(latent: Float[np.ndarray, "sentence"], has: Int[np.ndarray, "sentence value"]) -> tuple[Any, Any]:
    """For each value, the threshold that separates it best, and whether its sentences lie above (1) or below (-1)."""
    order = np.argsort(latent)
    ascending, ours = latent[order], has[order]
    below = np.cumsum(ours, 0) / np.maximum(ours.sum(0), 1) - np.cumsum(1 - ours, 0) / np.maximum((1 - ours).sum(0), 1)
    last = np.append(ascending[1:] > ascending[:-1], True)  # equal latents are on one side
    below = np.where(last[:, None], below, 0)
    places = np.abs(below).argmax(0)
    following = np.append(ascending[1:], ascending[-1])
    threshold = (ascending[places] + following[places]) / 2
    return threshold, np.where(np.take_along_axis(below, places[None], 0)[0] > 0, -1, 1)


def _balanced(
    latent: Float[np.ndarray, "sentence"], has: Int[np.ndarray, "sentence value"], threshold: Any, side: Any
) -> Float[np.ndarray, "value"]:
    said = (latent[:, None] - threshold) * side > 0
    right, wrong = (
        (said * has).sum(0) / np.maximum(has.sum(0), 1),
        (said * (1 - has)).sum(0) / np.maximum((1 - has).sum(0), 1),
    )
    return (1 + right - wrong) / 2


# --- importances


def importances(split: Split, trees: Estimator) -> tuple[Float[np.ndarray, "latent factor"], float]:
    """Importance of each latent in trees that predict each factor, and their test accuracy, averaged over factors."""
    fitted = [trees().fit(split.code, factor) for factor in split.table.T]
    accuracy = [tree.score(split.test_code, factor) for tree, factor in zip(fitted, split.test_table.T, strict=True)]
    return np.stack([tree.feature_importances_ for tree in fitted], 1), float(np.mean(accuracy))


def disentanglement(importance: Float[np.ndarray, "latent factor"]) -> float:
    """D of DCI (Eastwood & Williams 2018, "A framework for the quantitative evaluation of disentangled
    representations", eq. 2 and 3): 1 - the entropy, to base F, of a latent's importances for the F factors, averaged
    over latents with their share of all importance.
    """
    return _focus(importance)


def completeness(importance: Float[np.ndarray, "latent factor"]) -> float:
    """C of DCI: :func:`disentanglement` with latents and factors exchanged."""
    return _focus(importance.T)


def _focus(importance: Float[np.ndarray, "row column"]) -> float:
    total = importance.sum(1)
    if not total.any() or importance.shape[1] == 1:
        return float("nan")
    share = importance[total > 0] / total[total > 0, None]
    entropy = -np.sum(share * np.log(np.where(share > 0, share, 1)), 1) / np.log(importance.shape[1])
    return float((1 - entropy) @ total[total > 0] / total.sum())


# --- what the whole code knows


def probed(split: Split) -> tuple[Float[np.ndarray, "factor"], Float[np.ndarray, "factor"]]:
    """Accuracy and explicitness of a logistic regression from the whole code to each factor, on the test part.

    Explicitness (InfoE of Hsu et al. 2023) is the share of the factor's entropy that the probe removes: ``1 - CE / H``
    with H the cross-entropy of the frequencies alone; never below 0.
    """
    scaler = StandardScaler().fit(split.code)
    learn, test = scaler.transform(split.code), scaler.transform(split.test_code)
    found = [
        _probe(learn, factor, test, truth) for factor, truth in zip(split.table.T, split.test_table.T, strict=True)
    ]
    accuracy, explicitness = np.array(found).T
    return accuracy, explicitness


def _probe(learn: Any, factor: Any, test: Any, truth: Any) -> tuple[float, float]:
    probe = LogisticRegression(max_iter=300).fit(learn, factor)
    labels = probe.classes_
    frequencies = np.array([(factor == label).mean() for label in labels])
    nothing = log_loss(truth, np.tile(frequencies, (len(truth), 1)), labels=labels)
    return float(probe.score(test, truth)), max(
        0.0, 1 - log_loss(truth, probe.predict_proba(test), labels=labels) / nothing
    )


def active(code: Code) -> Int[np.ndarray, "unit"]:
    """The latents whose variance over sentences exceeds 0.01."""
    return np.flatnonzero(code.var(0) > ACTIVE)


def scores(
    code: Code, table: Table, learned: int, fitted: int, bins: int, trees: Estimator, value_trees: Estimator
) -> Iterator[tuple[str, float]]:
    """All scores by name.

    Args:
        code: codes of sentences, with at least one latent.
        table: their factors.
        learned: sentences, from the first, to learn from; the others are measured on.
        fitted: sentences to learn from, and half as many to measure on, for slow learners.
        bins: bins of a latent.
        trees: makes the estimator for DCI.
        value_trees: the same for its form per value.
    """
    split = Split.of(code, table, learned)
    small = Split(code[:fitted], table[:fitted], split.test_code[: fitted // 2], split.test_table[: fitted // 2])
    whole, (has, factor) = entropies(split.table), values(split.table)
    for suffix, binned in (("", equal_width), ("_rank", by_rank)):
        information = informations(split.code, split.table, bins, binned)
        of_values = informations(split.code, has, bins, binned) / entropies(has)
        yield f"mig{suffix}", mig(information, whole)
        yield f"mig_values{suffix}", over_factors(gap(of_values), factor)
        yield f"info_m{suffix}", modularity(information, whole)
        yield f"info_c{suffix}", compactness(information, whole)
    yield "sap", sap(small)
    yield "sap_values", value_sap(split)
    importance, accuracy = importances(small, trees)
    yield "dci_d", disentanglement(importance)
    yield "dci_c", completeness(importance)
    yield "dci_i", accuracy
    one_against_rest = Split(small.code, values(small.table)[0], small.test_code, values(small.test_table)[0])
    importance, _ = importances(one_against_rest, value_trees)
    yield "dci_d_values", disentanglement(importance)
    yield "dci_c_values", completeness(importance)
    right, explicit = probed(split)
    yield "informativeness", float(right.mean())
    yield "info_e", float(explicit.mean())


def _range(columns: np.ndarray) -> range:
    return range(columns.shape[1])
