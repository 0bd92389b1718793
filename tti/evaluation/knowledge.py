"""Knowledge of a corpus' factors beyond the last two tokens in the single neurons of a site."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int
from scipy import sparse

from tti.data.ceilings import ceilings, conditional_entropy, last_two
from tti.data.templates import NONE
from tti.data.truth import Truth
from tti.evaluation.beyond import Labelled, one_hot
from tti.evaluation.stories import StorySet
from tti.evaluation.tails import REST, Tails

AMBIGUOUS = 0.1, 0.9  # range of a value's share among a type's tokens within which the type leaves the value open


class Subset(NamedTuple):
    """A subset of the measured tokens, and the values that are scored on it."""

    rows: Bool[np.ndarray, "measured"]
    labelled: Labelled
    counted: Bool[np.ndarray, "value"]


@dataclass(frozen=True)
class BestDetectors:
    """For each value the best neuron of a site, and its sign, chosen on the even stories.

    Attributes:
        neuron: index of the neuron.
        sign: +1 or -1.
        on: where the neuron is on, among the measured tokens.
        f1: F1 beyond the last two tokens, on the odd stories (see :meth:`Labelled.f1`).
    """

    neuron: Int[np.ndarray, "value"]
    sign: Int[np.ndarray, "value"]
    on: sparse.csr_array
    f1: Float[np.ndarray, "value"]


class Knowledge:
    """Scores of detectors on one split: chosen on its even stories, measured on its odd ones.

    A factor counts if the last two tokens leave more than ``least_entropy`` nats of it open. A value counts if it has
    at least ``fewest`` tokens in each half, if the last two tokens leave at least as many open (sum of p (1 - p)), and
    if it is not the default of most tokens (``tails.REST``), for which no neuron can be on. Scores are means over the
    counted values of a factor, and then over factors.

    Args:
        stories: the split.
        truth: the known factors of its tokens.
        fewest: see above.
        least_entropy: see above, in nats.
        covered: F1 from which a value counts as covered.
    """

    def __init__(self, stories: StorySet, truth: Truth, fewest: int, least_entropy: float, covered: float) -> None:
        packed = stories.packed
        self.truth, self.fewest, self.least_entropy, self.covered = truth, fewest, least_entropy, covered
        self.ceilings = ceilings(packed, truth)
        starts = packed.offsets[stories.members]
        spans = zip(starts.tolist(), (starts + stories.lengths).tolist(), strict=True)
        self.places = np.concatenate([np.arange(start, end) for start, end in spans])
        odd = np.repeat(stories.members % 2 == 1, stories.lengths)
        sizes = [len(names) for names in truth.factors.values()]
        self.first_row = np.cumsum([0, *sizes[:-1]])
        self.rows = sum(sizes)
        self.factor_of = np.repeat(np.arange(len(sizes)), sizes)
        self.factors = np.asarray(truth.labels(packed))[self.places].astype(np.int64)
        self.stratum = last_two(packed)[self.places]
        self.tokens = packed.tokens[self.places].astype(np.int64)
        self.odd = odd
        self.chosen_on, self.measured_on = self.places[~odd], self.places[odd]
        self.choose, self.measure = self._labelled(~odd), self._labelled(odd)
        self.named = np.array([name != NONE for names in truth.factors.values() for name in names])
        self.named &= self.measure.counts <= REST * len(self.measure)

    @cached_property
    def counted(self) -> Bool[np.ndarray, "value"]:
        """Mask of the values that are scored."""
        enough = [np.minimum(each.counts, each.unsure) >= self.fewest for each in (self.choose, self.measure)]
        open_ = self.ceilings.entropy["two_tokens"] > self.least_entropy
        return self.named & enough[0] & enough[1] & open_[self.factor_of]

    def detectors(self, tails: Tails, rate: int, idle: Bool[np.ndarray, "width"]) -> BestDetectors:
        """The best neurons of a site at one of the rates of its tails. An idle neuron is never on."""
        in_use = sparse.diags_array(np.tile(~idle, 2).astype(float))
        best = self.choose.f1(tails.on(self.chosen_on, rate) @ in_use).argmax(1)
        on = (tails.on(self.measured_on, rate) @ in_use).tocsr()[:, best]
        sign = np.where(best < tails.width, 1, -1)
        return BestDetectors(best % tails.width, sign, on, self.measure.f1_of(on))

    def scores(self, detectors: BestDetectors) -> dict[str, float]:
        """``context_...`` metrics of a site's detectors."""
        return self._scores(detectors.on, detectors.f1)

    @cached_property
    def ceiling(self) -> dict[str, float]:
        """The same metrics for the ideal reader: one detector per value, on where the value is the most probable."""
        on = one_hot(self.ceilings.guess[self.measured_on] + self.first_row, self.rows)
        return self._scores(on, self.measure.f1_of(on))

    def over_factors(self, values: Float[np.ndarray, "value"], counted: Bool[np.ndarray, "value"]) -> float:
        """Mean over values, and then over factors; NaN if none counts."""
        means = [values[counted & (self.factor_of == factor)].mean() for factor in np.unique(self.factor_of[counted])]
        return float(np.mean(means)) if means else float("nan")

    def _scores(self, on: sparse.csr_array, f1: Float[np.ndarray, "value"]) -> dict[str, float]:
        found = {
            "context_f1": self.over_factors(f1, self.counted),
            "context_information": self.over_factors(self.measure.information_of(on, self.counted), self.counted),
            "context_coverage": self.over_factors((f1 >= self.covered).astype(float), self.counted),
            "context_f1_held_out": self._over_subsets(on, self._held_out),
        }
        if len(self.truth.of_text) < len(self.truth.factors):
            found["context_f1_ambiguous"] = self._over_subsets(on, self._ambiguous)
        for factor, name in enumerate(self.truth.factors):
            if (self.counted & (self.factor_of == factor)).any():
                found[f"context_f1_{name}"] = float(f1[self.counted & (self.factor_of == factor)].mean())
        return found

    def _over_subsets(self, on: sparse.csr_array, subsets: list[Subset]) -> float:
        means = [
            self.over_factors(subset.labelled.f1_of(on[subset.rows]), subset.counted)
            for subset in subsets
            if subset.counted.any()
        ]
        return float(np.mean(means)) if means else float("nan")

    @cached_property
    def _ambiguous(self) -> list[Subset]:
        """For each factor of the token, the tokens whose type leaves its value open."""
        return [Subset(*found) for found in self._ambiguous_of_factors()]

    def _ambiguous_of_factors(self) -> Iterator[Subset]:
        for factor in range(len(self.truth.of_text), len(self.truth.factors)):
            of_factor = self.named & (self.factor_of == factor)
            rows = self._open_types(factor)[self.tokens[self.odd]]
            if rows.any():
                stratum = np.unique(self.stratum[self.odd][rows], return_inverse=True)[1]
                if conditional_entropy(stratum, self.factors[self.odd][rows][:, factor]) > self.least_entropy:
                    yield self._subset(rows, of_factor)

    def _open_types(self, factor: int) -> Bool[np.ndarray, "type"]:
        """Token types for which some value of the factor is neither rare nor the rule."""
        column = self.factors[:, factor]
        counts = np.zeros((int(self.tokens.max()) + 1, int(column.max()) + 1))
        np.add.at(counts, (self.tokens, column), 1)
        share = counts / counts.sum(1, keepdims=True).clip(1)
        return ((share >= AMBIGUOUS[0]) & (share <= AMBIGUOUS[1])).any(1)

    @cached_property
    def _held_out(self) -> list[Subset]:
        """Tokens with a pair of values that never occurs in training, for the factors of the pair."""
        rows = self.truth.held_out(self.factors[self.odd])
        of_pair = [list(self.truth.factors).index(name) for name in self.truth.pair]
        return [self._subset(rows, self.counted & np.isin(self.factor_of, of_pair))] if rows.any() else []

    def _subset(self, rows: Bool[np.ndarray, "measured"], wanted: Bool[np.ndarray, "value"]) -> Subset:
        labelled = Labelled(self.stratum[self.odd][rows], self.factors[self.odd][rows] + self.first_row, self.rows)
        return Subset(rows, labelled, wanted & (np.minimum(labelled.counts, labelled.unsure) >= self.fewest))

    def _labelled(self, tokens: Bool[np.ndarray, "token"]) -> Labelled:
        return Labelled(self.stratum[tokens], self.factors[tokens] + self.first_row, self.rows)


def suffixed(metrics: Mapping[str, float], suffix: str) -> dict[str, float]:
    """The same numbers with a suffix on their names."""
    return {f"{name}{suffix}": value for name, value in metrics.items()}
