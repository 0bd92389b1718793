"""Polysemanticity: over how many token types a neuron spends its activation."""

import torch
from jaxtyping import Float
from torch import Tensor

from tti.measures import mean_over, type_entropy, type_mass
from tti.metrics.sites import SiteMetric
from tti.step import Step


class Polysemanticity(SiteMetric):
    """Mean over active neurons of the entropy (nats) of ``sum |a|`` over input token types (``measures.type_entropy``).

    Over all tokens of the set, where training sees a batch: the two differ by the number of tokens, so compare runs on
    one set only. Memory is ``n_types x width`` float32 a site.
    """

    mass: Tensor

    def __init__(self, width: int, n_types: int) -> None:
        super().__init__(width, n_types)
        self.add_state("mass", torch.zeros(n_types, width), dist_reduce_fx="sum")

    def update(self, acts: Float[Tensor, "token width"], step: Step) -> None:
        self.mass += type_mass(acts.float(), step.batch.types, self.n_types)

    def compute(self) -> dict[str, Tensor]:
        """``polysemanticity`` in nats, and the number of ``silent`` neurons left out of it."""
        entropy, active = type_entropy(self.mass)
        return {"polysemanticity": mean_over(entropy, active), "silent": (~active).sum()}
