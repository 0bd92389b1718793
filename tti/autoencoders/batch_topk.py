"""The batch-top-k sparse autoencoder: a batch keeps its k * tokens largest latents, across tokens."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from tti.autoencoders.auxk import KLargest


class BatchTopK(KLargest):
    """Keeps the ``k * N`` largest latents of ``N`` tokens (Bussmann, Leask & Nanda 2024): mean L0 is at most ``k``.

    In evaluation a token's latents must not depend on other tokens: latents above ``threshold`` are kept. The threshold
    is the running mean of the smallest latent kept in training, in units of ``scale``, over few batches so that it does
    not lag. Report the L0 of evaluation, which need not be ``k``.
    """

    threshold: Tensor

    def __init__(self, d_in: int, d_sae: int, seed: int, dead_after: int, k: int) -> None:
        super().__init__(d_in, d_sae, seed, dead_after, k)
        self.register_buffer("threshold", torch.zeros(()))

    def folded(self) -> dict[str, Tensor]:
        """The weights common to all kinds, and ``threshold [d_sae]``: in evaluation it is SAELens' ``jumprelu``."""
        return super().folded() | {"threshold": (self.threshold * self.scale).expand(self.d_sae)}

    @torch.no_grad()
    def load_folded(self, weights: Mapping[str, Tensor]) -> None:
        super().load_folded(weights)
        self.threshold.copy_(weights["threshold"][0])

    @property
    def architecture(self) -> dict[str, Any]:
        return {"architecture": "jumprelu"}

    def activate(self, pre: Tensor) -> Tensor:
        latents = pre.relu()
        if not self.training:
            return latents * (latents > self.threshold * self.scale)
        values, kept = latents.flatten().topk(self.k * len(latents), sorted=False)
        return torch.zeros_like(latents).flatten().scatter(0, kept, values).view_as(latents)

    def _observe(self, latents: Tensor) -> None:
        super()._observe(latents)
        smallest = latents.masked_fill(latents == 0, torch.inf).min().float() / self.scale
        smallest = smallest.where(smallest.isfinite(), self.threshold)  # no information if nothing fired
        self.threshold = torch.lerp(self.threshold, smallest, self.pace)
