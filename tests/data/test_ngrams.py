"""n-gram losses: compared with the formula written out, and where the answer is known."""

import math
from collections import Counter, defaultdict

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tti.data.ngrams import Documents, losses, probabilities

MARK = "^"


def documents(*texts):
    tokens = np.array([token for text in texts for token in text])
    return Documents(tokens, np.cumsum([0, *map(len, texts)]))


class Reference:
    """The formula of the module, computed from dictionaries of tuples."""

    def __init__(self, texts, vocabulary, orders):
        self.vocabulary = vocabulary
        self.counts = [self._counts(texts, k, before=False) for k in range(1, orders + 1)]
        self.below = [self._counts(texts, k, before=True) for k in range(1, orders + 1)]

    def _counts(self, texts, k, before):
        counts, seen = Counter(), set()
        for text in ([MARK, *text] for text in texts):
            for i in range(2, len(text)):
                gram = tuple(text[i - k + 1 : i + 1])
                if i - k + 1 < 0:
                    continue
                if not before or i - k < 0:
                    counts[gram] += 1
                elif (text[i - k], gram) not in seen:
                    seen.add((text[i - k], gram))
                    counts[gram] += 1
        once, twice = (sum(c == n for c in counts.values()) for n in (1, 2))
        of = defaultdict(dict)
        for gram, count in counts.items():
            of[gram[:-1]][gram[-1]] = count
        return of, once / (once + 2 * twice) if once else 0.5

    def probability(self, history, token, order, top=True):
        if not order:
            return 1 / self.vocabulary
        order = min(order, len(history) + 1)
        (of, discount), context = (
            (self.counts if top else self.below)[order - 1],
            tuple(history[len(history) - order + 1 :]),
        )
        lower = self.probability(history[1:] if len(history) >= order else history, token, order - 1, top=False)
        there = of.get(context)
        if not there:
            return lower
        total = sum(there.values())
        return max(there.get(token, 0) - discount, 0) / total + discount * len(there) / total * lower


TEXTS = st.lists(st.lists(st.integers(0, 4), min_size=2, max_size=9), min_size=1, max_size=5)


@settings(max_examples=60, deadline=None)
@example([[1, 0], [0, 0, 0]], [[0, 0], [1, 0, 0]])  # a context that is the end of a text
@given(TEXTS, TEXTS)
def test_probabilities_are_those_of_the_formula(train, held_out):
    reference = Reference(train, 5, 4)
    found = probabilities(documents(*train), documents(*held_out), 5, 4)
    for order, ours in enumerate(found, start=1):
        theirs = [
            reference.probability([MARK, *text[:i]], text[i], order, top=order <= i + 2)
            for text in held_out for i in range(1, len(text))
        ]  # fmt: skip
        np.testing.assert_allclose(ours, theirs, rtol=1e-12)


def test_they_sum_to_one_over_the_vocabulary():
    train = documents([0, 1, 2, 0, 1], [3, 1, 2], [0, 1, 1, 1])
    asked = documents(*[[3, 0, 1, token] for token in range(5)])
    for of_order in probabilities(train, asked, 5, 4):
        assert of_order[2::3].sum() == pytest.approx(1)


def test_what_never_varies_costs_nothing_once_its_context_is_known():
    cycle = [0, 1, 2, 0, 2, 1] * 400  # two tokens can follow 0 or 2: two predecessors decide
    unigram, bigram, trigram = losses(documents(cycle), documents(cycle[:60]), 3, 3)
    assert unigram == pytest.approx(math.log(3), abs=0.02)
    assert bigram == pytest.approx(math.log(2), abs=0.05)
    assert trigram < 0.02


def test_noise_costs_its_entropy_in_every_order():
    noise = np.random.default_rng(0).integers(0, 8, (2, 4000))
    found = losses(documents(noise[0]), documents(noise[1]), 8, 2)
    assert found == pytest.approx([math.log(8)] * 2, abs=0.03)


def test_a_beginning_is_a_context_of_its_own():
    train = documents(*[[0, 1, 2], [3, 0, 2]] * 50)  # 1 follows a 0 at the start, 2 a later one
    _, bigram, trigram = losses(train, documents([0, 1], [3, 0, 2]), 4, 3)
    assert trigram < 0.05 < bigram


def test_documents_may_be_chosen_repeated_and_cut():
    some = documents([0, 1, 2], [3, 4], [5, 6, 7, 8]).take(np.array([2, 0, 2]), longest=2)
    assert some.tokens.tolist() == [5, 6, 7, 0, 1, 2, 5, 6, 7]
    assert some.offsets.tolist() == [0, 3, 6, 9]


def test_nothing_to_predict_is_said():
    with pytest.raises(ValueError, match="two tokens and more"):
        losses(documents([0], [1]), documents([0, 1]), 2)


def test_documents_from_a_token_on():
    found = documents("abc", "de", "f").beginning(np.array([2, 0, 0]))
    assert "".join(found.tokens) == "cdef"
    assert found.offsets.tolist() == [0, 1, 3, 4]


def test_the_mean_may_be_over_some_predictions():
    train, asked = documents([0, 1, 2], [0, 1, 1]), documents([0, 1, 2], [0, 2])
    each = [-np.log(p) for p in probabilities(train, asked, 3, 2)]
    counted = np.array([False, True, True])
    assert losses(train, asked, 3, 2, counted) == pytest.approx([nll[1:].mean() for nll in each])
