"""On which tokens a neuron is on: one definition for every network, whatever its non-linearity."""

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Float, Int
from scipy import sparse
from torch import Tensor

from tti.evaluation.calibration import Calibration

REST = 0.75  # a neuron that is at or beyond its threshold on more of the tokens rests there: it is on beyond it
SIGNS = (1, -1)


class Tails:
    """A neuron is on where its activation is in its top 5 % (or another rate), and for the negative sign in its bottom.

    The threshold is the quantile of the calibration's sample. Activations equal to it count, unless more than ``REST``
    of the tokens would then be on: a ReLU that is 0 on most tokens is on where it is above 0.

    Memory: ``width / 4`` bytes a packed token for each rate.

    Args:
        calibration: of the site.
        rates: fractions of tokens.
        tokens: of the packed split.
    """

    def __init__(self, calibration: Calibration, rates: Sequence[float], tokens: int) -> None:
        self.width = len(calibration.mean)
        self.thresholds = torch.stack([threshold(calibration, rate, sign) for rate in rates for sign in SIGNS])
        columns = self.thresholds.numel()
        self.bits = np.zeros((tokens, -(-columns // 8)), np.uint8)

    def update(self, acts: Float[Tensor, "token width"], places: Int[np.ndarray, "token"]) -> None:
        """Take in some tokens, by where they stand in the packed split."""
        signs = torch.tensor(SIGNS, device=acts.device).repeat(len(self.thresholds) // len(SIGNS))
        on = signs[:, None] * acts[:, None] >= self.thresholds
        self.bits[places] = np.packbits(on.flatten(1).cpu().numpy(), axis=1)

    def on(self, places: Int[np.ndarray, "token"], rate: int) -> sparse.csr_array:
        """1.0 where a detector is on, ``[token, sign * width]``; the neurons' positive signs first."""
        columns = len(SIGNS) * self.width
        first = rate * columns
        bits = np.unpackbits(self.bits[places], axis=1, count=first + columns)[:, first:]
        return sparse.csr_array(bits, dtype=np.float64)


def threshold(calibration: Calibration, rate: float, sign: int) -> Float[Tensor, "width"]:
    """What ``sign`` times the activation reaches where the neuron is on."""
    at = sign * calibration.quantile(1 - rate if sign > 0 else rate)
    share = (sign * calibration.quantiles >= at[:, None]).double().mean(1)
    return torch.where(share > REST, at.nextafter(torch.full_like(at, torch.inf)), at)
