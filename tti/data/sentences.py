"""Sentences from a table of independent factors, with an exact parser: the corpus of the sentence autoencoder.

A sentence says who did what to which thing, where, when, how and in which mood: "The glad doctor did not carry the
lamps quietly near the river in the morning." What it says are its *factors* (``FACTORS``), how it says it is its
*style* (``STYLE``): active or passive, the order of its parts, one of two words for a mood or a time of day. All of
them are drawn independently and uniformly, so the entropy of a sentence is known exactly (:func:`entropy`): 16.3 nats
of factors and 2.8 of style. Every factor tuple has 16 sentences, its paraphrases, so that a decoder cannot be a
lookup table.

:func:`write` makes the sentence, :func:`parse` recovers every factor and the style from a sentence, and rejects
whatever :func:`write` never writes.
"""

import inspect
import math
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from itertools import combinations, product
from typing import Any, Final

import numpy as np
from jaxtyping import Bool, Int
from scipy.stats import chi2_contingency
from scipy.stats.contingency import crosstab
from tokenizers import Tokenizer

from tti.data import tokenizers
from tti.data.cache import EncodedStory, Maker, PackedStories
from tti.data.corpora import TRAINING, Corpus
from tti.data.floor import Floor
from tti.data.truth import Ideal

Values = Mapping[str, str]
"""Factor, or part of the style -> its value."""

EDITION: Final = 1  # of the sentences: caches of other editions are refused
FACTORS: Final = {
    "tense": ("past", "future"),
    "polarity": ("affirmed", "denied"),
    "number": ("one", "several"),
    "feeling": ("glad", "sad"),
    "time": ("morning", "evening"),
    "agent": (
        "doctor", "baker", "farmer", "teacher", "sailor", "painter", "singer", "lawyer", "driver", "hunter", "tailor",
        "miller", "dancer", "waiter", "banker", "gardener",
    ),
    "act": ("carry", "clean", "paint", "repair", "hide", "find", "sell", "buy", "draw", "drop", "lift", "steal"),
    "thing": (
        "book", "letter", "lamp", "basket", "ladder", "clock", "blanket", "bottle", "mirror", "hammer", "kettle",
        "pillow", "picture", "ribbon", "carpet", "bucket",
    ),
    "place": (
        "river", "station", "market", "castle", "harbor", "school", "church", "bridge", "forest", "garden", "museum",
        "temple", "tower", "village", "factory", "library",
    ),
    "manner": ("quietly", "slowly", "quickly", "proudly", "gently", "eagerly", "calmly", "boldly"),
}  # fmt: skip
WORDS: Final = ("first", "second")
STYLE: Final = {
    "order": ("plain", "time_first", "place_first", "passive"),
    "feeling_word": WORDS,
    "time_word": WORDS,
}
TABLE: Final = {**FACTORS, **STYLE}
ORDERS: Final = {
    "plain": "{subject} {active} {object} {manner} {where} {when}.",
    "time_first": "{when} {subject} {active} {object} {manner} {where}.",
    "place_first": "{where} {subject} {active} {object} {manner} {when}.",
    "passive": "{object} {passive} {manner} by {subject} {where} {when}.",
}
FEELINGS: Final = {"glad": ("glad", "cheerful"), "sad": ("sad", "gloomy")}
TIMES: Final = {"morning": ("in the morning", "at dawn"), "evening": ("in the evening", "at dusk")}
PAST: Final = {  # of an act: its past tense and participle
    "hide": ("hid", "hidden"), "find": ("found", "found"), "sell": ("sold", "sold"), "buy": ("bought", "bought"),
    "draw": ("drew", "drawn"), "drop": ("dropped", "dropped"), "steal": ("stole", "stolen"),
    "carry": ("carried", "carried"),
}  # fmt: skip
START: Final = "<|start|>"  # the first token of every sentence, from which its first word is predicted
RANK: Final = "rank"  # label of a sentence: a random number below 100, by which a share of the sentences is chosen
RANKS: Final = 100
PAIR: Final = ("agent", "place")
HELD_OUT: Final = tuple(zip(*(FACTORS[name][:8] for name in PAIR), strict=True))  # pairs that training lacks
FOLDS: Final = {TRAINING: range(8), "validation": range(8, 9), "test": range(9, 10)}  # of the factor tuples
BLOCK: Final = 4096  # sentences drawn at a time
LEAST_P: Final = 1e-6  # of the test for independence


