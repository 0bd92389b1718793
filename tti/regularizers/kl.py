"""KL: the code of a sentence should cost few nats."""

from collections.abc import Iterable, Mapping

from jaxtyping import Float
from torch import Tensor

from tti.measures import normal_divergence
from tti.models.autoencoder import LOG_VARIANCE, MEAN
from tti.models.network import Site
from tti.regularizers.base import Regularizer
from tti.step import Step

LEAST = 0.01  # nats of a latent in use


class KL(Regularizer):
    """``|sum_i max(KL_i, free) - target|`` in nats per token, with ``KL_i`` of latent i, averaged over sentences.

    ``KL_i`` is the divergence of a latent's normal distribution given the sentence from N(0, 1)
    (:func:`tti.measures.normal_divergence`). Sentences' nats are divided by the tokens in the loss per sentence, as the
    cross-entropy is: with weight 1 the objective is the ELBO per token, and the weight is the beta of the beta-VAE
    (Higgins et al. 2017, eq. 4).

    * ``target`` is the KL per sentence that the weight enforces from both sides (Burgess et al. 2018, "Understanding
      disentangling in beta-VAE", eq. 8, with the weight as gamma); 0 is the plain KL.
    * ``free`` is the part of each latent's KL that costs nothing (Kingma et al. 2016, "Improved variational inference
      with inverse autoregressive flow", eq. 15, a latent being a group): against the collapse in which the decoder
      ignores the latent.

    Each step logs ``nats``, the KL per sentence, and ``used``, the number of latents with more than 0.01 nats.

    How it can be gamed: by the collapse itself. A KL of 0 is a code that says nothing.

    Args:
        sites, weight, warmup: see :class:`Regularizer`; the sites are the mean and the log variance of the latent.
        target: nats per sentence.
        free: nats per latent.
    """

    def __init__(self, sites: str | Iterable[str], weight: float, warmup: float, target: float, free: float) -> None:
        super().__init__(sites, weight, warmup)
        self.target, self.free = target, free

    def attach(self, sites: Mapping[str, Site]) -> None:
        super().attach(sites)
        if set(self.sites) != {MEAN, LOG_VARIANCE}:
            raise ValueError(f"kl acts on {MEAN} and {LOG_VARIANCE}, and on no other site")

    def forward(self, step: Step) -> Float[Tensor, ""]:
        kl = normal_divergence(step.activations[MEAN], step.activations[LOG_VARIANCE])
        each = kl.mean(0)
        step.note("nats", each.sum())
        step.note("used", (each > LEAST).sum().float())
        return (each.clamp_min(self.free).sum() - self.target).abs() * len(kl) / len(step.batch)
