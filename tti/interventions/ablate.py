"""Ablation of single neurons, several in one batch."""

import torch
from jaxtyping import Float, Int
from torch import Tensor


class Ablation:
    """A tap for a batch that holds the same stories several times; each copy has one neuron held at a value.

    Args:
        site: site of the neurons.
        neurons: the neuron to ablate in each copy.
        means: the value that each is held at.
    """

    def __init__(self, site: str, neurons: Int[Tensor, "copy"], means: Float[Tensor, "copy"]) -> None:
        self.site, self.neurons, self.means = site, neurons, means

    def __call__(self, site: str, activation: Tensor) -> Tensor:
        if site != self.site:
            return activation
        copies = activation.flatten(1).unflatten(0, (len(self.neurons), -1)).clone()
        copies[torch.arange(len(copies), device=copies.device), :, self.neurons] = self.means[:, None].to(copies.dtype)
        return copies.view_as(activation)
