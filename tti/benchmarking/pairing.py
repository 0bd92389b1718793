"""Paired costs: the candidates take turns, so that costs are compared that were measured close in time.

Within minutes a machine's speed drifts by far more than a few percent; within one round it hardly does. So a ratio is
taken within each round, and its median over the rounds is reported with a bootstrap interval.
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
    """A median over rounds, with its bootstrap interval."""

    median: float
    low: float
    high: float

    def spelled(self, digits: int, sign: str = "", unit: str = "") -> str:
        """The estimate as ``median [low, high]``."""
        low, high = (f"{value:{sign},.{digits}f}" for value in (self.low, self.high))
        return f"{self.median:{sign},.{digits}f}{unit} [{low}, {high}]"


def take_turns(
    candidates: Mapping[str, Callable[[int], float]], rounds: int, description: str
) -> dict[str, Float[np.ndarray, "round"]]:
    """Measure the cost of every candidate once per round, and return the costs by candidate.

    Each pair of rounds begins with a different candidate, and every other round runs backwards, so that no candidate
    always has the same place or the same predecessor.

    Args:
        candidates: name -> function from the number of the round to a cost, such as seconds per token.
        rounds: number of rounds.
        description: label of the progress bar.
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
    """The median of figures that were each measured within a round, with its bootstrap interval."""
    draws = np.random.default_rng(0).integers(len(values), size=(RESAMPLES, len(values)))
    tail = (1 - CONFIDENCE) / 2
    low, high = np.quantile(np.median(values[draws], axis=1), (tail, 1 - tail))
    return Estimate(float(np.median(values)), float(low), float(high))
