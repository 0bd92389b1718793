"""Polysemanticity: the spread of a neuron's activation over token types."""

import torch
from jaxtyping import Float
from torch import Tensor

from tti.measures import mean_over, type_entropy, type_mass
from tti.metrics.sites import SiteMetric
from tti.step import Step


class Polysemanticity(SiteMetric):
    """Mean over active neurons of the entropy (nats) of ``sum |a|`` over token types (``measures.type_entropy``).

    It covers all tokens of the split, whereas training sees one batch. The two differ by the number of tokens, so
    compare runs on one split only. Memory is ``n_types x width`` float32 per site.
    """

    mass: Tensor

    def __init__(self, width: int, n_types: int) -> None:
        super().__init__(width, n_types)
        self.add_state("mass", torch.zeros(n_types, width), dist_reduce_fx="sum")

    def update(self, acts: Float[Tensor, "token width"], step: Step) -> None:
        self.mass += type_mass(acts.float(), step.batch.types, self.n_types)

    def compute(self) -> dict[str, Tensor]:
        """``polysemanticity`` in nats, and the number of ``silent`` neurons excluded from it."""
        entropy, active = type_entropy(self.mass)
        return {"polysemanticity": mean_over(entropy, active), "silent": (~active).sum()}
