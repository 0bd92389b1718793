"""What a sample of stories says of a site's neurons before the pass: ranges, quantiles, scale.

A pass that sees every token once cannot know a quantile in advance. Thresholds and bins are therefore taken from whole
stories drawn at random, the same for every run with the same data, and counted over all tokens.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

TAIL = 0.95  # the tails that are compared begin at this quantile and at 1 less it
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

    def beyond(self, q: float) -> tuple[Float[Tensor, "width"], Float[Tensor, "width"]]:
        """The sign of each neuron's longer tail, and the threshold above which ``sign * a`` is in its top ``1 - q``.

        The longer tail is the one whose mean lies further from the median, each being ``1 - `` :data:`TAIL` of the
        tokens. It says nothing of what the neuron answers to, so that nothing is chosen by the score that it enters.
        Clipping a GELU at 0 leaves it.
        """
        tail = self.quantiles.shape[1] - round(TAIL * (self.quantiles.shape[1] - 1))
        median = self.quantile(0.5)
        up = self.quantiles[:, -tail:].mean(1) - median
        down = median - self.quantiles[:, :tail].mean(1)
        sign = torch.where(down > up, -1.0, 1.0)
        return sign, self.above(sign, q)

    def above(self, sign: Float[Tensor, "width"], q: float) -> Float[Tensor, "width"]:
        """The threshold above which ``sign * a`` is in its top ``1 - q``.

        "Above" is strict, so that ties are off: a neuron that is at one value on more than ``q`` of the tokens, as the
        zeros of ReLU and top-k are, is on where it is above that. A neuron whose largest value is that common is on
        there: it has no smaller set.
        """
        signed = torch.where(sign[:, None] > 0, self.quantiles, -self.quantiles.flip(1))
        top = signed[:, -1]
        at = signed[:, round(q * (signed.shape[1] - 1))]
        below = (signed < top[:, None]).sum(1)
        next_to_top = signed.gather(1, (below - 1).clamp_min(0)[:, None])[:, 0]
        return torch.where((at == top) & (below > 0), next_to_top, at)

    @property
    def rectified(self) -> bool:
        """Whether the site makes exact zeros, as ReLU and top-k do; dead neurons do not count."""
        alive: Bool[Tensor, "width"] = self.zeros < 1
        return bool(alive.any()) and bool(self.zeros[alive].mean() > RECTIFIED)


QUANTILES = 2001
