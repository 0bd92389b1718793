"""Total correlation: the latents of a code should be independent."""

from collections.abc import Iterable, Mapping
from itertools import pairwise

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.functional import softplus

from tti.models.network import Site
from tti.regularizers.base import Regularizer
from tti.step import Step

LEAK = 0.2  # of the discriminator's leaky ReLUs (Kim & Mnih 2018, appendix A)


class TotalCorrelation(Regularizer):
    """``mean log D(z) / (1 - D(z))`` in nats per token: the latents' total correlation as a discriminator sees it.

    The discriminator tells codes from permuted ones, in which every latent is that of another sentence of the batch.
    At its optimum the log ratio is that of the densities, whose mean is ``KL(q(z) || prod q(z_i))`` (FactorVAE: Kim &
    Mnih 2018, "Disentangling by factorising", eq. 3 and algorithm 1, with the weight as gamma; they permute a second
    batch, here it is the same one). Sentences' nats are divided by the tokens in the loss per sentence, as in ``kl``.

    The discriminator is trained on its own loss, which the weight does not scale, with its own learning rate and betas,
    and is clipped separately; no gradient of its loss reaches the network. Each step logs ``nats``, the estimate per
    sentence, and ``discriminator``, its loss: ``log 2`` if it cannot tell the two apart.

    How it can be gamed: a discriminator that lags behind sees no correlation. Read it only beside the discriminator's
    loss, and measure what is left on the trained codes.

    Args:
        sites, weight, warmup: see :class:`Regularizer`; the site is the latent that the decoder reads.
        width: hidden units of each of the discriminator's layers.
        layers: its hidden layers.
        learning_rate: its learning rate.
        seed: seed of its initial weights.
    """

    def __init__(
        self,
        sites: str | Iterable[str],
        weight: float,
        warmup: float,
        width: int,
        layers: int,
        learning_rate: float,
        seed: int,
    ) -> None:
        super().__init__(sites, weight, warmup)
        self.width, self.layers, self.seed = width, layers, seed
        self.optimizer_settings = {"lr": learning_rate, "betas": (0.5, 0.9), "weight_decay": 0.0}
        self.discriminator = nn.Sequential()
        self.order = 0

    def attach(self, sites: Mapping[str, Site]) -> None:
        """Choose the site, and create the discriminator.

        Raises:
            ValueError: a glob matches no site, or several sites are chosen.
        """
        super().attach(sites)
        if len(self.sites) > 1:
            raise ValueError(f"total_correlation acts on one site, not on {', '.join(self.sites)}")
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.seed)
            self.discriminator = _discriminator(sites[self.sites[0]].width, self.width, self.layers)

    def draw(self, generator: torch.Generator) -> None:
        """Draw the seed of the step's permutations."""
        self.order = generator.initial_seed()

    def forward(self, step: Step) -> Float[Tensor, ""]:
        frozen = {name: value.detach() for name, value in self.discriminator.named_parameters()}
        codes = step.activations[self.sites[0]].float()
        ratio = functional_call(self.discriminator, frozen, (codes,)).mean()
        step.note("nats", ratio)
        return ratio * len(codes) / len(step.batch)

    def weighted(self, step: Step, coefficient: float | Tensor) -> tuple[Float[Tensor, ""], Float[Tensor, ""]]:
        """The penalty, and a term of value ``coefficient * penalty`` that also trains the discriminator."""
        penalty = self(step)
        codes = step.activations[self.sites[0]].detach().float()
        own = (softplus(-self.discriminator(codes)) + softplus(self.discriminator(self.permuted(codes)))).mean() / 2
        step.note("discriminator", own)
        return penalty, coefficient * penalty + (own - own.detach())

    def permuted(self, codes: Float[Tensor, "story latent"]) -> Float[Tensor, "story latent"]:
        """The codes with the sentences permuted, for every latent apart."""
        generator = torch.Generator(codes.device).manual_seed(self.order)
        order = torch.rand(codes.shape, generator=generator, device=codes.device).argsort(0)
        return codes.gather(0, order)


def _discriminator(latents: int, width: int, layers: int) -> nn.Sequential:
    """A multilayer perceptron from a code to its log density ratio."""
    widths = [latents, *[width] * layers]
    hidden = [[nn.Linear(*pair), nn.LeakyReLU(LEAK)] for pair in pairwise(widths)]
    return nn.Sequential(*(each for pair in hidden for each in pair), nn.Linear(width, 1), nn.Flatten(0))
