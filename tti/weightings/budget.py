"""A coefficient that spends a loss budget: as much regularization as a given number of nats buys."""

from collections.abc import Callable

import torch
from omegaconf import DictConfig
from torch import Tensor

from tti.weightings.ratio import GradientRatio

LARGEST_ERROR = 1.0  # in budgets; larger errors carry no more information


class Budget(GradientRatio):
    """The largest lambda whose validation loss stays at most ``nats`` above the baseline's at the same step.

    Minimizing the penalty subject to ``loss - baseline <= nats`` has a Lagrangian whose multiplier is ``1 / lambda``.
    It is adapted by dual ascent in the logarithm. With ``spent`` the difference in validation loss and ``dt`` the
    fraction of training since the last validation, each validation sets

        expected = max(spent + lead * (spent - spent_before) / dt, min(spent, nats))
        log lambda += rate * clip(1 - expected / nats, -1, 1) * dt

    ``expected`` extrapolates the difference by ``lead``, a fraction of training. The ``max`` limits how far a falling
    difference counts: down to the budget only. A network forgets a penalty far more slowly than it yields to one, so an
    overshoot of lambda would stay, while the setback of the warm-up recovers by itself and needs no lower lambda. (Dual
    ascent with a derivative: Stooke et al. 2020, "Responsive Safety in Reinforcement Learning by PID Lagrangian
    Methods"; they count rises only, and the logarithm is ours.)

    Training losses would include the interaction of dropout with the regularizer, so validation losses are used. Lambda
    is thus tuned on the validation split, and only the test split shows what was really spent.

    Penalties differ in scale by orders of magnitude, and dual ascent would spend most of training on finding the scale.
    So until the first validation after the warm-up lambda holds a gradient ratio, and adapts from there.

    Args:
        weight, warmup: see :class:`Weighting`.
        target, memory: the initial gradient ratio and its running mean, see :class:`GradientRatio`.
        nats: the budget. A budget smaller than the difference between seeds cannot be held.
        rate: adaptation rate: the increase of log lambda over the whole of training if nothing is spent.
        lead: how far ahead the difference is extrapolated, as a fraction of training.
        baseline: maps the training's configuration to the baseline's validation loss after a given number of steps.

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
        baseline: Callable[[DictConfig], Callable[[int], float]],
    ) -> None:
        super().__init__(weight, warmup, target, memory)
        if min(nats, rate) <= 0 or lead < 0:
            raise ValueError(
                f"weighting.nats={nats} and weighting.rate={rate} must be above 0, weighting.lead={lead} not below"
            )
        self.nats = nats
        self.rate = rate
        self.lead = lead
        self.choose_baseline = baseline
        self.register_buffer("log_factor", torch.zeros(()))
        self.register_buffer("observed", torch.zeros((), dtype=torch.int64))
        self.register_buffer("spent", torch.zeros(()))
        self.register_buffer("adapting", torch.zeros((), dtype=torch.bool))

    def attach(self, config: DictConfig) -> None:
        self.baseline = self.choose_baseline(config)

    def full(self) -> Tensor:
        return super().full() * self.log_factor.exp()

    def observe_gradients(self, ratio: Tensor) -> None:
        super().observe_gradients(torch.where(self.adapting, torch.nan, ratio))  # NaN is ignored

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
