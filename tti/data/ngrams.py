"""Exact losses of n-gram models. A network that does not beat them has not learnt to use context.

Interpolated Kneser-Ney smoothing (Chen and Goodman 1999, *An empirical study of smoothing techniques for language
modeling*, eq. 12 and 14), with one discount per order, ``D = n1 / (n1 + 2 n2)`` (Ney, Essen and Kneser 1994)::

    P_k(w | c) = max(n(c w) - D, 0) / n(c) + D t(c) / n(c) P_{k-1}(w | c less its first token),   P_0 = 1 / vocabulary

For the model's highest order, ``n(c w)`` is the number of occurrences of the k-gram; for lower orders, the number of
distinct tokens that precede the k-gram. ``t(c)`` is the number of distinct tokens that follow the context ``c``, and
``n(c)`` the sum of ``n(c w)`` over them.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int

ORDERS = 5
MOST = 2**25  # maximum number of tokens counted, at some 100 bytes of memory each
UNSEEN = -1


@dataclass(frozen=True)
class Documents:
    """Packed documents: document i is ``tokens[offsets[i] : offsets[i + 1]]``.

    The first token of each document is context and never predicted, as for a network. A begin-of-document mark precedes
    it, so that a model recognizes beginnings.
    """

    tokens: Int[np.ndarray, "token"]
    offsets: Int[np.ndarray, "document+1"]

    def take(self, documents: Int[np.ndarray, "chosen"], longest: int | None = None) -> "Documents":
        """Some documents, repeated as listed, truncated after ``longest`` predictions."""
        lengths = np.diff(self.offsets)[documents]
        lengths = lengths if longest is None else np.minimum(lengths, longest + 1)
        offsets = np.concatenate([[0], np.cumsum(lengths)])
        places = np.repeat(self.offsets[:-1][documents] - offsets[:-1], lengths) + np.arange(offsets[-1])
        return Documents(np.asarray(self.tokens)[places], offsets)

    def beginning(self, first: Int[np.ndarray, "document"]) -> "Documents":
        """The documents from their token ``first`` on."""
        places = np.arange(len(self.tokens)) - np.repeat(self.offsets[:-1], np.diff(self.offsets))
        kept = places >= np.repeat(first, np.diff(self.offsets))
        return Documents(self.tokens[kept], self.offsets - np.concatenate([[0], np.cumsum(first)]))

    def marked(self, mark: int) -> tuple[Int[np.ndarray, "token"], Int[np.ndarray, "token"]]:
        """The tokens with a mark before each document, and each token's position in its document."""
        starts = np.asarray(self.offsets[:-1])
        tokens = np.insert(np.asarray(self.tokens, np.int64), starts, mark)
        lengths = np.diff(self.offsets) + 1
        return tokens, np.arange(len(tokens)) - np.repeat(np.cumsum(lengths) - lengths, lengths)


def losses(
    train: Documents,
    held_out: Documents,
    vocabulary: int,
    orders: int = ORDERS,
    counted: Bool[np.ndarray, "prediction"] | None = None,
) -> list[float]:
    """Mean negative log-probability, in nats per prediction, of the models of order 1 to ``orders``.

    Args:
        train: documents to estimate from.
        held_out: documents to predict.
        vocabulary: number of token types.
        orders: the highest order.
        counted: the predictions in the mean; None for all.

    Raises:
        ValueError: one of them has nothing to predict.
    """
    some = slice(None) if counted is None else counted
    return [float(-np.log(p[some]).mean()) for p in probabilities(train, held_out, vocabulary, orders)]


