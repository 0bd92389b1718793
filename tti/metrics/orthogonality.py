"""Orthogonality of neurons over a whole split."""

import torch
from jaxtyping import Float
from torch import Tensor

from tti.measures import mean_abs_cosine
from tti.metrics.sites import SiteMetric
from tti.step import Step


class MeanAbsCosine(SiteMetric):
    """Mean off-diagonal ``|cos|`` between neurons over all tokens of the split, from an exact streaming Gram matrix.

    Costs ``width**2`` multiply-adds per token. How it can be gamed: dead neurons count as orthogonal.
    """

    gram: Tensor

    def __init__(self, width: int, n_types: int) -> None:
        super().__init__(width, n_types)
        self.add_state("gram", torch.zeros(width, width, dtype=torch.float64), dist_reduce_fx="sum")

    def update(self, acts: Float[Tensor, "token width"], step: Step) -> None:
        acts = acts.float()
        with torch.autocast(acts.device.type, enabled=False):
            self.gram += acts.T @ acts

    def compute(self) -> dict[str, Tensor]:
        """``mean_abs_cosine``, from 0 (orthogonal) to 1 (parallel)."""
        return {"mean_abs_cosine": mean_abs_cosine(self.gram)}