def write(values: Values) -> str:
    """The sentence with these factors and this style."""
    slots = {name: slot.phrases[tuple(values[each] for each in slot.of)] for name, slot in _slots().items()}
    text = ORDERS[values["order"]].format(**slots)
    return text[0].upper() + text[1:]


def parse(text: str) -> dict[str, str] | None:
    """The factors and the style of a sentence; None if :func:`write` writes no such sentence."""
    for order, pattern in _patterns().items():
        if found := pattern.fullmatch(text[:1].lower() + text[1:]):
            values = {"order": order}
            for name, phrase in found.groupdict().items():
                values |= _slots()[name].says[phrase]
            return values if write(values) == text else None  # the parts must agree: not "the lamps was"
    return None


def entropy(names: Sequence[str] = tuple(TABLE)) -> float:
    """Entropy in nats of these factors and parts of the style together: the sum of the logs of their counts."""
    return float(sum(np.log(len(TABLE[name])) for name in names))


@dataclass(frozen=True)
class _Slot:
    """A part of a sentence: the factors it depends on, and its phrase for each tuple of their values."""

    of: tuple[str, ...]
    phrases: Mapping[tuple[str, ...], str]

    @classmethod
    def by(cls, phrase: Callable[..., str]) -> "_Slot":
        """The part whose phrase is a function of factors; its arguments have their names."""
        names = tuple(inspect.signature(phrase).parameters)
        return cls(names, {values: phrase(*values) for values in product(*(TABLE[name] for name in names))})

    @cached_property
    def says(self) -> dict[str, dict[str, str]]:
        """For each phrase, the factors that it determines, with their values."""
        tuples: dict[str, list[tuple[str, ...]]] = {}
        for values, phrase in self.phrases.items():
            tuples.setdefault(phrase, []).append(values)
        return {phrase: _shared(self.of, values) for phrase, values in tuples.items()}


def _shared(names: Sequence[str], tuples: Sequence[Sequence[str]]) -> dict[str, str]:
    columns = zip(names, zip(*tuples, strict=True), strict=True)
    return {name: values[0] for name, values in columns if len(set(values)) == 1}


@cache
def _slots() -> dict[str, _Slot]:
    return {
        "subject": _Slot.by(
            lambda feeling, feeling_word, agent: f"the {_word(FEELINGS[feeling], feeling_word)} {agent}"
        ),
        "object": _Slot.by(lambda number, thing: f"the {thing}{'' if number == 'one' else 's'}"),
        "active": _Slot.by(_active),
        "passive": _Slot.by(_passive),
        "manner": _Slot.by(lambda manner: manner),
        "where": _Slot.by(lambda place: f"near the {place}"),
        "when": _Slot.by(lambda time, time_word: _word(TIMES[time], time_word)),
    }


def _word(words: Sequence[str], which: str) -> str:
    return words[WORDS.index(which)]


def _active(tense: str, polarity: str, act: str) -> str:
    if polarity == "denied":
        return f"{'did' if tense == 'past' else 'will'} not {act}"
    return _past(act)[0] if tense == "past" else f"will {act}"


def _passive(tense: str, polarity: str, number: str, act: str) -> str:
    negation, done = "not " if polarity == "denied" else "", _past(act)[1]
    if tense == "future":
        return f"will {negation}be {done}"
    return f"{'was' if number == 'one' else 'were'} {negation}{done}"


def _past(act: str) -> tuple[str, str]:
    return PAST.get(act, (f"{act}ed", f"{act}ed"))


