"""Masking of all neurons outside a circuit, at several sites at once."""

from collections.abc import Mapping

import torch
from jaxtyping import Bool, Float
from torch import Tensor


class Mask:
    """A tap that holds every neuron outside ``kept`` at its mean; the neurons that remain form a circuit.

    Args:
        kept: site -> mask of the neurons left unchanged; sites not listed are left unchanged.
        means: site -> the values at which the other neurons are held.
    """

    def __init__(self, kept: Mapping[str, Bool[Tensor, "width"]], means: Mapping[str, Float[Tensor, "width"]]) -> None:
        self.kept, self.means = kept, means

    def __call__(self, site: str, activation: Tensor) -> Tensor:
        if site not in self.kept:
            return activation
        acts = activation.flatten(1)
        return torch.where(self.kept[site], acts, self.means[site].to(acts.dtype)).view_as(activation)
