"""What can be known about the factors of a text from one token, two tokens, or the whole context; once per corpus.

These ceilings give scores their meaning: a detector that looks up words may reach high scores, and the ideal reader
scores less than 1 where the text does not say enough.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final
from zipfile import BadZipFile

import numpy as np
from filelock import FileLock
from jaxtyping import Bool, Float, Int

from tti.data.cache import PackedStories
from tti.data.floor import Floor
from tti.data.templates import NONE
from tti.data.truth import Truth
from tti.durable import replacing

FACTORS: Final = "factors"
DETECTORS: Final = ("token_type", "token", "two_tokens", "context")
Indicator = Bool[np.ndarray, "token"]
FEWEST: Final = 10  # tokens of a value in each half of the stories; with fewer, it has no ceiling


@dataclass(frozen=True)
class Ceilings:
    """Ceilings of one split.

    Attributes:
        guess: the most probable value of each factor for every packed token to the ideal reader; exact.
        f1: by detector, its F1 for every value of every factor, in order. The detectors are the best single token type,
            the current token, the last two tokens (each fitted on the even stories and measured on the odd ones), and
            ``guess``. NaN for ``none``, and for values with too few tokens.
        entropy: entropy of each factor's value in nats: prior, given the current token, given the last two tokens, and
            given everything that the ideal reader knows.
        floor: the lowest possible loss on these stories, see :class:`tti.data.floor.Floor`.
    """

    guess: Int[np.ndarray, "packed factor"]
    f1: dict[str, Float[np.ndarray, "value"]]
    entropy: dict[str, Float[np.ndarray, "factor"]]
    floor: Floor


def ceilings(packed: PackedStories, truth: Truth) -> Ceilings:
    """The ceilings of a packed split, read from ``ceilings.npz`` in its folder, or computed and stored there.

    Raises:
        ValueError: the file is damaged, or the texts are not those of the corpus.
    """
    path = packed.folder / "ceilings.npz"
    with FileLock(path.with_suffix(".lock")):
        if not path.exists():
            _save(path, computed(packed, truth))
    try:
        with np.load(path) as file:
            found = dict(file)
    except (OSError, ValueError, BadZipFile) as error:
        raise ValueError(
            f"{path} cannot be read ({error}); delete it and start again: it will be recomputed"
        ) from error
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


def computed(packed: PackedStories, truth: Truth) -> Ceilings:
    """Compute the ceilings of a packed split by reading all its stories."""
    factors = np.asarray(truth.labels(packed))
    ideal = truth.read(packed)
    scored = np.ones(len(packed.tokens), dtype=bool)
    scored[packed.offsets[1:] - 1] = False
    knowledge = {"token": packed.tokens.astype(np.int64), "two_tokens": last_two(packed)}
    odd = np.repeat(np.arange(len(packed)) % 2, np.diff(packed.offsets))[scored].astype(bool)
    kept = {name: np.unique(known[scored], return_inverse=True)[1] for name, known in knowledge.items()}
    values = list(indicators(factors[scored], truth))
    guesses = list(indicators(ideal.guess[scored], truth))
    f1 = {
        "token_type": [best_type(kept["token"], value, odd) for value in values],
        **{name: [best_set(known, value, odd) for value in values] for name, known in kept.items()},
        "context": [f1_of(said[odd], value[odd]) for said, value in zip(guesses, values, strict=True)],
    }
    counted = np.array([min(value[odd].sum(), value[~odd].sum()) >= FEWEST for value in values])
    counted &= np.array([name != NONE for names in truth.factors.values() for name in names])
    columns = factors[scored].T.astype(np.int64)
    nothing = np.zeros(scored.sum(), np.int64)
    entropy = {
        name: np.array([conditional_entropy(known, column) for column in columns])
        for name, known in {"prior": nothing, **kept}.items()
    }
    entropy["context"] = ideal.entropy
    known_f1 = {name: np.where(counted, found, np.nan) for name, found in f1.items()}
    return Ceilings(ideal.guess, known_f1, entropy, ideal.floor)


def last_two(packed: PackedStories) -> Int[np.ndarray, "packed"]:
    """A number for each pair of previous and current token; a story's first token has no previous one."""
    tokens = packed.tokens.astype(np.int64)
    before = np.concatenate([[-1], tokens[:-1]])
    before[packed.offsets[:-1]] = -1
    return (before + 1) * (tokens.max() + 1) + tokens


def indicators(factors: Int[np.ndarray, "token factor"], truth: Truth) -> Iterator[Indicator]:
    """For every value of every factor, the tokens that carry it."""
    for column, names in enumerate(truth.factors.values()):
        for value in range(len(names)):
            yield factors[:, column] == value


def best_type(known: Int[np.ndarray, "token"], value: Indicator, odd: Indicator) -> float:
    """F1 on the odd stories of the single token type that is best on the even ones."""
    said, hits = np.bincount(known[~odd]), np.bincount(known[~odd], value[~odd])
    best = int((2 * hits / (said + hits.sum()).clip(1)).argmax())
    return f1_of(known[odd] == best, value[odd])


def best_set(known: Int[np.ndarray, "token"], value: Indicator, odd: Indicator) -> float:
    """F1 on the odd stories of the best set of types on the even ones, those that carry the value most often."""
    most = int(known.max()) + 1
    said, hits = np.bincount(known[~odd], minlength=most), np.bincount(known[~odd], value[~odd], most)
    order = np.argsort(-hits / said.clip(1), kind="stable")
    f1 = 2 * hits[order].cumsum() / (said[order].cumsum() + hits.sum()).clip(1)
    chosen = np.zeros(most, dtype=bool)
    chosen[order[: int(f1.argmax()) + 1]] = True
    return f1_of(chosen[known[odd]], value[odd])


def f1_of(said: Indicator, value: Indicator) -> float:
    """2 TP / (predicted + actual); 0 if both are 0."""
    return float(2 * (said & value).sum() / max(int(said.sum() + value.sum()), 1))


def conditional_entropy(known: Int[np.ndarray, "token"], value: Int[np.ndarray, "token"]) -> float:
    """H(value | known) of the empirical distribution, in nats."""
    return entropy_of(known * (value.max() + 1) + value) - entropy_of(known)


def entropy_of(outcomes: Int[np.ndarray, "token"]) -> float:
    """Entropy of the empirical distribution, in nats."""
    p = np.unique(outcomes, return_counts=True)[1] / len(outcomes)
    return float(-(p * np.log(p)).sum())
