"""A coefficient that spends a given number of nats: as much regularization as that price buys."""

import math
from collections.abc import Callable

import torch
from torch import Tensor

from tti.weightings.base import Weighting

LARGEST_OVERSHOOT = 2.0  # budgets beyond the budget that count; more says no more about the direction


class Budget(Weighting):
    """The largest lambda whose validation loss stays at most ``nats`` above the baseline's at the same step.

    The Lagrangian of "minimise the penalty subject to loss - baseline's <= nats", its multiplier (1 / lambda) adapted
    by dual ascent in the logarithm: at every validation ``log lambda`` moves by
    ``rate * (1 - spent / nats) * (progress since the last)``, ``spent`` being the difference of the validation losses.
    (That of the training losses would count what dropout adds to a regularizer's price.) During the warm-up lambda does
    not adapt. It is chosen on the validation split, so it is the test split that says what was spent.

    Args:
        nats: the budget.
        rate: how fast lambda follows: e-foldings that it would rise over the whole training if nothing were spent.
        baseline: the baseline's validation loss after a number of steps.

    Raises:
        ValueError: ``nats`` or ``rate`` is not positive, or ``weight`` is 0, which nothing can multiply up.
    """

    log_weight: Tensor
    observed: Tensor

    def __init__(
        self, weight: float, warmup: float, nats: float, rate: float, baseline: Callable[[int], float]
    ) -> None:
        super().__init__(weight, warmup)
        if min(nats, rate, weight) <= 0:
            raise ValueError(f"weighting.nats={nats}, weighting.rate={rate} and weight={weight} must be above 0")
        self.nats = nats
        self.rate = rate
        self.baseline = baseline
        self.register_buffer("log_weight", torch.tensor(math.log(weight)))
        self.register_buffer("observed", torch.zeros((), dtype=torch.int64))

    def full(self) -> Tensor:
        return self.log_weight.exp()

    def observe_validation(self, step: int, steps: int, loss: float) -> None:
        if step > self.warmup * steps:
            spent = (loss - self.baseline(step)) / self.nats
            room = max(1 - spent, -LARGEST_OVERSHOOT)
            self.log_weight = self.log_weight + self.rate * room * (step - self.observed) / steps
        self.observed.fill_(step)