@cache
def _patterns() -> dict[str, re.Pattern[str]]:
    groups = {name: f"(?P<{name}>{'|'.join(slot.says)})" for name, slot in _slots().items()}
    return {order: re.compile(template.replace(".", r"\.").format(**groups)) for order, template in ORDERS.items()}


def vocabulary() -> dict[str, int]:
    """Id of every word, with its leading space unless it begins a sentence or is the full stop."""
    phrases = [phrase for slot in _slots().values() for phrase in slot.says]
    words = {
        f" {word}" for phrase in [*phrases, *ORDERS.values()] for word in re.findall(r"(?<!{)\b\w+\b(?!})", phrase)
    }
    begins = {phrase.split()[0].capitalize() for phrase in phrases}
    return {text: index for index, text in enumerate(sorted(words | begins | {"."}))}


# --- tables of sentences


def drawn(seed: int, split: str) -> Iterator[Int[np.ndarray, "sentence column"]]:
    """Blocks of sentences of a split without end, always the same for a seed.

    Columns are the indices of the values of ``TABLE``, in its order, then the rank. A factor tuple belongs to one split
    only, by a hash of it. Training has no held-out pair of agent and place; in the other splits they are as frequent
    as other pairs, so that all columns are independent.

    Raises:
        ValueError: there is no such split.
    """
    if split not in FOLDS:
        raise ValueError(f"sentences have no split {split!r}; they have {', '.join(FOLDS)}")
    draw = np.random.default_rng((seed, list(FOLDS).index(split)))
    sizes = [*(len(values) for values in TABLE.values()), RANKS]
    while True:
        table = draw.integers(0, sizes, (BLOCK, len(sizes)))
        kept = np.isin(folds(table), FOLDS[split])
        yield table[kept & ~held_out(table) if split == TRAINING else kept]


def folds(table: Int[np.ndarray, "sentence column"]) -> Int[np.ndarray, "sentence"]:
    """A number below 10 for each sentence that depends on its factors only: a hash of them (splitmix64)."""
    sizes = [len(values) for values in FACTORS.values()]
    number = np.ravel_multi_index(tuple(table[:, : len(sizes)].T), sizes).astype(np.uint64)
    number += np.uint64(0x9E3779B97F4A7C15)
    for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
        number = (number ^ (number >> np.uint64(shift))) * np.uint64(factor)
    return ((number ^ (number >> np.uint64(31))) % np.uint64(10)).astype(np.int64)


def held_out(table: Int[np.ndarray, "sentence column"]) -> Bool[np.ndarray, "sentence"]:
    """Sentences with a pair of agent and place that never occurs in training."""
    pairs = [[FACTORS[name].index(value) for name, value in zip(PAIR, pair, strict=True)] for pair in HELD_OUT]
    columns = [list(TABLE).index(name) for name in PAIR]
    return (table[:, None, columns] == np.array(pairs)).all(2).any(1)


def values_of(row: Int[np.ndarray, "column"]) -> dict[str, str]:
    """The values of one sentence of a table."""
    return {name: values[index] for (name, values), index in zip(TABLE.items(), row, strict=False)}


def require_independent(table: Int[np.ndarray, "sentence column"], names: Sequence[str]) -> None:
    """Check that no two columns of a table depend on each other.

    The test is the G-test of every pair of columns: ``2 N I(a; b)``, with I in nats, has the chi-squared distribution
    with ``(A - 1)(B - 1)`` degrees of freedom if they are independent. All pairs together raise a false alarm in one of
    a million tables.

    Args:
        table: indices of values.
        names: the columns' names.

    Raises:
        ValueError: two columns depend on each other. Scores of disentanglement would then be without meaning.
    """
    pairs = list(combinations(range(len(names)), 2))
    for one, other in pairs:
        counts = crosstab(table[:, one], table[:, other]).count
        test = chi2_contingency(counts, correction=False, lambda_="log-likelihood")
        if test.pvalue < LEAST_P / len(pairs):
            raise ValueError(
                f"{names[one]} and {names[other]} depend on each other in a table of {len(table):,} sentences "
                f"({test.statistic / 2 / len(table):.3f} nats): scores of disentanglement need independent factors"
            )


