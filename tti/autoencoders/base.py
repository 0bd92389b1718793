"""The contract of a sparse autoencoder, and the code common to all kinds. Names and conventions follow SAELens."""

import inspect
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Self

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from tti.measures import squared_error, total_variance, widened

HORIZON = 20  # batches that running means reach back; joint training shifts a mean by several standard deviations


@dataclass(frozen=True)
class Loss:
    """Terms of an autoencoder's loss, each a scalar, and its latents.

    Attributes:
        error: reconstruction error divided by the tokens' variance: 0 if perfect, 1 for the mean of the tokens.
        sparsity: the unweighted sparsity term; 0 if the activation function itself enforces sparsity.
        auxiliary: the weighted term that revives latents; its gradient reaches the autoencoder only, never ``x``.
        penalty: ``error + sparsity_weight * sparsity``, which may also be an objective of the model.
        latents: latents of every token.
    """

    error: Float[Tensor, ""]
    sparsity: Float[Tensor, ""]
    auxiliary: Float[Tensor, ""]
    penalty: Float[Tensor, ""]
    latents: Float[Tensor, "token d_sae"]

    @property
    def total(self) -> Float[Tensor, ""]:
        """The loss of the autoencoder's own parameters."""
        return self.penalty + self.auxiliary

    @property
    def l0(self) -> Float[Tensor, ""]:
        """Number of active latents, mean over tokens."""
        return (self.latents > 0).sum() / len(self.latents)


