"""Regularizers of pairs of neurons, over all neurons of a site or a sample redrawn in every step."""

from collections.abc import Iterable, Mapping

import torch
from jaxtyping import Float
from torch import Tensor

from tti.models.network import Site
from tti.regularizers.base import ActivationRegularizer


class PairRegularizer(ActivationRegularizer):
    """A mean over pairs of neurons of a site, whose cost per token is the square of the number of neurons.

    With a ``sample`` of the neurons the cost is ``sample**2``, and value and gradient are unbiased: in a uniform sample
    without replacement every pair is equally likely. (Sampling tokens would be biased: fewer tokens give larger cosines
    between independent neurons.) Sites of equal width share the draw.

    Args:
        sites, weight, warmup: see :class:`Regularizer`.
        sample: number of neurons, redrawn in every step; None uses all.
    """

    def __init__(self, sites: str | Iterable[str], weight: float, warmup: float, sample: int | None) -> None:
        super().__init__(sites, weight, warmup)
        self.sample = sample
        self._chosen: dict[int, Tensor] = {}  # width of a site -> the neurons of this step

    def attach(self, sites: Mapping[str, Site]) -> None:
        """Choose the sites; until the first draw, the sample is their first neurons.

        Raises:
            ValueError: a glob matches no site, or a site has fewer neurons than ``sample``.
        """
        super().attach(sites)
        if self.sample is not None:
            widths = [sites[site].width for site in self.sites]
            narrowest = min(widths)
            if not 2 <= self.sample <= narrowest:
                raise ValueError(f"sample={self.sample} neurons: from 2, a pair, to {narrowest}, the narrowest site")
            self._chosen = {width: torch.arange(self.sample) for width in widths}

    def draw(self, generator: torch.Generator) -> None:
        """Draw the sample of the coming step."""
        self._chosen = {width: torch.randperm(width, generator=generator)[: self.sample] for width in self._chosen}

    def sampled(self, acts: Float[Tensor, "token width"]) -> Float[Tensor, "token sample"]:
        """Activations of this step's sample of neurons."""
        if self.sample is None:
            return acts
        width = acts.shape[1]
        self._chosen[width] = self._chosen[width].to(acts.device, non_blocking=True)
        return acts.index_select(1, self._chosen[width])
