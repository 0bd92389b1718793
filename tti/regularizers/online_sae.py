"""Online sparse autoencoders: a jointly trained sparse autoencoder should explain the activations."""

import random
from collections.abc import Callable, Iterable, Mapping
from typing import cast

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.autograd import Function
from torch.autograd.function import FunctionCtx, once_differentiable

from tti.autoencoders.base import Loss, SparseAutoencoder
from tti.configuration import digest
from tti.models.network import Site
from tti.regularizers.base import Regularizer
from tti.step import Step


class OnlineSAE(Regularizer):
    """``error + sparsity_weight * sparsity`` of a sparse autoencoder at each site, averaged over the sites.

    The error is divided by the variance over the batch's tokens: 0 if perfect, 1 for their mean. The objective is ``CE
    + lambda * (error + sparsity_weight * sparsity)``, and the network receives its gradient. The autoencoders receive
    the gradient of their own loss, unscaled by lambda, so they learn while lambda is 0 or small, and when no gradient
    flows into the network. One backward pass suffices: the gradient is multiplied by lambda at the edge from the SAE
    loss to the activation (:class:`_Scaled`). Lambda is known before the step under every weighting, so nothing is
    computed twice, and accumulation and gradient scaling work as for any other term.

    Each step logs, as means over the sites, ``variance_explained`` (1 - error), ``l0`` and ``dead`` (fraction).

    How it can be gamed: by activations that are easy to encode but mean nothing, by a model that pleases only its own
    autoencoders (train post-hoc ones on it), and by low-rank activations. Changing scale does not help.

    Args:
        sites, weight, warmup: see :class:`Regularizer`.
        autoencoder: makes an autoencoder from ``d_in``, ``d_sae`` and ``seed`` (a class of ``tti.autoencoders``).
        expansion: number of latents divided by the width of the site.
        gradient_into_model: whether the network receives a gradient. If not, its weights stay those of the baseline.
        learning_rate: learning rate of the autoencoders, which are clipped separately.
        every: the autoencoders train in one of ``every`` steps on average, drawn at random. Above 1, several processes
            need ``trainer.strategy=ddp_find_unused_parameters_true``.
        seed: seed of their initialization, combined with the site's name.

    Raises:
        ValueError: ``expansion`` or ``every`` is out of range.
    """

    def __init__(
        self,
        sites: str | Iterable[str],
        weight: float,
        warmup: float,
        autoencoder: Callable[..., SparseAutoencoder],
        expansion: float,
        gradient_into_model: bool,
        learning_rate: float,
        every: int,
        seed: int,
    ) -> None:
        super().__init__(sites, weight, warmup)
        if expansion <= 0 or every < 1:
            raise ValueError(f"expansion={expansion} must be above 0, and every={every} at least 1")
        self.make = autoencoder
        self.expansion = expansion
        self.gradient_into_model = gradient_into_model
        self.optimizer_settings = {"lr": learning_rate, "weight_decay": 0.0}
        self.every = every
        self.seed = seed
        self.learning = True
        self.autoencoders = nn.ModuleDict()

    def attach(self, sites: Mapping[str, Site]) -> None:
        """Choose the sites, and create an autoencoder for each.

        Raises:
            ValueError: a glob matches no site, or the autoencoder rejects its arguments (such as ``k`` above
                ``d_sae``).
        """
        super().attach(sites)
        made = {}
        for site in self.sites:
            seed, width = int(digest(f"{self.seed}/{site}"), 16), sites[site].width
            made[_key(site)] = self.make(d_in=width, d_sae=round(self.expansion * width), seed=seed)
        self.autoencoders = nn.ModuleDict(made)

    def at(self, site: str) -> SparseAutoencoder:
        """The autoencoder of a site."""
        return cast(SparseAutoencoder, self.autoencoders[_key(site)])

    def draw(self, generator: torch.Generator) -> None:
        """Draw whether the autoencoders train in this step."""
        self.learning = random.Random(generator.initial_seed()).random() < 1 / self.every

    def forward(self, step: Step) -> Float[Tensor, ""]:
        self.autoencoders.requires_grad_(True)
        return self._mean(self._losses(step, 1.0))

    def weighted(self, step: Step, coefficient: float | Tensor) -> tuple[Float[Tensor, ""], Float[Tensor, ""]]:
        """The penalty, and a term of value ``coefficient * penalty`` with the gradient described in the class."""
        self.autoencoders.requires_grad_(self.learning)
        losses = self._losses(step, coefficient / len(self.sites))
        own = torch.stack([loss.total for loss in losses]).sum()
        penalty = self._mean(losses).detach()
        self._log(losses, step)
        return penalty, coefficient * penalty + (own - own.detach())

    def _losses(self, step: Step, factor: float | Tensor) -> list[Loss]:
        """Each site's loss, whose gradient is scaled on its way into the network."""
        losses = []
        for site in self.sites:
            acts = step.activations[site].flatten(1)
            x = _Scaled.apply(acts, factor) if self.gradient_into_model else acts.detach()
            losses.append(self.at(site).loss(x))
        return losses

    def _mean(self, losses: list[Loss]) -> Float[Tensor, ""]:
        return torch.stack([loss.penalty for loss in losses]).mean()

    def _log(self, losses: list[Loss], step: Step) -> None:
        for site, loss in zip(self.sites, losses, strict=True):
            step.note("variance_explained", (1 - loss.error) / len(losses))
            step.note("l0", loss.l0 / len(losses))
            step.note("dead", self.at(site).dead.float().mean() / len(losses))


class _Scaled(Function):
    """The identity, with the gradient multiplied by a factor."""

    @staticmethod
    def forward(ctx: FunctionCtx, acts: Tensor, factor: float | Tensor) -> Tensor:
        ctx.factor = factor  # type: ignore[attr-defined]
        return acts.view_as(acts)

    @staticmethod
    @once_differentiable
    def backward(ctx: FunctionCtx, grad: Tensor) -> tuple[Tensor, None]:
        return (grad * ctx.factor).to(grad.dtype), None  # type: ignore[attr-defined]


def _key(site: str) -> str:
    """A site's name as a module name, which must not contain dots."""
    return site.replace(".", "/")
