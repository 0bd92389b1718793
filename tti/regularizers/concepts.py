"""Supervision of the known concepts of a bottleneck: every unit is the probability of one value of one factor."""

from collections.abc import Iterable, Mapping

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits

from tti.models.network import Site
from tti.regularizers.base import ActivationRegularizer
from tti.step import Step


class ConceptSupervision(ActivationRegularizer):
    """Binary cross-entropy of the units with the values that a token carries, in nats per factor.

    It is summed over the values of a factor, and averaged over factors and tokens. 0 if every unit is certain and
    right; log 2 for every value if all logits are 0; the sum of the values' binary entropies if each unit knows its
    value's frequency only. How it can be gamed: a value that is rare costs little to ignore. And supervision says what
    the units know, not that the network uses them, or uses nothing else: see ``tti.evaluation.leakage``.

    Args:
        sites: sites with the logits, a unit for each value but 0 (not applicable), factor after factor.
        weight, warmup: see :class:`~tti.regularizers.base.Regularizer`.
        label: label of the tokens with their values, ``[token, factor]``.
        factors: number of values of each factor, without 0.
    """

    def __init__(
        self, sites: str | Iterable[str], weight: float, warmup: float, label: str, factors: Mapping[str, int]
    ) -> None:
        super().__init__(sites, weight, warmup)
        self.label, self.factors = label, dict(factors)
        self.labels = (label,)

    def attach(self, sites: Mapping[str, Site]) -> None:
        """Choose the sites.

        Raises:
            ValueError: a glob matches no site, or a site has not one unit for each value.
        """
        super().attach(sites)
        values = sum(self.factors.values())
        for site in self.sites:
            if sites[site].width != values:
                raise ValueError(
                    f"{site} has {sites[site].width} units for the {values} values of {', '.join(self.factors)}: "
                    f"model.bottleneck.known={values}"
                )

    def penalty(self, acts: Float[Tensor, "token value"], step: Step) -> Float[Tensor, ""]:
        wanted = indicators(step.batch.labels[self.label], self.factors.values())
        nats = binary_cross_entropy_with_logits(acts.float(), wanted, reduction="sum")
        return nats / (len(acts) * len(self.factors))


def indicators(values: Int[Tensor, "token factor"], sizes: Iterable[int]) -> Float[Tensor, "token value"]:
    """1 where a token has a value: a column for each value but 0, factor after factor.

    Args:
        values: numbers from 0 to the factor's size.
        sizes: number of values of each factor, without 0.
    """
    of_factors = [
        column[:, None] == torch.arange(1, size + 1, device=values.device)
        for column, size in zip(values.unbind(1), sizes, strict=True)
    ]
    return torch.cat(of_factors, 1).float()