class SparseAutoencoder(nn.Module, ABC):
    """``x' = latents @ W_dec + b_dec`` with sparse ``latents = activate((x - b_dec) @ W_enc + b_enc)``.

    As in SAELens with ``apply_b_dec_to_input=True``: ``W_enc [d_in, d_sae]``, ``W_dec [d_sae, d_in]``. :meth:`folded`
    gives the four effective weights, in a form that SAELens accepts. They differ from the parameters in two ways:

    * Decoder rows have norm 1 by construction: they are parameters divided by their norm (weight normalization,
      Salimans & Kingma 2016). The gradient along a row is 0, so a latent cannot shrink while its row grows, and no
      projection is needed after each optimizer step. The size of a latent is the size of what it writes.
    * Biases are in units of the activation's running mean and standard deviation (``location``, ``scale``), so that one
      learning rate suits every site, and a jointly trained model whose activations grow. As ``activate`` commutes with
      positive factors, ``x`` needs no other normalization.

    Encoder rows are initialized as the decoder's (Gao et al. 2024, "Scaling and evaluating sparse autoencoders",
    section 2.4).

    Args:
        d_in: width of the activation.
        d_sae: number of latents.
        seed: seed of the initialization, which uses its own generator.
        dead_after: number of tokens without firing after which a latent counts as dead.
        sparsity_weight: weight of the sparsity term relative to the reconstruction error.

    Raises:
        ValueError: ``d_sae``, ``dead_after`` or ``sparsity_weight`` is out of range.
    """

    sparsity_argument: ClassVar[str]  # name of the constructor's argument that sets the sparsity
    location: Tensor
    scale: Tensor
    batches: Tensor
    idle: Tensor

    def __init__(self, d_in: int, d_sae: int, seed: int, dead_after: int, sparsity_weight: float = 0.0) -> None:
        super().__init__()
        if min(d_sae, dead_after) < 1 or sparsity_weight < 0:
            raise ValueError(
                f"an autoencoder needs at least one latent (d_sae={d_sae}), dead_after={dead_after} of at least one "
                f"token and sparsity_weight={sparsity_weight} of at least 0"
            )
        self.d_in, self.d_sae, self.seed = d_in, d_sae, seed
        self.dead_after, self.sparsity_weight = dead_after, sparsity_weight
        directions = torch.randn(d_sae, d_in, generator=torch.Generator().manual_seed(seed), device="cpu")
        directions = nn.functional.normalize(directions, dim=1)
        self.W_enc = nn.Parameter(directions.T.clone())
        self.W_dec = nn.Parameter(directions)  # normalized by folded()
        self.b_enc = nn.Parameter(torch.zeros(d_sae))  # in units of scale, like b_dec
        self.b_dec = nn.Parameter(torch.zeros(d_in))
        self.register_buffer("location", torch.zeros(d_in))
        self.register_buffer("scale", torch.ones(()))
        self.register_buffer("batches", torch.zeros(()))
        self.register_buffer("idle", torch.zeros(d_sae, dtype=torch.int64))  # tokens since each latent last fired

    def folded(self) -> dict[str, Tensor]:
        """Effective weights on activations: ``W_enc``, ``b_enc``, ``W_dec`` (rows of norm 1) and ``b_dec``."""
        return {
            "W_enc": self.W_enc,
            "b_enc": self.b_enc * self.scale,
            "W_dec": nn.functional.normalize(self.W_dec, dim=1),
            "b_dec": self.location + self.b_dec * self.scale,
        }

    @torch.no_grad()
    def load_folded(self, weights: Mapping[str, Tensor]) -> None:
        """Set the effective weights, in the form that :meth:`folded` returns."""
        for name in ("W_enc", "b_enc", "W_dec", "b_dec"):
            getattr(self, name).copy_(weights[name])
        self.location.zero_()
        self.scale.fill_(1)

    @property
    def arguments(self) -> dict[str, Any]:
        """The constructor's arguments, by name."""
        return {name: getattr(self, name) for name in inspect.signature(type(self)).parameters}

    def again(self, **changes: Any) -> Self:
        """A new, untrained autoencoder of the same kind and arguments, except for ``changes``."""
        return type(self)(**self.arguments | changes)

    @abstractmethod
    def sparser(self, factor: float) -> dict[str, Any]:
        """The changed argument of an autoencoder whose L0 is smaller, by about ``factor``; below 1, larger."""

    @property
    @abstractmethod
    def architecture(self) -> dict[str, Any]:
        """SAELens' ``architecture`` for the :meth:`folded` weights in evaluation, and the settings it needs."""

    def encode(self, x: Float[Tensor, "token d_in"]) -> Float[Tensor, "token d_sae"]:
        """Latents, all at least 0."""
        return self.activate(_before(x, self.folded()))

    def decode(self, latents: Float[Tensor, "token d_sae"]) -> Float[Tensor, "token d_in"]:
        """The activation that latents represent."""
        return _decoded(latents, self.folded())

    def forward(self, x: Float[Tensor, "token d_in"]) -> Float[Tensor, "token d_in"]:
        """The reconstruction of ``x``."""
        weights = self.folded()
        return _decoded(self.activate(_before(x, weights)), weights)

    def loss(self, x: Float[Tensor, "token d_in"]) -> Loss:
        """The loss on these tokens, differentiable with respect to the parameters and ``x``.

        In training mode it also updates the statistics: the activation's mean and scale, and which latents fired.
        """
        if self.training:
            self._follow(x.detach())
        weights = self.folded()
        latents = self.activate(_before(x, weights))
        if self.training:
            self._observe(latents.detach())
        reconstruction = _decoded(latents, weights)
        variance = total_variance(x)
        error = over(squared_error(x, reconstruction), variance)
        sparsity = self.sparsity(latents, variance)
        auxiliary = self.auxiliary(x.detach(), reconstruction.detach(), weights)
        return Loss(error, sparsity, auxiliary, error + self.sparsity_weight * sparsity, latents.detach())

    @property
    def dead(self) -> Bool[Tensor, "d_sae"]:
        """Latents that have not fired in the last ``dead_after`` tokens of training."""
        return self.idle >= self.dead_after

    @abstractmethod
    def activate(self, pre: Float[Tensor, "token d_sae"]) -> Float[Tensor, "token d_sae"]:
        """Latents from pre-activations; must satisfy ``activate(c * pre) = c * activate(pre)`` for positive ``c``."""

    def sparsity(self, latents: Float[Tensor, "token d_sae"], variance: Float[Tensor, ""]) -> Float[Tensor, ""]:
        """The sparsity term; 0 unless a kind overrides it."""
        return latents.new_zeros(())

    def auxiliary(
        self,
        x: Float[Tensor, "token d_in"],
        reconstruction: Float[Tensor, "token d_in"],
        weights: dict[str, Tensor],
    ) -> Float[Tensor, ""]:
        """The term that revives latents, from the folded weights; 0 unless a kind overrides it."""
        return x.new_zeros(())

    def _observe(self, latents: Tensor) -> None:
        """Update the statistics with the latents of one training batch."""
        self.idle = torch.where(latents.amax(0) > 0, 0, self.idle + len(latents))

    @torch.no_grad()
    def _follow(self, x: Tensor) -> None:
        """Update the activation's mean and scale: plain means over the first batches, exponential ones afterwards."""
        self.batches = self.batches + 1
        pace = self.pace
        self.location = torch.lerp(self.location, widened(x).mean(0), pace)
        self.scale = torch.lerp(self.scale, (total_variance(x) / self.d_in).sqrt(), pace)

    @property
    def pace(self) -> Float[Tensor, ""]:
        """Weight of the last batch in a running mean."""
        return (1 / self.batches.clamp_min(1)).clamp_min(1 / HORIZON)


def _before(x: Tensor, weights: dict[str, Tensor]) -> Tensor:
    return (x - weights["b_dec"]) @ weights["W_enc"] + weights["b_enc"]


def _decoded(latents: Tensor, weights: dict[str, Tensor]) -> Tensor:
    return latents @ weights["W_dec"] + weights["b_dec"]


def over(value: Tensor, variance: Tensor) -> Tensor:
    """``value / variance``; 0, with gradient 0, if nothing varies."""
    varies = variance > 0
    return torch.where(varies, value / variance.where(varies, 1), 0)
