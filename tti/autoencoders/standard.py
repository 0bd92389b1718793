"""The standard sparse autoencoder: ReLU, and an L1 penalty on what each latent writes."""

from typing import Any

from jaxtyping import Float
from torch import Tensor

from tti.autoencoders.base import SparseAutoencoder, over


class Standard(SparseAutoencoder):
    """ReLU latents with sparsity ``mean_t sum_j latent[t, j] * |W_dec[j]|`` over the activation's standard deviation.

    The decoder-weighted L1 of Anthropic's April 2024 update; since rows have norm 1 here, it is the plain sum. Like the
    error, it is made independent of the activation's scale, by dividing by ``sqrt(mean_t |x_t - mean|^2)``: about 1 if
    one latent per token does everything, ``sqrt(k)`` for ``k`` equal and orthogonal ones.

    Dead latents are counted but not revived. Resampling them (Bricken et al. 2023) rewrites parameters and optimizer
    state in the middle of training, which makes the objective of a jointly trained model jump; ghost gradients were
    abandoned by their authors.
    """

    sparsity_argument = "sparsity_weight"

    def __init__(self, d_in: int, d_sae: int, seed: int, dead_after: int, sparsity_weight: float) -> None:
        super().__init__(d_in, d_sae, seed, dead_after, sparsity_weight)
        self.W_enc.data *= 2 * d_in / d_sae  # half of all latents are active at first: together they reconstruct x

    def activate(self, pre: Tensor) -> Tensor:
        return pre.relu()

    def sparsity(self, latents: Tensor, variance: Float[Tensor, ""]) -> Float[Tensor, ""]:
        varies = variance > 0
        return over(latents.sum(-1).mean(), variance.where(varies, 1).sqrt() * varies)

    def sparser(self, factor: float) -> dict[str, Any]:
        return {"sparsity_weight": self.sparsity_weight * factor}

    @property
    def architecture(self) -> dict[str, Any]:
        return {"architecture": "standard"}
