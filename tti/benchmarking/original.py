"""The seed project's loop: a rectangle of padded stories, everything materialized, one synchronization per step."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from tti.benchmarking.loop import Reference
from tti.benchmarking.sample import Sample
from tti.benchmarking.setting import Setting
from tti.benchmarking.transformer import Transformer


class Original(Reference):
    """Padded stories, full attention matrices and logits, unfused AdamW, and ``.item()`` every step.

    Stories are padded to the longest of the batch. Padding follows a story, so that the causal mask hides it from the
    story. Its positions are computed like all others,
    but do not enter the loss.

    Args:
        setting: the training.
        overrides: of the training, such as the seed project's dropout, which does not follow the other loops'.
    """

    def __init__(self, setting: Setting, overrides: Sequence[str] = ()) -> None:
        setting = setting.having(*overrides)
        model = setting.config.model
        super().__init__(setting, Transformer(model, materialised, model.vocab_size), fused=False)

    def loss(self, sample: Sample) -> Tensor:
        return self.net(sample.padded_tokens, sample.padded_targets)

    def step(self, sample: Sample) -> None:
        self.latest = self.take(sample).item()

    def tokens(self, sample: Sample) -> int:
        return len(sample.batch)


def materialised(q: Tensor, k: Tensor, v: Tensor, dropout: float) -> Tensor:
    """Causal attention with the full matrix of weights, ``[row, head, position, position]``."""
    scores = q @ k.transpose(-2, -1) / math.sqrt(q.shape[-1])
    visible = torch.ones(scores.shape[-2:], dtype=torch.bool, device=q.device).tril()
    weights = scores.masked_fill(~visible, float("-inf")).softmax(-1)
    return F.dropout(weights, dropout) @ v
