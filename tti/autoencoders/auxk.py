"""AuxK: dead latents learn to reconstruct the residual of the live ones."""

from abc import ABC
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from tti.autoencoders.base import SparseAutoencoder, over
from tti.measures import squared_error, total_variance

AUXK_WEIGHT = 1 / 32  # from Gao et al. 2024


class KLargest(SparseAutoencoder, ABC):
    """Keeps about ``k`` of the largest latents per token, and revives dead latents by AuxK.

    AuxK (Gao et al. 2024, appendix A.2): dead latents alone reconstruct the residual. The error, divided by the
    residual's variance, is weighted by 1/32 and, as in SAELens, by ``min(1, dead / k_aux)`` with ``k_aux = d_in / 2``.
    They use the ``k_aux`` dead latents that are largest on each token. Here the ``k_aux`` that are largest on average
    over the batch are used, which is the same if at most ``k_aux`` are dead, and takes ``k_aux`` columns instead of a
    second top-k.

    Args:
        d_in, d_sae, seed, dead_after: see :class:`SparseAutoencoder`.
        k: latents kept per token.

    Raises:
        ValueError: ``k`` is not between 1 and ``d_sae``.
    """

    sparsity_argument = "k"

    def __init__(self, d_in: int, d_sae: int, seed: int, dead_after: int, k: int) -> None:
        super().__init__(d_in, d_sae, seed, dead_after)
        if not 1 <= k <= d_sae:
            raise ValueError(f"k={k} latents per token: must be from 1 to {d_sae}, all of them")
        self.k = k
        self.k_aux = min(d_sae, max(1, d_in // 2))

    def sparser(self, factor: float) -> dict[str, Any]:
        return {"k": min(self.d_sae, max(1, round(self.k / factor)))}

    def auxiliary(self, x: Tensor, reconstruction: Tensor, weights: dict[str, Tensor]) -> Float[Tensor, ""]:
        residual = x - reconstruction
        dead = self.dead
        with torch.no_grad():
            centre = (x - weights["b_dec"]).mean(0)
            would_fire = (centre @ weights["W_enc"] + weights["b_enc"]).masked_fill(~dead, -torch.inf)
            chosen = would_fire.topk(self.k_aux, sorted=False).indices
        pre = (x - weights["b_dec"].detach()) @ weights["W_enc"][:, chosen] + weights["b_enc"][chosen]
        guess = (pre.relu() * dead[chosen]) @ weights["W_dec"][chosen]
        share = (dead.sum() / self.k_aux).clamp_max(1)
        return AUXK_WEIGHT * share * over(squared_error(residual, guess), total_variance(residual))
