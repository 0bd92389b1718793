"""A coefficient that spends a given number of nats: as much regularization as that price buys."""

from collections.abc import Callable

import torch
from torch import Tensor

from tti.weightings.ratio import GradientRatio

LARGEST_OVERSHOOT = 1.0  # budgets beyond the budget that count; more says no more about the direction


class Budget(GradientRatio):
    """The largest lambda whose validation loss stays at most ``nats`` above the baseline's at the same step.

    The Lagrangian of "minimise the penalty subject to loss - baseline's <= nats", its multiplier (1 / lambda) adapted
    by dual ascent in the logarithm: at every validation ``log lambda`` moves by
    ``rate * (1 - spent / nats) * (progress since the last)``, ``spent`` being the difference of the validation losses.
    (That of the training losses would count what dropout adds to a regularizer's price.) It is chosen on the validation
    split, so it is the test split that says what was spent.

    Penalties differ in scale by orders of magnitude, which dual ascent would spend most of a training on. So until the
    first validation after the warm-up, lambda holds a gradient ratio, and adapts from there.

    Args:
        target: the gradient ratio that it begins with.
        nats: the budget. Below what another seed of the same training differs by, it cannot be held.
        rate: how fast lambda follows: e-foldings that it would rise over the whole training if nothing were spent.
        baseline: the baseline's validation loss after a number of steps.

    Raises:
        ValueError: ``nats`` or ``rate`` is not positive.
    """

    log_factor: Tensor
    observed: Tensor
    adapting: Tensor

    def __init__(
        self,
        weight: float,
        warmup: float,
        target: float,
        memory: float,
        nats: float,
        rate: float,
        baseline: Callable[[int], float],
    ) -> None:
        super().__init__(weight, warmup, target, memory)
        if min(nats, rate) <= 0:
            raise ValueError(f"weighting.nats={nats} and weighting.rate={rate} must be above 0")
        self.nats = nats
        self.rate = rate
        self.baseline = baseline
        self.register_buffer("log_factor", torch.zeros(()))
        self.register_buffer("observed", torch.zeros((), dtype=torch.int64))
        self.register_buffer("adapting", torch.zeros((), dtype=torch.bool))

    def full(self) -> Tensor:
        return super().full() * self.log_factor.exp()

    def observe_gradients(self, ratio: Tensor) -> None:
        super().observe_gradients(torch.where(self.adapting, torch.nan, ratio))  # which counts for nothing

    def observe_validation(self, step: int, steps: int, loss: float) -> None:
        if step > self.warmup * steps:
            room = max(1 - (loss - self.baseline(step)) / self.nats, -LARGEST_OVERSHOOT)
            self.log_factor = self.log_factor + self.rate * room * (step - self.observed) / steps
            self.adapting.fill_(True)
        self.observed.fill_(step)
