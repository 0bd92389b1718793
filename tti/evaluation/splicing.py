"""Autoencoders spliced into a network through the tap: what they keep of a site, and what the network loses by it."""

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from tti.autoencoders.base import SparseAutoencoder
from tti.evaluation.stories import StorySet
from tti.interventions.moments import Moments
from tti.interventions.replace import Replacement
from tti.interventions.splice import Splice
from tti.models.network import Network
from tti.models.taps import Recorder, Tap, no_tap

NEGLIGIBLE = 1e-3  # nats; of a site that costs less when it is replaced by its mean there is nothing to recover


@dataclass(frozen=True)
class Reference:
    """What a site's figures are counted from, over the same tokens.

    Attributes:
        mean: of the activations.
        variance: of the activations, summed over the width, a token.
        loss: of the network as it is, in nats a token.
        ablated_loss: with the site's activations replaced by their mean.
    """

    mean: Float[Tensor, "width"]
    variance: float
    loss: float
    ablated_loss: float


@dataclass(frozen=True)
class Quality:
    """How good an autoencoder is at a site; all over the same tokens.

    Attributes:
        variance_explained: ``1 - E|x - x̂|² / E|x - E x|²``, both norms over the whole width: 1 perfect, 0 the mean.
        l0: latents that are not 0, a token.
        dead: fraction of the latents that are 0 on all of these tokens (more tokens, fewer dead).
        loss_increase: nats a token that the network loses when it goes on with the reconstruction.
        loss_recovered: ``(ablated - spliced) / (ablated - unchanged)`` of the losses: 1 where nothing is lost, 0 where
            as much as by mean ablation, negative where more (Bricken et al. 2023, with the mean in place of zero: zero
            is far from what a network with a mean expects, and flatters). Not a number where mean ablation costs less
            than :data:`NEGLIGIBLE`.
    """

    variance_explained: float
    l0: float
    dead: float
    loss_increase: float
    loss_recovered: float

    @classmethod
    def of(cls, splice: Splice, loss: float, reference: Reference) -> "Quality":
        """From what a splice has counted while the network went on with it, and the loss that this gave."""
        room = reference.ablated_loss - reference.loss
        return cls(
            variance_explained=1 - float(splice.squared_error) / (splice.tokens * reference.variance),
            l0=float(splice.active) / splice.tokens,
            dead=float((~splice.fired).double().mean()),
            loss_increase=loss - reference.loss,
            loss_recovered=(reference.ablated_loss - loss) / room if room > NEGLIGIBLE else float("nan"),
        )


@torch.no_grad()
def mean_loss(net: Network, stories: StorySet, tap: Tap = no_tap) -> float:
    """Cross-entropy in nats a token over all of the stories, with a tap."""
    total = 0.0
    for chunk in stories:
        batch = chunk.to(net.device).batch
        hidden = batch.rows(net(batch.tokens, batch.stories, tap))
        total += float(net.loss(hidden, batch.targets)[1].sum(dtype=torch.float64))
    return total / stories.tokens


def references(net: Network, stories: StorySet, sites: Iterable[str]) -> dict[str, Reference]:
    """What the figures of each site are counted from: a pass over the stories, and one more for every site."""
    sites = tuple(sites)
    moments = Moments(sites)
    loss = mean_loss(net, stories, moments)
    found = {}
    for site in sites:
        mean = moments.mean(site).float()
        ablated = mean_loss(net, stories, Replacement(site, mean.expand_as))
        found[site] = Reference(mean, moments.variance(site), loss, ablated)
    return found


def quality(
    net: Network, stories: StorySet, site: str, autoencoder: SparseAutoencoder, reference: Reference
) -> Quality:
    """How good an autoencoder is: one pass over the stories that the reference was taken from."""
    splice = Splice(site, autoencoder)
    return Quality.of(splice, mean_loss(net, stories, splice), reference)


@torch.no_grad()
def recorded(net: Network, stories: StorySet, sites: Iterable[str]) -> dict[str, Float[Tensor, "token width"]]:
    """The activations of all of the stories: ``4 tokens x width`` bytes a site on the network's device."""
    sites = tuple(sites)
    parts: dict[str, list[Tensor]] = {site: [] for site in sites}
    for chunk in stories:
        batch = chunk.to(net.device).batch
        recorder = Recorder(sites)
        net(batch.tokens, batch.stories, recorder)
        for site in sites:
            parts[site].append(recorder.activations[site].flatten(1).float())
    return {site: torch.cat(parts.pop(site)) for site in sites}
