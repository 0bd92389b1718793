"""The journal of a training run: what is recorded in every step, and what is logged."""

import math
from collections.abc import Iterable, Mapping
from typing import Any, cast

import torch
from torch import Tensor

from tti.metrics.step_means import StepMeans
from tti.modules.clock import Clock


class TrainingDivergedError(ArithmeticError):
    """A term of the loss, or the gradient, is not finite."""


class Journal:
    """Logging cadence, throughput and divergence of a training run.

    Args:
        loss: name under which the task's own loss is logged.
        terms: names of the regularizers.

    Attributes:
        means: means of each step's scalars since the last line.
        clock: training time, excluding validations and continuing across restarts.
        latest: the last value logged under each name.
        tokens_seen: tokens in the loss up to the last line.
        grad_norm: norm of the network's gradient in the last step, before clipping.
        learning_rate: learning rate of the last step.
        ratios: gradient ratios measured since the last line.
        coefficients: the regularizers' coefficients in the last step.
    """

    def __init__(self, loss: str, terms: Iterable[str]) -> None:
        self.loss, self.terms = loss, tuple(terms)
        self.means = StepMeans()
        self.clock = Clock()
        self.latest: dict[str, float] = {}
        self.tokens_seen = 0
        self.grad_norm = torch.zeros(())
        self.learning_rate = 0.0
        self.ratios: dict[str, Tensor] = {}
        self.coefficients: Mapping[str, float | Tensor] = {}
        self._logged_step = 0
        self._logged_second = 0.0

    def is_due(self, step: int, every: int, last: int) -> bool:
        """Whether a line is due after ``step``: the first, every ``every`` steps, and the last, each once."""
        return step != self._logged_step and (step % every == 0 or step in (1, last))

    def line(self, step: int) -> dict[str, float]:
        """The values to log for the steps since the last line; the only place that waits for the device.

        Raises:
            TrainingDivergedError: a value is not finite.
        """
        before, self._logged_step = self._logged_step, step
        measured = self.means.compute() | self.ratios | {"grad_norm": self.grad_norm}
        measured |= {f"{name}_coefficient": torch.as_tensor(value) for name, value in self.coefficients.items()}
        values = numbers(measured, self.means.tokens.device)
        if not all(map(math.isfinite, values.values())):
            raise self.diverged(before, step)
        tokens, seconds = int(values.pop("tokens")), self.clock.seconds
        self.tokens_seen += tokens
        values["tokens_per_second"] = tokens / max(seconds - self._logged_second, 1e-9)
        weighted = sum(values[f"{name}_weighted"] for name in self.terms)
        values[f"reg_to_{self.loss}_ratio"] = weighted / values[self.loss]
        values["learning_rate"] = self.learning_rate
        values["tokens"] = self.tokens_seen
        self._logged_second = seconds
        self.means.reset()
        self.ratios = {}
        return values

    def require_finite(self, step: int) -> None:
        """Check, before a checkpoint is written, that every step since the last line was finite.

        Raises:
            TrainingDivergedError: one was not.
        """
        if self.means.broken() or not math.isfinite(self.grad_norm):
            raise self.diverged(self._logged_step, step)

    def diverged(self, before: int, step: int) -> TrainingDivergedError:
        """The error that names the steps and the term that diverged first."""
        broken = self.means.broken()
        terms = [name for name in broken if name in {self.loss, *self.terms}] or list(broken) or ["the gradient"]
        return TrainingDivergedError(
            f"not a finite number between steps {before} and {step}, first in: {', '.join(terms)}. The last checkpoint "
            "is older and still good. Lower optimizer.lr or the weight of the named regularizer, under another "
            "name=..."
        )

    def state(self) -> dict[str, Any]:
        """State for a checkpoint, without ``means``, which the task saves."""
        return {
            "seconds": self.clock.seconds,
            "logged_second": self._logged_second,
            "tokens_seen": self.tokens_seen,
            "grad_ratios": dict(self.ratios),
            "latest": dict(self.latest),
            "names": list(self.means.names),
        }

    def load(self, state: Mapping[str, Any], step: int) -> None:
        """Restore from a checkpoint saved at ``step``."""
        self.clock.seconds = state["seconds"]
        self._logged_second = state["logged_second"]
        self.tokens_seen = state["tokens_seen"]
        self.ratios = state["grad_ratios"]
        self.latest = state["latest"]
        self.means.names = tuple(state.get("names", ()))  # checkpoints up to 0.1 have none: the next step sets them
        self._logged_step = step


def numbers(values: Mapping[str, Tensor], device: torch.device) -> dict[str, float]:
    """Scalars as Python numbers, read from the device in one transfer."""
    stacked = torch.stack([value.to(device, torch.float64) for value in values.values()])
    return dict(zip(values, cast(list[float], stacked.tolist()), strict=True))
