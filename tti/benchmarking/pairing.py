"""Paired costs: candidates take turns, and what is compared lies side by side in time.

A machine's speed drifts by far more than a few percent in minutes. Within one round it hardly does, so that a ratio is
taken within each round, and its median over the rounds is told with a bootstrap interval.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from tti.benchmarking.progress import shown

CONFIDENCE = 0.95
RESAMPLES = 10_000


@dataclass(frozen=True)
class Estimate:
    """A median over rounds, and the bootstrap interval of that median."""

    median: float
    low: float
    high: float

    def spelled(self, digits: int, sign: str = "", unit: str = "") -> str:
        """``median [low, high]``."""
        low, high = (f"{value:{sign},.{digits}f}" for value in (self.low, self.high))
        return f"{self.median:{sign},.{digits}f}{unit} [{low}, {high}]"


def take_turns(
    candidates: Mapping[str, Callable[[int], float]], rounds: int, description: str
) -> dict[str, Float[np.ndarray, "round"]]:
    """Ask every candidate once a round what it costs; the costs by candidate.

    Each pair of rounds begins with another candidate, and every other round goes backwards, so that none has a place
    or a predecessor of its own.

    Args:
        candidates: name -> gives its cost, such as seconds a token, in the round of this number.
        rounds: how often.
        description: of the progress that is shown.
    """
    costs: dict[str, list[float]] = {name: [] for name in candidates}
    for turn in shown(range(rounds), description):
        for name in _order(list(candidates), turn):
            costs[name].append(candidates[name](turn))
    return {name: np.array(each) for name, each in costs.items()}


def _order(names: list[str], turn: int) -> list[str]:
    first = turn // 2 % len(names)
    rotated = names[first:] + names[:first]
    return rotated[::-1] if turn % 2 else rotated


def estimate(values: Float[np.ndarray, "round"]) -> Estimate:
    """The median of figures that were each measured within a round."""
    draws = np.random.default_rng(0).integers(len(values), size=(RESAMPLES, len(values)))
    tail = (1 - CONFIDENCE) / 2
    low, high = np.quantile(np.median(values[draws], axis=1), (tail, 1 - tail))
    return Estimate(float(np.median(values)), float(low), float(high))
