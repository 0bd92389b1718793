"""Codes: what the latents of an autoencoder cost, and how many of them are active."""

import torch
from torch import Tensor
from torchmetrics import Metric

from tti.measures import normal_divergence
from tti.models.autoencoder import LOG_VARIANCE, MEAN
from tti.step import Step

ACTIVE = 0.01  # variance of a latent's mean over sentences above which it is active (Burda et al. 2016, section 4.2)


class Codes(Metric):
    """``active_units``, the number of latents whose mean has a variance above 0.01 over the sentences of a split, and,
    for latents with noise, ``kl``, their KL in nats per sentence.

    How it can be gamed: latents that vary without being read are active. What a decoder loses with the latents of
    other sentences shows whether it reads them (``disentanglement`` in the evaluation).
    """

    full_state_update = False
    sums: Tensor
    squares: Tensor
    kl: Tensor
    sentences: Tensor

    def __init__(self, latents: int, noise: bool) -> None:
        super().__init__()
        self.noise = noise
        for name in ("sums", "squares"):
            self.add_state(name, torch.zeros(latents, dtype=torch.float64), dist_reduce_fx="sum")
        self.add_state("kl", torch.zeros((), dtype=torch.float64), dist_reduce_fx="sum")
        self.add_state("sentences", torch.zeros((), dtype=torch.int64), dist_reduce_fx="sum")

    def update(self, step: Step) -> None:
        """Add the sentences of one step."""
        mean = step.activations[MEAN].double()
        self.sums += mean.sum(0)
        self.squares += mean.square().sum(0)
        self.sentences += len(mean)
        if self.noise:
            self.kl += normal_divergence(step.activations[MEAN], step.activations[LOG_VARIANCE]).double().sum()

    def compute(self) -> dict[str, Tensor]:
        """The metrics by name."""
        variance = self.squares / self.sentences - (self.sums / self.sentences).square()
        values = {"active_units": (variance > ACTIVE).sum()}
        return values | ({"kl": self.kl / self.sentences} if self.noise else {})
