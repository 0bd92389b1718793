"""A coefficient that spends a given number of nats: as much regularization as that price buys."""

from collections.abc import Callable

import torch
from torch import Tensor

from tti.weightings.ratio import GradientRatio

LARGEST_ERROR = 1.0  # in budgets; more says no more about the direction


class Budget(GradientRatio):
    """The largest lambda whose validation loss stays at most ``nats`` above the baseline's at the same step.

    The Lagrangian of "minimise the penalty subject to loss - baseline's <= nats", its multiplier (1 / lambda) adapted
    by dual ascent in the logarithm: at every validation ``log lambda`` moves by
    ``rate * (1 - expected / nats) * (progress since the last)``, where ``expected`` is the difference of the validation
    losses after a further ``lead`` of the training, if it goes on as since the last validation; a fall counts down to
    the budget only. For a network forgets a penalty far more slowly than it gives in to one, so that an overshoot would
    stay, while a setback of the warm-up mends by itself, and lambda need not fall for it. (Dual ascent with a
    derivative: Stooke et al. 2020, "Responsive Safety in Reinforcement Learning by PID Lagrangian Methods"; they count
    rises only, and the logarithm is ours.)
    The difference of the training losses would count what dropout adds to a regularizer's price. It is chosen on the
    validation split, so it is the test split that says what was spent.

    Penalties differ in scale by orders of magnitude, which dual ascent would spend most of a training on. So until the
    first validation after the warm-up, lambda holds a gradient ratio, and adapts from there.

    Args:
        target: the gradient ratio that it begins with.
        nats: the budget. Below what another seed of the same training differs by, it cannot be held.
        rate: how fast lambda follows: e-foldings that it would rise over the whole training if nothing were spent.
        lead: how far a change is thought on, as a fraction of the training.
        baseline: the baseline's validation loss after a number of steps.

    Raises:
        ValueError: ``nats`` or ``rate`` is not positive, or ``lead`` is negative.
    """

    log_factor: Tensor
    observed: Tensor
    spent: Tensor
    adapting: Tensor

    def __init__(
        self,
        weight: float,
        warmup: float,
        target: float,
        memory: float,
        nats: float,
        rate: float,
        lead: float,
        baseline: Callable[[int], float],
    ) -> None:
        super().__init__(weight, warmup, target, memory)
        if min(nats, rate) <= 0 or lead < 0:
            raise ValueError(
                f"weighting.nats={nats} and weighting.rate={rate} must be above 0, weighting.lead={lead} not below"
            )
        self.nats = nats
        self.rate = rate
        self.lead = lead
        self.baseline = baseline
        self.register_buffer("log_factor", torch.zeros(()))
        self.register_buffer("observed", torch.zeros((), dtype=torch.int64))
        self.register_buffer("spent", torch.zeros(()))
        self.register_buffer("adapting", torch.zeros((), dtype=torch.bool))

    def full(self) -> Tensor:
        return super().full() * self.log_factor.exp()

    def observe_gradients(self, ratio: Tensor) -> None:
        super().observe_gradients(torch.where(self.adapting, torch.nan, ratio))  # which counts for nothing

    def observe_validation(self, step: int, steps: int, loss: float) -> None:
        spent, since = loss - self.baseline(step), (step - int(self.observed)) / steps
        if not since:  # the same step, validated again
            return
        expected = max(spent + self.lead * (spent - float(self.spent)) / since, min(spent, self.nats))
        if step > self.warmup * steps:
            error = min(max(1 - expected / self.nats, -LARGEST_ERROR), LARGEST_ERROR)
            self.log_factor += self.rate * error * since
            self.adapting.fill_(True)
        self.observed.fill_(step)
        self.spent.fill_(spent)
