"""The standard sparse autoencoder: ReLU, and an L1 penalty on what each latent writes."""

from jaxtyping import Float
from torch import Tensor

from tti.autoencoders.base import SparseAutoencoder, over


class Standard(SparseAutoencoder):
    """ReLU latents; sparsity is ``mean_t sum_j latent[t, j] * |W_dec[j]|`` over the activation's standard deviation.

    The decoder-weighted L1 of Anthropic's April 2024 update; rows have norm 1 here, so that it is the plain sum. It is
    divided by ``sqrt(mean_t |x_t - mean|^2)``, which makes it, as the error is, the same for an activation of any
    scale: about 1 if one latent a token does all, ``sqrt(k)`` for ``k`` equal and orthogonal ones.

    Dead latents are left dead, and counted: resampling them (Bricken et al. 2023) rewrites parameters and the
    optimiser's state in the middle of training, with a jump in what a model trained with it is asked for; ghost
    gradients were given up by those who proposed them.
    """

    def __init__(self, d_in: int, d_sae: int, seed: int, dead_after: int, sparsity_weight: float) -> None:
        super().__init__(d_in, d_sae, seed, dead_after, sparsity_weight)
        self.W_enc.data *= 2 * d_in / d_sae  # half of all latents are on at first: together they reconstruct x

    def activate(self, pre: Tensor) -> Tensor:
        return pre.relu()

    def sparsity(self, latents: Tensor, variance: Float[Tensor, ""]) -> Float[Tensor, ""]:
        varies = variance > 0
        return over(latents.sum(-1).mean(), variance.where(varies, 1).sqrt() * varies)
