"""Several sites at once, of which only some neurons are left to do what they do."""

from collections.abc import Mapping

import torch
from jaxtyping import Bool, Float
from torch import Tensor


class Mask:
    """A tap that holds every neuron outside ``kept`` at its mean: what remains is a circuit.

    Args:
        kept: site -> which of its neurons are left as they are; other sites are.
        means: site -> what the others are held at.
    """

    def __init__(self, kept: Mapping[str, Bool[Tensor, "width"]], means: Mapping[str, Float[Tensor, "width"]]) -> None:
        self.kept, self.means = kept, means

    def __call__(self, site: str, activation: Tensor) -> Tensor:
        if site not in self.kept:
            return activation
        acts = activation.flatten(1)
        return torch.where(self.kept[site], acts, self.means[site].to(acts.dtype)).view_as(activation)
