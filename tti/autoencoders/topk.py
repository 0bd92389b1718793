"""The top-k sparse autoencoder: each token keeps its k largest latents."""

from typing import Any

import torch
from torch import Tensor

from tti.autoencoders.auxk import KLargest


class TopK(KLargest):
    """Each token's ``k`` largest latents, negative ones as 0 (Gao et al. 2024, section 2.3): L0 is at most ``k``."""

    def activate(self, pre: Tensor) -> Tensor:
        values, kept = pre.topk(self.k, dim=-1, sorted=False)
        return torch.zeros_like(pre).scatter(-1, kept, values.relu())

    @property
    def architecture(self) -> dict[str, Any]:
        return {"architecture": "topk", "k": self.k, "rescale_acts_by_decoder_norm": False}
