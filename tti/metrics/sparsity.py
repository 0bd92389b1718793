"""Sparsity at an absolute threshold."""

import torch
from jaxtyping import Float
from torch import Tensor

from tti.metrics.sites import SiteMetric
from tti.step import Step


class Sparsity(SiteMetric):
    """Fraction of (token, neuron) pairs with ``|a| < threshold``; the seed project's threshold is 0.01.

    How it can be gamed: by scale. Shrinking all activations makes any model sparse by this measure.
    """

    inactive: Tensor
    pairs: Tensor

    def __init__(self, width: int, n_types: int, threshold: float) -> None:
        super().__init__(width, n_types)
        self.threshold = threshold
        self.add_state("inactive", torch.zeros((), dtype=torch.int64), dist_reduce_fx="sum")
        self.add_state("pairs", torch.zeros((), dtype=torch.int64), dist_reduce_fx="sum")

    def update(self, acts: Float[Tensor, "token width"], step: Step) -> None:
        self.inactive += (acts.abs() < self.threshold).sum()
        self.pairs += acts.numel()

    def compute(self) -> dict[str, Tensor]:
        """``sparsity``, from 0 (none inactive) to 1 (all inactive)."""
        return {"sparsity": self.inactive / self.pairs}
