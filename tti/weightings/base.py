"""The contract of a weighting: it gives the coefficient of one regularizer, and observes training."""

from abc import ABC, abstractmethod

from omegaconf import DictConfig
from torch import Tensor, nn


class Weighting(nn.Module, ABC):
    """The coefficient lambda of one regularizer over training. Its buffers are checkpointed with the run.

    Args:
        weight: lambda after the warm-up if it is fixed, its initial value otherwise.
        warmup: fraction of training over which lambda rises linearly from 0.

    Raises:
        ValueError: ``warmup`` is not in [0, 1].
    """

    def __init__(self, weight: float, warmup: float) -> None:
        super().__init__()
        if not 0 <= warmup <= 1:
            raise ValueError(f"warmup={warmup} must be a fraction of training in [0, 1]")
        self.weight = weight
        self.warmup = warmup

    def attach(self, config: DictConfig) -> None:
        """Prepare for a training before it begins.

        Args:
            config: configuration of the whole training.

        Raises:
            ValueError: this weighting cannot be used in the training.
        """

    def coefficient(self, progress: float) -> float | Tensor:
        """The factor on the penalty after a fraction ``progress`` (0 to 1) of the optimizer steps."""
        return self.full() * min(1.0, progress / self.warmup if self.warmup else 1.0)

    @abstractmethod
    def full(self) -> float | Tensor:
        """Lambda without the warm-up factor."""

    def observe_gradients(self, ratio: Tensor) -> None:
        """Observe ``|grad(penalty)| / |grad(cross-entropy)|``, unweighted, every ``task.grad_ratio_every`` steps."""

    def observe_validation(self, step: int, steps: int, loss: float) -> None:
        """Observe the validation loss in nats after ``step`` of ``steps`` optimizer steps."""
