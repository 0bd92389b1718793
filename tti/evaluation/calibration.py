"""What a sample of stories says of a site's neurons before the pass: ranges, quantiles, scale.

A pass that sees every token once cannot know a quantile in advance. Thresholds and bins are therefore taken from whole
stories drawn at random, the same for every run with the same data, and counted over all tokens.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

RECTIFIED = 0.01  # a site with more exact zeros than that has a non-linearity that makes them


@dataclass(frozen=True)
class Calibration:
    """Of one site: ``sorted`` holds ``QUANTILES`` evenly spaced order statistics of each neuron's activations."""

    quantiles: Float[Tensor, "width quantile"]
    mean: Float[Tensor, "width"]
    rms: Float[Tensor, "width"]
    zeros: Float[Tensor, "width"]

    @classmethod
    def of(cls, acts: Float[Tensor, "token width"]) -> "Calibration":
        """From the activations of a sample."""
        ordered = acts.float().T.sort(-1).values
        kept = torch.linspace(0, len(acts) - 1, min(QUANTILES, len(acts)), device=acts.device).round().long()
        zeros = (ordered == 0).float().mean(-1)
        return cls(ordered[:, kept].clone(), ordered.mean(-1), ordered.square().mean(-1).sqrt(), zeros)

    def quantile(self, q: float) -> Float[Tensor, "width"]:
        """The ``q`` quantile of each neuron, from 0 (minimum) to 1 (maximum)."""
        return self.quantiles[:, round(q * (self.quantiles.shape[1] - 1))]

    @property
    def rectified(self) -> bool:
        """Whether the site makes exact zeros, as ReLU and top-k do; dead neurons do not count."""
        alive: Bool[Tensor, "width"] = self.zeros < 1
        return bool(alive.any()) and bool(self.zeros[alive].mean() > RECTIFIED)


QUANTILES = 2001
