"""What can be known of the grammar's factors from one token, from two, and from all that was said: once per corpus.

No score on the grammar means anything without these: a detector that looks words up reaches high, and the ideal reader
of the whole story reaches less than 1 where the story does not say enough.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final
from zipfile import BadZipFile

import numpy as np
from filelock import FileLock
from jaxtyping import Bool, Float, Int
from rich.console import Console
from rich.progress import track

from tti.data.cache import PackedStories
from tti.data.floor import Floor, floor
from tti.data.grammar import StoryGrammar
from tti.data.likelihood import Reading
from tti.data.templates import NONE
from tti.durable import replacing

FACTORS: Final = "factors"
DETECTORS: Final = ("token_type", "token", "two_tokens", "context")
Indicator = Bool[np.ndarray, "token"]
FEWEST: Final = 10  # tokens of a value in each half of the stories, below which it has no ceiling


@dataclass(frozen=True)
class Ceilings:
    """Of one split.

    Attributes:
        guess: the most probable value of each factor for every packed token, given it and all before it; exact.
        f1: for each detector the F1 it reaches for every value of every factor, in their order: of the best single
            token type, of the current token, of the last two tokens (each chosen on the even stories and measured on
            the odd ones), and of ``guess``. NaN: ``none``, and values with too few tokens.
        entropy: of each factor's value, in nats: prior, given the current token, given the last two, given everything
            (the last is the mean surprisal of the ideal reader on these stories).
        floor: the least loss a model can have on these stories, see :class:`tti.data.floor.Floor`.
    """

    guess: Int[np.ndarray, "packed factor"]
    f1: dict[str, Float[np.ndarray, "value"]]
    entropy: dict[str, Float[np.ndarray, "factor"]]
    floor: Floor


def ceilings(packed: PackedStories, grammar: StoryGrammar) -> Ceilings:
    """The ceilings of a packed split, from ``ceilings.npz`` in its folder; computed first if it is not there.

    Raises:
        ValueError: the file is damaged, or the grammar cannot say the stories.
    """
    path = packed.folder / "ceilings.npz"
    with FileLock(path.with_suffix(".lock")):
        if not path.exists():
            _save(path, computed(packed, grammar))
    try:
        with np.load(path) as file:
            found = dict(file)
    except (OSError, ValueError, BadZipFile) as error:
        raise ValueError(f"{path} cannot be read ({error}); delete it and start again: it is computed anew") from error
    f1, entropy = (
        {key.removeprefix(kind): values for key, values in found.items() if key.startswith(kind)}
        for kind in ("f1/", "entropy/")
    )
    nats, spread, stories = found["floor"].tolist()
    return Ceilings(found["guess"], f1, entropy, Floor(nats, spread, int(stories)))


def _save(path: Path, made: Ceilings) -> None:
    arrays: dict[str, Any] = {f"f1/{name}": values for name, values in made.f1.items()}
    arrays |= {f"entropy/{name}": values for name, values in made.entropy.items()}
    numbers = np.array([made.floor.nats, made.floor.error, made.floor.stories])
    with replacing(path) as file:
        np.savez_compressed(file, guess=made.guess, floor=numbers, **arrays)


def computed(packed: PackedStories, grammar: StoryGrammar) -> Ceilings:
    """The ceilings of a packed split, by reading every story of it."""
    reader = grammar.reader()
    spans = list(zip(packed.offsets[:-1].tolist(), (packed.offsets[1:] - 1).tolist(), strict=True))
    factors = np.asarray(packed.extra(FACTORS))
    guess = np.zeros_like(factors)
    surprisal = np.zeros(factors.shape[1])
    readings: list[Reading] = []
    title = f"reading {packed.folder.name}"
    for start, end in track(spans, title, console=Console(stderr=True), transient=True):
        reading = reader.read(packed.tokens[start:end].tolist())
        readings.append(reading)
        for column, belief in enumerate(grammar.beliefs(reading).values()):
            guess[start:end, column] = belief.argmax(1)
            known = belief[np.arange(end - start), factors[start:end, column]]
            surprisal[column] -= np.log(known.clip(1e-300)).sum()
    scored = np.ones(len(packed.tokens), dtype=bool)
    scored[packed.offsets[1:] - 1] = False
    knowledge = {"token": packed.tokens.astype(np.int64), "two_tokens": last_two(packed)}
    odd = np.repeat(np.arange(len(packed)) % 2, np.diff(packed.offsets))[scored].astype(bool)
    kept = {name: np.unique(known[scored], return_inverse=True)[1] for name, known in knowledge.items()}
    values = list(indicators(factors[scored], grammar))
    guesses = list(indicators(guess[scored], grammar))
    f1 = {
        "token_type": [best_type(kept["token"], value, odd) for value in values],
        **{name: [best_set(known, value, odd) for value in values] for name, known in kept.items()},
        "context": [f1_of(said[odd], value[odd]) for said, value in zip(guesses, values, strict=True)],
    }
    counted = np.array([min(value[odd].sum(), value[~odd].sum()) >= FEWEST for value in values])
    counted &= np.array([name != NONE for names in grammar.factors.values() for name in names])
    columns = factors[scored].T.astype(np.int64)
    nothing = np.zeros(scored.sum(), np.int64)
    entropy = {
        name: np.array([conditional_entropy(known, column) for column in columns])
        for name, known in {"prior": nothing, **kept}.items()
    }
    entropy["context"] = surprisal / scored.sum()
    return Ceilings(
        guess, {name: np.where(counted, found, np.nan) for name, found in f1.items()}, entropy, floor(readings)
    )


def last_two(packed: PackedStories) -> Int[np.ndarray, "packed"]:
    """A number for each pair of the token before and the current one; a story's first has no token before it."""
    tokens = packed.tokens.astype(np.int64)
    before = np.concatenate([[-1], tokens[:-1]])
    before[packed.offsets[:-1]] = -1
    return (before + 1) * (tokens.max() + 1) + tokens


