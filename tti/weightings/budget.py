"""A coefficient that spends a given number of nats: as much regularization as that price buys."""

import math
from collections.abc import Callable

import torch
from torch import Tensor

from tti.weightings.base import Weighting

Curve = Callable[[int, int], float]
LARGEST_OVERSHOOT = 2.0  # budgets beyond the budget that count; more says no more about the direction


class Budget(Weighting):
    """The largest lambda whose cross-entropy stays at most ``nats`` above the baseline's at the same step.

    The Lagrangian of "minimise the penalty subject to CE - CE_baseline <= nats", its multiplier (1 / lambda) adapted by
    dual ascent in the logarithm: whenever training is logged, ``log lambda`` moves by
    ``rate * (1 - spent / nats) * (progress since the last)``, where ``spent`` is the difference of the mean training
    cross-entropies since then. Same data, seed and dropout in both runs, so that the difference is paired and its noise
    small. During the warm-up lambda does not adapt.

    Args:
        nats: the budget.
        rate: how fast lambda follows: e-foldings that it would rise over the whole training if nothing were spent.
        baseline: the baseline's mean training cross-entropy of the steps after ``first`` up to ``last``.

    Raises:
        ValueError: ``nats`` or ``rate`` is not positive, or ``weight`` is 0, which nothing can multiply up.
    """

    log_weight: Tensor

    def __init__(self, weight: float, warmup: float, nats: float, rate: float, baseline: Curve) -> None:
        super().__init__(weight, warmup)
        if min(nats, rate, weight) <= 0:
            raise ValueError(f"weighting.nats={nats}, weighting.rate={rate} and weight={weight} must be above 0")
        self.nats = nats
        self.rate = rate
        self.baseline = baseline
        self.register_buffer("log_weight", torch.tensor(math.log(weight)))

    def full(self) -> Tensor:
        return self.log_weight.exp()

    def observe_cross_entropy(self, first: int, last: int, steps: int, nats: float) -> None:
        if first < self.warmup * steps:
            return
        spent = (nats - self.baseline(first, last)) / self.nats
        room = max(1 - spent, -LARGEST_OVERSHOOT)
        self.log_weight = self.log_weight + self.rate * room * (last - first) / steps
