"""Statistics of a site's neurons on a sample of stories, taken before the pass: ranges, quantiles, scale.

A pass that sees every token once cannot know a quantile in advance. Thresholds and bins therefore come from randomly
drawn whole stories, the same for every run on the same data, and are then applied to all tokens.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

TAIL = 0.95  # the tails that are compared lie beyond this quantile and beyond 1 minus it
RECTIFIED = 0.01  # a larger share of exact zeros means that the non-linearity produces them


@dataclass(frozen=True)
class Calibration:
    """Calibration of one site.

    Attributes:
        quantiles: :data:`QUANTILES` evenly spaced order statistics of each neuron's activations, or all if there are
            fewer.
        mean: mean of each neuron.
        rms: root mean square of each neuron.
        zeros: fraction of exact zeros of each neuron.
    """

    quantiles: Float[Tensor, "width quantile"]
    mean: Float[Tensor, "width"]
    rms: Float[Tensor, "width"]
    zeros: Float[Tensor, "width"]

    @classmethod
    def of(cls, acts: Float[Tensor, "token width"]) -> "Calibration":
        """Compute it from the activations of a sample."""
        ordered = acts.float().T.sort(-1).values
        kept = torch.linspace(0, len(acts) - 1, min(QUANTILES, len(acts)), device=acts.device).round().long()
        zeros = (ordered == 0).float().mean(-1)
        return cls(ordered[:, kept].clone(), ordered.mean(-1), ordered.square().mean(-1).sqrt(), zeros)

    def quantile(self, q: float) -> Float[Tensor, "width"]:
        """The ``q`` quantile of each neuron, from 0 (minimum) to 1 (maximum)."""
        return self.quantiles[:, round(q * (self.quantiles.shape[1] - 1))]

    def beyond(self, q: float) -> tuple[Float[Tensor, "width"], Float[Tensor, "width"]]:
        """The sign of each neuron's longer tail, and the threshold above which ``sign * a`` is in its top ``1 - q``.

        The longer tail is the one whose mean is further from the median, where each tail holds ``1 -`` :data:`TAIL` of
        the tokens. It does not depend on what the neuron responds to, so it is not chosen by the score that uses it.
        Clipping a GELU at 0 does not change it.
        """
        tail = self.quantiles.shape[1] - round(TAIL * (self.quantiles.shape[1] - 1))
        median = self.quantile(0.5)
        up = self.quantiles[:, -tail:].mean(1) - median
        down = median - self.quantiles[:, :tail].mean(1)
        sign = torch.where(down > up, -1.0, 1.0)
        return sign, self.above(sign, q)

    def above(self, sign: Float[Tensor, "width"], q: float) -> Float[Tensor, "width"]:
        """The threshold above which ``sign * a`` is in its top ``1 - q``.

        "Above" is strict, so ties are off: a neuron with one value on more than ``q`` of the tokens, such as the zeros
        of ReLU and top-k, is on above that value. If its largest value is that common, it is on at that value, since
        there is no smaller set.
        """
        signed = torch.where(sign[:, None] > 0, self.quantiles, -self.quantiles.flip(1))
        top = signed[:, -1]
        at = signed[:, round(q * (signed.shape[1] - 1))]
        below = (signed < top[:, None]).sum(1)
        next_to_top = signed.gather(1, (below - 1).clamp_min(0)[:, None])[:, 0]
        return torch.where((at == top) & (below > 0), next_to_top, at)

    @property
    def rectified(self) -> bool:
        """Whether the site has exact zeros, as after ReLU and top-k; dead neurons do not count."""
        alive: Bool[Tensor, "width"] = self.zeros < 1
        return bool(alive.any()) and bool(self.zeros[alive].mean() > RECTIFIED)


QUANTILES = 2001