def indicators(factors: Int[np.ndarray, "token factor"], grammar: StoryGrammar) -> Iterator[Indicator]:
    """For every value of every factor the tokens that carry it."""
    for column, names in enumerate(grammar.factors.values()):
        for value in range(len(names)):
            yield factors[:, column] == value


def best_type(known: Int[np.ndarray, "token"], value: Indicator, odd: Indicator) -> float:
    """F1 on the odd stories of the single type that is best on the even ones."""
    said, hits = np.bincount(known[~odd]), np.bincount(known[~odd], value[~odd])
    best = int((2 * hits / (said + hits.sum()).clip(1)).argmax())
    return f1_of(known[odd] == best, value[odd])


def best_set(known: Int[np.ndarray, "token"], value: Indicator, odd: Indicator) -> float:
    """F1 on the odd stories of the best set of types, those that carry the value most often, of the even ones."""
    most = int(known.max()) + 1
    said, hits = np.bincount(known[~odd], minlength=most), np.bincount(known[~odd], value[~odd], most)
    order = np.argsort(-hits / said.clip(1), kind="stable")
    f1 = 2 * hits[order].cumsum() / (said[order].cumsum() + hits.sum()).clip(1)
    chosen = np.zeros(most, dtype=bool)
    chosen[order[: int(f1.argmax()) + 1]] = True
    return f1_of(chosen[known[odd]], value[odd])


def f1_of(said: Indicator, value: Indicator) -> float:
    """2 TP / (said + carriers); 0 where neither is."""
    return float(2 * (said & value).sum() / max(int(said.sum() + value.sum()), 1))


def conditional_entropy(known: Int[np.ndarray, "token"], value: Int[np.ndarray, "token"]) -> float:
    """H(value | known) of the empirical distribution, in nats."""
    return entropy_of(known * (value.max() + 1) + value) - entropy_of(known)


def entropy_of(outcomes: Int[np.ndarray, "token"]) -> float:
    """Of the empirical distribution, in nats."""
    p = np.unique(outcomes, return_counts=True)[1] / len(outcomes)
    return float(-(p * np.log(p)).sum())
