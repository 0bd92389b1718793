"""The exact posterior of an ideal reader of a feature grammar's text after each token, by the forward algorithm.

A *hypothesis* is a stack of symbols still to be expanded, with the features drawn so far. After every token the reader
holds all hypotheses that agree with what it has read, with their probabilities; equal hypotheses are merged, so that
texts with several derivations are summed over exactly. Nothing is sampled.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

from tti.data.features import FeatureGrammar, State, after

Stack = tuple[int, ...]  # last first
END = -1  # stands for a token at the end of the text


@dataclass(frozen=True)
class Reading:
    """The reader's posterior along a text.

    Attributes:
        log_probs: log-probability in nats of every token given the previous ones, and of the end given all. The first
            is that of the first token, which a model without a beginning-of-text token never predicts.
        place: index of the token that each hypothesis is about.
        weight: probability of each hypothesis given the tokens up to that one; they sum to 1 at each place.
        terminal: the terminal that the hypothesis assigns to the token.
        state: the features of the hypothesis.
    """

    log_probs: Float[np.ndarray, "token+1"]
    place: Int[np.ndarray, "hypothesis"]
    weight: Float[np.ndarray, "hypothesis"]
    terminal: Int[np.ndarray, "hypothesis"]
    state: Int[np.ndarray, "hypothesis feature"]


class Reader:
    """Reads texts of a grammar whose terminals are written as tokens.

    Args:
        grammar: the grammar.
        token_of: the token of each terminal; several terminals may share one.
    """

    def __init__(self, grammar: FeatureGrammar, token_of: Sequence[int]) -> None:
        self.grammar, self.token_of = grammar, list(token_of)
        self._first: dict[int, frozenset[int]] = {}

    def read(self, tokens: Sequence[int]) -> Reading:
        """Read a whole text.

        Raises:
            ValueError: the grammar cannot generate it.
        """
        beliefs: dict[tuple[Stack, State], float] = {((~0,), (0,) * self.grammar.features): 1.0}
        log_probs: list[float] = []
        found: list[tuple[int, float, int, State]] = []
        for place, token in enumerate([*map(int, tokens), END]):
            matches: list[tuple[float, int, Stack, State]] = []
            for (stack, state), weight in beliefs.items():
                self._match(stack, state, weight, token, matches)
            total = math.fsum(weight for weight, *_ in matches)
            if not total:
                raise ValueError(f"the grammar cannot generate token {token} at place {place}")
            log_probs.append(math.log(total))
            beliefs = {}
            for weight, terminal, stack, state in matches:
                found.append((place, weight / total, terminal, state))
                beliefs[stack, state] = beliefs.get((stack, state), 0.0) + weight / total
        found = [each for each in found if each[0] < len(tokens)]
        return Reading(np.array(log_probs), *(np.array(column) for column in zip(*found, strict=True)))

    def _match(
        self, stack: Stack, state: State, weight: float, token: int, matches: list[tuple[float, int, Stack, State]]
    ) -> None:
        """Append every way in which the hypothesis can continue with the token."""
        if not stack:
            if token == END:
                matches.append((weight, END, stack, state))
            return
        item, rest = stack[-1], stack[:-1]
        if item >= 0:
            if self.token_of[item] == token:
                matches.append((weight, item, rest, state))
            return
        first = self._starts(item)
        if token not in first and END not in first:
            return
        options = self.grammar.options(~item, state)
        for option in options:
            self._match(rest + option.items[::-1], after(option, state), weight / len(options), token, matches)

    def _starts(self, item: int) -> frozenset[int]:
        """Tokens that an item can begin with in some state; END if it can be empty."""
        if item >= 0:
            return frozenset((self.token_of[item],))
        if item not in self._first:
            alternatives = self.grammar.symbols[~item]
            self._first[item] = frozenset().union(*(self._starts_of(each.items) for each in alternatives))
        return self._first[item]

    def _starts_of(self, items: tuple[int, ...]) -> frozenset[int]:
        starts = frozenset((END,))
        for item in items:
            starts = (starts - {END}) | self._starts(item)
            if END not in starts:
                break
        return starts
