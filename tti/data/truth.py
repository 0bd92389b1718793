"""The truth about a corpus: the factors that every token carries, and what an ideal reader knows of them."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple, Protocol

import numpy as np
from jaxtyping import Bool, Float, Int
from tokenizers import Tokenizer

from tti.data.cache import PackedStories
from tti.data.floor import Floor


class Ideal(NamedTuple):
    """What the ideal reader knows.

    Attributes:
        guess: the most probable value of each factor at every packed token.
        entropy: mean surprisal of each factor's value, in nats.
        floor: the lowest possible loss; NaN if it depends on what the network reads.
    """

    guess: Int[np.ndarray, "packed factor"]
    entropy: Float[np.ndarray, "factor"]
    floor: Floor


class Truth(Protocol):
    """The known factors of a corpus' tokens."""

    @property
    def factors(self) -> Mapping[str, Sequence[str]]:
        """Factor -> its values. A value called ``none`` says that the factor does not apply."""

    @property
    def of_text(self) -> Sequence[str]:
        """The factors of the whole text, which come first; the others are the token's own."""

    @property
    def homonyms(self) -> Mapping[str, Sequence[str]]:
        """Token text -> its senses (values of the factor ``sense``), two or more; empty without such words."""

    @property
    def synonyms(self) -> Mapping[str, Sequence[str]]:
        """Sense -> all token texts that express it, two or more; empty without such words."""

    @property
    def pair(self) -> Sequence[str]:
        """The two factors of which training lacks some pairs of values."""

    def tokenizer(self) -> Tokenizer:
        """The tokenizer of the corpus."""

    def labels(self, packed: PackedStories) -> Int[np.ndarray, "packed factor"]:
        """The number of the value of every factor for every token of a packed split."""

    def held_out(self, factors: Int[np.ndarray, "token factor"]) -> Bool[np.ndarray, "token"]:
        """Tokens with a pair of values that training lacks."""

    def read(self, packed: PackedStories) -> Ideal:
        """What the ideal reader of the split's texts knows at each token."""
