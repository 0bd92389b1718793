"""A coefficient that keeps the regularizer's gradient at a fraction of the cross-entropy's."""

import torch
from torch import Tensor

from tti.weightings.base import Weighting


class GradientRatio(Weighting):
    """Lambda such that ``|grad(lambda R)| / |grad(CE)| = target`` over the network's weights, before clipping.

    Lambda is constant between measurements. Each measurement updates a running mean of the logarithm of the unweighted
    ratio, unless one of the gradients is 0. Before the first such update, lambda is ``weight``. The warm-up multiplies
    lambda, so the target is reached after it.

    Args:
        weight, warmup: see :class:`Weighting`.
        target: the ratio rho, typically 0.03 to 1.
        memory: weight of the old running mean in an update, in [0, 1); 0 uses the last measurement only.

    Raises:
        ValueError: ``target`` is not positive, or ``memory`` is not in [0, 1).
    """

    log_ratio: Tensor
    seen: Tensor

    def __init__(self, weight: float, warmup: float, target: float, memory: float) -> None:
        super().__init__(weight, warmup)
        if target <= 0 or not 0 <= memory < 1:
            raise ValueError(f"weighting.target={target} must be above 0, weighting.memory={memory} in [0, 1)")
        self.target = target
        self.memory = memory
        self.register_buffer("log_ratio", torch.zeros(()))
        self.register_buffer("seen", torch.zeros((), dtype=torch.bool))

    def full(self) -> Tensor:
        return torch.where(self.seen, self.target / self.log_ratio.exp(), self.weight)

    def observe_gradients(self, ratio: Tensor) -> None:
        log = ratio.log()
        memory = torch.where(self.seen, self.memory, 0.0)
        usable = log.isfinite()
        self.log_ratio = torch.where(usable, memory * self.log_ratio + (1 - memory) * log, self.log_ratio)
        self.seen = self.seen | usable
