"""Supervision: each known factor should be one latent."""

from collections.abc import Iterable, Mapping

import torch
from jaxtyping import Float, Int
from torch import Tensor

from tti.models.network import Site
from tti.regularizers.base import ActivationRegularizer
from tti.step import Step

RANKS = 100  # ranks are numbers below it


class Supervision(ActivationRegularizer):
    """Mean squared distance of the latents' means from the factors' values, over labelled sentences and factors.

    Latent i should be the value of factor i: its number among the factor's values, minus the mean and divided by the
    standard deviation of all numbers, so that uniform factors have mean 0 and variance 1, as the prior has. (Locatello
    et al. 2020, "Disentangling factors of variation using few labels", section 3, with a squared error in place of
    their cross-entropy.) Further latents are free. 1 is what a latent gives that is always 0.

    A sentence is labelled if its rank, a random number below 100, is below ``100 * labelled``: always the same
    sentences, and more of them with more labels. A batch without a labelled sentence costs nothing.

    How it can be gamed: it is satisfied by what it asks for. That a latent has a factor's value on labelled sentences
    does not say that the decoder reads it from there; interventions do.

    Args:
        sites, weight, warmup: see :class:`Regularizer`; the site is the mean of the latent.
        factors: factor -> its number of values. Factors are labels of the data, and factor i is for latent i.
        labelled: share of the sentences whose labels are used.
        rank: label with the ranks of the sentences.
    """

    def __init__(
        self,
        sites: str | Iterable[str],
        weight: float,
        warmup: float,
        factors: Mapping[str, int],
        labelled: float,
        rank: str,
    ) -> None:
        super().__init__(sites, weight, warmup)
        self.factors, self.labelled, self.rank = dict(factors), labelled, rank
        self.labels = (*self.factors, rank)

    def attach(self, sites: Mapping[str, Site]) -> None:
        """Choose the site.

        Raises:
            ValueError: a glob matches no site, or the site has fewer latents than there are factors.
        """
        super().attach(sites)
        for site in self.sites:
            if sites[site].width < len(self.factors):
                raise ValueError(f"{site} has {sites[site].width} latents for {len(self.factors)} supervised factors")

    def penalty(self, acts: Float[Tensor, "story latent"], step: Step) -> Float[Tensor, ""]:
        named = {name: self._of_sentences(name, step, len(acts)) for name in self.labels}
        known = (named.pop(self.rank) < RANKS * self.labelled).float()
        wanted = [standardised(named[name], size) for name, size in self.factors.items()]
        errors = (acts.float()[:, : len(wanted)] - torch.stack(wanted, 1)).square().mean(1)
        return (errors * known).sum() / known.sum().clamp_min(1)

    def _of_sentences(self, name: str, step: Step, sentences: int) -> Int[Tensor, "story"]:
        """A label of every sentence, which all of its tokens have."""
        batch = step.batch
        labels = batch.labels[name]
        return labels.new_zeros(sentences).scatter(0, batch.rows(batch.stories.story), labels)


def standardised(values: Int[Tensor, "story"], size: int) -> Float[Tensor, "story"]:
    """Numbers 0 to ``size - 1``, shifted and scaled so that all of them together have mean 0 and variance 1."""
    return (values - (size - 1) / 2) / ((size**2 - 1) / 12) ** 0.5
