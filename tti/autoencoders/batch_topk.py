"""The batch-top-k sparse autoencoder: a batch keeps its k * tokens largest latents, wherever they are."""

import torch
from torch import Tensor

from tti.autoencoders.auxk import KLargest


class BatchTopK(KLargest):
    """The ``k * N`` largest latents of ``N`` tokens (Bussmann, Leask & Nanda 2024): L0 is at most ``k`` on average.

    In evaluation a token's latents must not depend on its neighbours: those above ``threshold`` are kept, the running
    mean of the smallest latent that training kept, in units of ``scale``. It reaches back few batches, so as not to lag
    behind. Report the L0 of evaluation, which need not be ``k``.
    """

    threshold: Tensor

    def __init__(self, d_in: int, d_sae: int, seed: int, dead_after: int, k: int) -> None:
        super().__init__(d_in, d_sae, seed, dead_after, k)
        self.register_buffer("threshold", torch.zeros(()))

    def folded(self) -> dict[str, Tensor]:
        """As the others', with ``threshold [d_sae]``: in evaluation it is SAELens' ``jumprelu``."""
        return super().folded() | {"threshold": (self.threshold * self.scale).expand(self.d_sae)}

    def activate(self, pre: Tensor) -> Tensor:
        latents = pre.relu()
        if not self.training:
            return latents * (latents > self.threshold * self.scale)
        values, kept = latents.flatten().topk(self.k * len(latents), sorted=False)
        return torch.zeros_like(latents).flatten().scatter(0, kept, values).view_as(latents)

    def _observe(self, latents: Tensor) -> None:
        super()._observe(latents)
        smallest = latents.masked_fill(latents == 0, torch.inf).min().float() / self.scale
        smallest = smallest.where(smallest.isfinite(), self.threshold)  # nothing fired: nothing is known of it
        self.threshold = torch.lerp(self.threshold, smallest, self.pace)
