"""A detector's knowledge of a value beyond the last two tokens: scores that are 0 for every lookup table.

Tokens are divided into *strata*, one for each pair of previous and current token. Within a stratum the last two tokens
carry no further information, so a detector's knowledge there comes from further back.
"""

from functools import cached_property

import numpy as np
from jaxtyping import Bool, Float, Int
from scipy import sparse

SEED = 0  # of the permutation within strata: the same for every run on the same data


class Labelled:
    """Tokens with their strata and the values that they carry.

    Args:
        stratum: the stratum of each token, from 0.
        values: rows of the values that a token carries, one per factor.
        rows: number of values.
    """

    def __init__(self, stratum: Int[np.ndarray, "token"], values: Int[np.ndarray, "token factor"], rows: int) -> None:
        self.stratum = np.unique(stratum, return_inverse=True)[1]
        self.values = one_hot(values, rows)

    def __len__(self) -> int:
        """Number of tokens."""
        return len(self.stratum)

    @cached_property
    def strata(self) -> sparse.csr_array:
        """Membership of tokens in strata, ``[token, stratum]``."""
        return one_hot(self.stratum[:, None], int(self.stratum.max(initial=-1)) + 1)

    @cached_property
    def sizes(self) -> Int[np.ndarray, "stratum"]:
        """Number of tokens in each stratum."""
        return np.bincount(self.stratum)

    @cached_property
    def counts(self) -> Int[np.ndarray, "value"]:
        """Number of tokens that carry each value."""
        return self.values.sum(0)

    @cached_property
    def rates(self) -> sparse.csr_array:
        """Frequency of each value within each stratum, ``[value, stratum]``."""
        return (self.values.T @ self.strata) @ sparse.diags_array(1 / self.sizes)

    @cached_property
    def unsure(self) -> Float[np.ndarray, "value"]:
        """What the last two tokens leave open: the sum over tokens of p (1 - p), p the value's rate in the stratum."""
        return (self.rates - self.rates.power(2)) @ self.sizes

    @cached_property
    def shuffled(self) -> Int[np.ndarray, "token"]:
        """A random permutation of tokens within strata."""
        keys = np.random.default_rng(SEED).random(len(self))
        order = np.argsort(self.stratum, kind="stable")
        permutation = np.empty(len(self), np.int64)
        permutation[order] = np.lexsort((keys, self.stratum))
        return permutation

    def f1(self, on: sparse.csr_array) -> Float[np.ndarray, "value detector"]:
        """F1 of every detector for every value, beyond that of the detector shuffled within strata.

        (F1 - F0) / (1 - F0), where F0 is the mean over all permutations within strata, in closed form: it counts the
        hits expected if detector and value are independent given the last two tokens. 0 for any function of the last
        two tokens, 1 for a detector that is on exactly for the value.
        """
        hits, chance, most = self._hits(on)
        return ratio(hits - chance, most - chance)

    def f1_of(self, on: sparse.csr_array) -> Float[np.ndarray, "value"]:
        """The same for one detector per value."""
        hits = self.values.multiply(on).sum(0)
        chance = (self.rates.T.multiply(self.strata.T @ on)).sum(0)
        most = (self.counts + on.sum(0)) / 2
        return ratio(hits - chance, most - chance)

    def _hits(self, on: sparse.csr_array) -> tuple[Float[np.ndarray, "value detector"], ...]:
        """Hits, hits expected by chance, and the mean of the number of carriers and of tokens with the detector on."""
        hits = (self.values.T @ on).toarray()
        chance = (self.rates @ (self.strata.T @ on)).toarray()
        return hits, chance, (self.counts[:, None] + on.sum(0)) / 2

    def information_of(self, on: sparse.csr_array, wanted: Bool[np.ndarray, "value"]) -> Float[np.ndarray, "value"]:
        """(I(A; V | last two) - null) / (H(V | last two) - null), for one detector A per value V.

        V is whether the token carries the value. The null is the same information for the detector permuted within
        strata; it removes the bias from strata with few tokens. NaN where not ``wanted``.
        """
        found = np.full(len(wanted), np.nan)
        detectors, values = on.tocsc(), self.values.tocsc()
        for row in np.flatnonzero(wanted):
            found[row] = self._information(*(table[:, [row]].toarray()[:, 0] > 0 for table in (detectors, values)))
        return found

    def _information(self, on: Bool[np.ndarray, "token"], value: Bool[np.ndarray, "token"]) -> float:
        nothing = np.zeros(len(self), bool)
        entropy = self._entropy(value, nothing) - self._entropy(nothing, nothing)
        found, null = (
            entropy - (self._entropy(value, said) - self._entropy(said, nothing)) for said in (on, on[self.shuffled])
        )
        return float(ratio(np.array(found - null), np.array(entropy - null)))

    def _entropy(self, one: Bool[np.ndarray, "token"], other: Bool[np.ndarray, "token"]) -> float:
        """Joint entropy of two indicators and the stratum, in nats."""
        counts = np.bincount(4 * self.stratum + 2 * one + other)
        p = counts[counts > 0] / len(self)
        return float(-(p * np.log(p)).sum())


def one_hot(columns: Int[np.ndarray, "token factor"], width: int) -> sparse.csr_array:
    """``[token, width]``, with 1.0 at each of a token's columns."""
    tokens, each = columns.shape
    ones = np.ones(tokens * each)
    return sparse.csr_array((ones, columns.ravel(), np.arange(tokens + 1) * each), (tokens, width))


def ratio(part: Float[np.ndarray, "..."], whole: Float[np.ndarray, "..."]) -> Float[np.ndarray, "..."]:
    """``part / whole``; 0 if there is nothing to know."""
    return np.where(whole > 1e-9, part / np.where(whole > 1e-9, whole, 1), 0.0)