def probabilities(
    train: Documents, held_out: Documents, vocabulary: int, orders: int = ORDERS
) -> Sequence[Float[np.ndarray, "prediction"]]:
    """Probability of every token of ``held_out`` except the first of each document, in order; one array per order.

    Takes some 100 bytes per token of both, and five sorts of them.
    """
    (seen, depth), (asked, asked_depth) = train.marked(vocabulary), held_out.marked(vocabulary)
    predicted, wanted = np.flatnonzero(depth > 1), np.flatnonzero(asked_depth > 1)  # after the mark and a first token
    if not len(wanted) or not len(predicted):
        raise ValueError("n-gram losses need documents of two tokens and more to count and to predict")
    smoothed = np.full(len(wanted), 1 / vocabulary)  # the lower-order model, from counts of distinct predecessors
    order = _Order(1, np.zeros(len(seen), np.int64), np.zeros(len(asked), np.int64), seen, asked)  # the empty context
    found: list[np.ndarray] = []
    while True:
        events = predicted[depth[predicted] >= order.k - 1]
        found.append(order.probability(events, wanted, asked_depth, smoothed))
        if order.k == orders:
            return found
        longer = order.longer(depth, asked_depth)
        # Distinct predecessors: one for each k-gram extended by a preceding token, and one for each beginning.
        inner = longer.one_of_each(predicted[depth[predicted] >= order.k])
        smoothed = order.probability(
            np.concatenate([inner, events[depth[events] == order.k - 1]]), wanted, asked_depth, smoothed
        )
        order = longer


class _Order:
    """The k-grams of two texts, numbered: ``grams[i]`` ends at token ``i``, and its first k - 1 tokens are
    ``context[i]``.

    ``UNSEEN`` if the document is too short or, in the second text, if the first text does not contain it.
    """

    def __init__(
        self,
        k: int,
        context: Int[np.ndarray, "token"],
        asked_context: Int[np.ndarray, "asked"],
        tokens: Int[np.ndarray, "token"],
        asked: Int[np.ndarray, "asked"],
    ) -> None:
        self.k, self.context, self.asked_context, self.tokens, self.asked = k, context, asked_context, tokens, asked
        width, there = int(max(tokens.max(), asked.max())) + 1, context >= 0
        known, numbers = np.unique(context[there] * width + tokens[there], return_inverse=True)
        self.grams = np.full(len(tokens), UNSEEN)
        self.grams[there] = numbers
        self.size = len(known)
        self.asked_grams = np.full(len(asked), UNSEEN)
        if len(known):
            keys = asked_context * width + asked
            place = np.minimum(np.searchsorted(known, keys), len(known) - 1)
            self.asked_grams[:] = np.where((asked_context >= 0) & (known[place] == keys), place, UNSEEN)

    def longer(self, depth: Int[np.ndarray, "token"], asked_depth: Int[np.ndarray, "asked"]) -> "_Order":
        """The next higher order, whose context at a token is the k-gram that ends before it."""
        context, asked_context = (
            np.where(d >= self.k, np.concatenate([[UNSEEN], grams[:-1]]), UNSEEN)
            for grams, d in ((self.grams, depth), (self.asked_grams, asked_depth))
        )
        return _Order(self.k + 1, context, asked_context, self.tokens, self.asked)

    def one_of_each(self, events: Int[np.ndarray, "event"]) -> Int[np.ndarray, "gram"]:
        """One event of each distinct k-gram."""
        last = np.full(self.size, UNSEEN)
        last[self.grams[events]] = events
        return last[last >= 0]

    def probability(
        self,
        events: Int[np.ndarray, "event"],
        wanted: Int[np.ndarray, "prediction"],
        asked_depth: Int[np.ndarray, "asked"],
        lower: Float[np.ndarray, "prediction"],
    ) -> Float[np.ndarray, "prediction"]:
        """The module's formula for these events; ``lower`` if the context is unseen or the beginning is shorter."""
        if not len(events):
            return lower
        count = np.bincount(self.grams[events], minlength=self.size)
        different = self.one_of_each(events)
        contexts = int(max(self.context.max(), self.asked_context.max())) + 1
        n, t = (np.bincount(self.context[each], minlength=contexts) for each in (events, different))
        once, twice = ((count == times).sum() for times in (1, 2))
        discount = (
            once / (once + 2 * twice) if once else 0.5
        )  # of a text in which nothing is seen once, anything would do
        gram, context = self.asked_grams[wanted], self.asked_context[wanted]
        ask = (context >= 0) & (asked_depth[wanted] >= self.k - 1)
        inside = np.where(ask, context, 0)
        ask &= n[inside] > 0
        total = np.maximum(n[inside], 1)
        own = np.maximum(np.where(gram >= 0, count[gram], 0) - discount, 0)
        return np.where(ask, own / total + discount * t[inside] / total * lower, lower)