class Sentences(Corpus):
    """Sentences with the value of every factor, every part of the style, and the rank, as labels of their tokens.

    A sentence begins with a start token, so that its first word is predicted too.

    Args:
        train, validation, test: number of sentences of each split; None for no test split.
        seed: seed of the sentences; every split has its own stream.
        cache_dir: folder of the caches.
    """

    label_values: Mapping[str, Sequence[str]] = TABLE

    def __init__(self, train: int, validation: int, test: int | None, seed: int, cache_dir: str) -> None:
        super().__init__(cache_dir)
        sizes = {TRAINING: train, "validation": validation, "test": test}
        self.sentences = {split: size for split, size in sizes.items() if size is not None}
        self.seed = seed

    @property
    def truth(self) -> "SentenceFactors":
        return SentenceFactors()

    @property
    def splits(self) -> tuple[str, ...]:
        return tuple(self.sentences)

    def identity(self, split: str) -> dict[str, Any]:
        # The first sentences stand for the templates: others would write, draw or number them differently.
        sample = [[write(values_of(row)), *row.tolist()] for row in next(drawn(self.seed, split))[:20]]
        return {
            "edition": EDITION,
            "table": {name: list(values) for name, values in TABLE.items()},
            "sample": sample,
            "split": split,
            "sentences": self.sentences[split],
            "seed": self.seed,
        }

    def label(self, split: str) -> str:
        return f"sentences-{split}"

    def make(self, split: str) -> Maker:
        return Maker(f"writing {split} sentences", tokenizer(), self._portions(split), self.sentences[split])

    def _portions(self, split: str) -> Iterator[list[EncodedStory]]:
        words, left = tokenizer(), self.sentences[split]
        for block in drawn(self.seed, split):
            block = block[:left]
            left -= len(block)
            yield [_encoded(words, row) for row in block]
            if not left:
                return


class SentenceFactors:
    """The ten factors of a sentence, which all of its tokens carry (:class:`tti.data.truth.Truth`).

    The ideal reader has read the whole sentence, as an encoder has, or its code, as a decoder has.
    """

    factors: Mapping[str, Sequence[str]] = FACTORS
    of_text: Sequence[str] = tuple(FACTORS)
    homonyms: Mapping[str, Sequence[str]] = {}
    synonyms: Mapping[str, Sequence[str]] = {}
    pair: Sequence[str] = PAIR

    def tokenizer(self) -> Tokenizer:
        return tokenizer()

    def labels(self, packed: PackedStories) -> Int[np.ndarray, "packed factor"]:
        return np.stack([packed.extra(name) for name in FACTORS], 1)

    def held_out(self, factors: Int[np.ndarray, "token factor"]) -> Bool[np.ndarray, "token"]:
        return held_out(factors)

    def read(self, packed: PackedStories) -> Ideal:
        return Ideal(self.labels(packed), np.zeros(len(FACTORS)), Floor(math.nan, math.nan, len(packed)))


def tokenizer() -> Tokenizer:
    """A tokenizer with one token for each word of the sentences, the start token, and the end-of-text token."""
    return tokenizers.of_words(vocabulary(), (START,))


def encode(words: Tokenizer, text: str) -> list[int]:
    """The tokens of a sentence, from the start token to the full stop."""
    return words.encode(START + text).ids


def _encoded(words: Tokenizer, row: Int[np.ndarray, "column"]) -> EncodedStory:
    tokens = np.array(encode(words, write(values_of(row))))
    labels = zip((*TABLE, RANK), row.astype(np.uint8), strict=True)
    return {"tokens": tokens, **{name: np.full(len(tokens), value) for name, value in labels}}
