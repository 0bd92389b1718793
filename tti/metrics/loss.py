"""Cross-entropy, perplexity and bits per byte over every token in the loss."""

import math

import torch
from torch import Tensor
from torchmetrics import Metric

from tti.step import Step


class Loss(Metric):
    """Token-weighted loss over a whole split: sums in float64 and counts in int64, not a mean of batch means.

    ``loss`` is in nats per token, the end-of-text token included; ``bits_per_byte`` divides all nats by the bytes of
    the targets' text (where an end-of-text token has none).
    """

    full_state_update = False
    nll: Tensor
    tokens: Tensor
    bytes: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.add_state("nll", torch.zeros((), dtype=torch.float64), dist_reduce_fx="sum")
        self.add_state("tokens", torch.zeros((), dtype=torch.int64), dist_reduce_fx="sum")
        self.add_state("bytes", torch.zeros((), dtype=torch.int64), dist_reduce_fx="sum")

    def update(self, step: Step) -> None:
        """Add the tokens of one step."""
        self.nll += step.nll.sum(dtype=torch.float64)
        self.tokens += len(step.batch)
        self.bytes += step.batch.target_bytes

    def compute(self) -> dict[str, Tensor]:
        """``loss``, ``perplexity``, ``bits_per_byte`` and the number of ``tokens``."""
        loss = self.nll / self.tokens
        bits = self.nll / (math.log(2) * self.bytes)
        return {"loss": loss, "perplexity": loss.exp(), "bits_per_byte": bits, "tokens": self.tokens}
