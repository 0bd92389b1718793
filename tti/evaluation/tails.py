"""The tokens on which a neuron is on: one definition for every network, whatever its non-linearity."""

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Float, Int
from scipy import sparse
from torch import Tensor

from tti.evaluation.calibration import Calibration

REST = 0.75  # a detector on more of the tokens than this counts as resting there, and never as on
SIGNS = (1, -1)


class Tails:
    """A neuron is on in its top 5 % (or another rate) or, for the negative sign, in its bottom 5 %.

    Thresholds are those of :meth:`Calibration.above`, with its rule for ties. But a detector that would be on for more
    than ``REST`` of the tokens is never on, such as the negative sign of a ReLU that is 0 on most of them.

    Memory: ``width / 4`` bytes per packed token and rate.

    Args:
        calibration: calibration of the site.
        rates: fractions of tokens.
        tokens: tokens of the packed split.
    """

    def __init__(self, calibration: Calibration, rates: Sequence[float], tokens: int) -> None:
        self.width = len(calibration.mean)
        self.thresholds = torch.stack([threshold(calibration, rate, sign) for rate in rates for sign in SIGNS])
        self.signs = torch.tensor(SIGNS, device=self.thresholds.device).repeat(len(rates))
        self.bits = np.zeros((tokens, -(-self.thresholds.numel() // 8)), np.uint8)

    def update(self, acts: Float[Tensor, "token width"], places: Int[np.ndarray, "token"]) -> None:
        """Add some tokens, given their positions in the packed split."""
        on = self.signs[:, None] * acts[:, None] > self.thresholds
        self.bits[places] = np.packbits(on.flatten(1).cpu().numpy(), axis=1)

    def on(self, places: Int[np.ndarray, "token"], rate: int) -> sparse.csr_array:
        """1.0 where a detector is on, ``[token, sign * width]``; positive signs first."""
        columns = len(SIGNS) * self.width
        first = rate * columns
        bits = np.unpackbits(self.bits[places], axis=1, count=first + columns)[:, first:]
        return sparse.csr_array(bits, dtype=np.float64)


def threshold(calibration: Calibration, rate: float, sign: int) -> Float[Tensor, "width"]:
    """The value that ``sign`` times the activation exceeds where the neuron is on."""
    at = calibration.above(torch.full_like(calibration.mean, sign), 1 - rate)
    share = (sign * calibration.quantiles > at[:, None]).double().mean(1)
    return at.masked_fill(share > REST, torch.inf)
