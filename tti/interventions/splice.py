"""An autoencoder spliced into a network, which continues with the reconstruction."""

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from tti.autoencoders.base import SparseAutoencoder
from tti.interventions.replace import Replacement


class Splice(Replacement):
    """A tap that replaces activations at ``site`` by an autoencoder's reconstruction and keeps its statistics."""

    def __init__(self, site: str, autoencoder: SparseAutoencoder) -> None:
        super().__init__(site, self._reconstruction)
        self.autoencoder = autoencoder
        device = autoencoder.W_dec.device
        self.tokens = 0
        self.active = torch.zeros((), dtype=torch.int64, device=device)
        self.squared_error = torch.zeros((), dtype=torch.float64, device=device)
        self.fired: Bool[Tensor, "latent"] = torch.zeros(len(autoencoder.W_dec), dtype=torch.bool, device=device)

    def _reconstruction(self, acts: Float[Tensor, "token width"]) -> Float[Tensor, "token width"]:
        latents = self.autoencoder.encode(acts)
        reconstruction = self.autoencoder.decode(latents)
        on = latents != 0
        self.tokens += len(acts)
        self.active += on.sum()
        self.fired |= on.any(0)
        self.squared_error += (reconstruction - acts).square().sum(dtype=torch.float64)
        return reconstruction
