"""A feature grammar: rules whose alternatives require, or draw, the values of features of the whole text.

A rule is a list of alternatives. One that begins with ``weather=sunny`` is open if the weather is sunny *or not yet
drawn*; taking it draws the weather. This single mechanism makes a word depend on what was said a hundred tokens
earlier. The open alternatives of a rule are equally likely, so every text has a probability that can be computed
(`tti.data.likelihood`). Feature values are numbered from 1; 0 means not drawn.

Rules must not be recursive, so that every text ends.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from operator import itemgetter
from typing import NamedTuple

Draw = Callable[[], float]
State = tuple[int, ...]  # the value of every feature
Forbidden = frozenset[tuple[tuple[int, int], tuple[int, int]]]  # pairs of (feature, value) that never go together


class Alternative(NamedTuple):
    """Required features as (feature, value), and content: terminals (0 and up) and symbols (``~symbol``)."""

    asks: tuple[tuple[int, int], ...]
    items: tuple[int, ...]


class Bound(NamedTuple):
    """A feature's value, which holds from terminal ``place`` of the text on."""

    place: int
    feature: int
    value: int


@dataclass
class FeatureGrammar:
    """Symbols as lists of alternatives; symbol 0 is the text.

    Args:
        symbols: the alternatives of every symbol.
        features: number of features.
        forbidden: pairs of (feature, value) that never occur together, in either order.
    """

    symbols: Sequence[tuple[Alternative, ...]]
    features: int
    forbidden: Forbidden = frozenset()
    _open: list[dict[object, tuple[Alternative, ...]]] = field(init=False)
    _key: list[Callable[[Sequence[int]], object]] = field(init=False)

    def __post_init__(self) -> None:
        self.forbidden |= {(second, first) for first, second in self.forbidden}
        self._open = [{} for _ in self.symbols]
        self._key = [self._key_of(alternatives) for alternatives in self.symbols]

    def options(self, symbol: int, state: Sequence[int]) -> tuple[Alternative, ...]:
        """The open alternatives of a symbol."""
        key = self._key[symbol](state)
        return self._open[symbol].get(key) or self._opened(symbol, key, state)

    def say(self, draw: Draw, given: Sequence[tuple[int, int]] = ()) -> tuple[list[int], list[Bound]]:
        """Generate a text: its terminals, and where each feature was drawn.

        Args:
            draw: uniform random numbers.
            given: features with values that are fixed beforehand.
        """
        said: list[int] = []
        bound: list[Bound] = []
        state = [0] * self.features
        for feature, value in given:
            state[feature] = value
        stack = [~0]
        while stack:
            item = stack.pop()
            if item >= 0:
                said.append(item)
                continue
            options = self.options(~item, state)
            asks, items = options[int(draw() * len(options))] if len(options) > 1 else options[0]
            for feature, value in asks:
                if not state[feature]:
                    state[feature] = value
                    bound.append(Bound(len(said), feature, value))
            stack.extend(items[::-1])
        return said, bound

    def derivations(self) -> Iterator[tuple[float, tuple[int, ...], State]]:
        """Every derivation as (probability, terminals, final state); feasible for small grammars only."""
        yield from self._derivations((~0,), (0,) * self.features)

    def _derivations(self, items: tuple[int, ...], state: State) -> Iterator[tuple[float, tuple[int, ...], State]]:
        if not items:
            yield 1.0, (), state
        elif items[0] >= 0:
            for probability, said, final in self._derivations(items[1:], state):
                yield probability, (items[0], *said), final
        else:
            options = self.options(~items[0], state)
            for option in options:
                rest = self._derivations(option.items + items[1:], after(option, state))
                yield from ((probability / len(options), said, final) for probability, said, final in rest)

    def _opened(self, symbol: int, key: object, state: Sequence[int]) -> tuple[Alternative, ...]:
        found = tuple(each for each in self.symbols[symbol] if self._is_open(each, state))
        if not found:
            raise ValueError(f"no alternative of symbol {symbol} is open in the state {tuple(state)}")
        return self._open[symbol].setdefault(key, found)

    def _key_of(self, alternatives: Sequence[Alternative]) -> Callable[[Sequence[int]], object]:
        """The part of the state that decides which of these alternatives are open."""
        asked = {ask for each in alternatives for ask in each.asks}
        rivals = {other[0] for one, other in self.forbidden if one in asked}
        relevant = sorted({feature for feature, _ in asked} | rivals)
        return itemgetter(*relevant) if relevant else lambda state: None

    def _is_open(self, alternative: Alternative, state: Sequence[int]) -> bool:
        fits = all(state[feature] in (0, value) for feature, value in alternative.asks)
        return fits and not any(
            one in alternative.asks and state[other[0]] == other[1] for one, other in self.forbidden
        )


def after(alternative: Alternative, state: State) -> State:
    """The state after taking an alternative."""
    if not alternative.asks:
        return state
    drawn = dict(alternative.asks)
    return tuple([drawn.get(feature, value) for feature, value in enumerate(state)])
