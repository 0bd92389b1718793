"""AuxK: dead latents learn to reconstruct what the live ones leave over."""

from abc import ABC

import torch
from jaxtyping import Float
from torch import Tensor

from tti.autoencoders.base import SparseAutoencoder, over
from tti.measures import squared_error, total_variance

AUXK_WEIGHT = 1 / 32  # of Gao et al. 2024


class KLargest(SparseAutoencoder, ABC):
    """Keeps the ``k`` largest latents a token, in one way or another, and revives dead ones by AuxK.

    AuxK (Gao et al. 2024, appendix A.2): the residual is reconstructed from dead latents alone, with an error over the
    residual's variance, times 1/32 and, as in SAELens, times ``min(1, dead / k_aux)`` with ``k_aux = d_in / 2``. They
    take the ``k_aux`` dead latents that are largest on each token; here it is those that are largest on average over
    the tokens at hand, the same wherever no more than ``k_aux`` are dead: ``k_aux`` columns, not a second top-k.

    Args:
        k: latents kept a token.

    Raises:
        ValueError: ``k`` is not between 1 and ``d_sae``.
    """

    def __init__(self, d_in: int, d_sae: int, seed: int, dead_after: int, k: int) -> None:
        super().__init__(d_in, d_sae, seed, dead_after)
        if not 1 <= k <= d_sae:
            raise ValueError(f"k={k} latents a token: from 1 to {d_sae}, all there are")
        self.k = k
        self.k_aux = min(d_sae, max(1, d_in // 2))

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
