"""Autoencoders spliced into a network through the tap: what they preserve of a site, and what the network loses."""

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

NEGLIGIBLE = 1e-3  # nats; below this cost of mean ablation, there is nothing to recover at a site


@dataclass(frozen=True)
class Reference:
    """Reference values of a site, over the same tokens as its figures.

    Attributes:
        mean: mean of the activations.
        variance: variance of the activations over tokens, summed over the width.
        loss: loss of the unchanged network, in nats per token.
        ablated_loss: loss with the site's activations replaced by their mean.
    """

    mean: Float[Tensor, "width"]
    variance: float
    loss: float
    ablated_loss: float


@dataclass(frozen=True)
class Quality:
    """Figures of an autoencoder at a site, all over the same tokens.

    Attributes:
        variance_explained: ``1 - E|x - x̂|² / E|x - E x|²``, both norms over the whole width: 1 is perfect, 0 the mean.
        l0: mean number of nonzero latents per token.
        dead: fraction of latents that are 0 on all of these tokens (more tokens, fewer dead latents).
        loss_increase: increase of the network's loss, in nats per token, when it continues with the reconstruction.
        loss_recovered: ``(ablated - spliced) / (ablated - unchanged)`` of the losses: 1 if nothing is lost, 0 if as
            much as by mean ablation, negative if more (Bricken et al. 2023, with the mean in place of zero: zero is far
            from what a network expects, and so flatters). NaN if mean ablation costs less than :data:`NEGLIGIBLE`.
    """

    variance_explained: float
    l0: float
    dead: float
    loss_increase: float
    loss_recovered: float

    @classmethod
    def of(cls, splice: Splice, loss: float, reference: Reference) -> "Quality":
        """Compute the figures from a splice's statistics after a pass, and the loss of that pass."""
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
    """Cross-entropy in nats per token over all of the stories, with a tap."""
    total = 0.0
    for chunk in stories:
        batch = chunk.to(net.device).batch
        hidden = batch.rows(net(batch.tokens, batch.stories, tap))
        total += float(net.loss(hidden, batch.targets)[1].sum(dtype=torch.float64))
    return total / stories.tokens


def references(net: Network, stories: StorySet, sites: Iterable[str]) -> dict[str, Reference]:
    """Reference values of each site: one pass over the stories, and one more per site."""
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
    """Figures of an autoencoder: one pass over the stories of the reference."""
    splice = Splice(site, autoencoder)
    return Quality.of(splice, mean_loss(net, stories, splice), reference)


@torch.no_grad()
def recorded(net: Network, stories: StorySet, sites: Iterable[str]) -> dict[str, Float[Tensor, "token width"]]:
    """The activations of all of the stories: ``4 tokens x width`` bytes per site on the network's device."""
    sites = tuple(sites)
    parts: dict[str, list[Tensor]] = {site: [] for site in sites}
    for chunk in stories:
        batch = chunk.to(net.device).batch
        recorder = Recorder(sites)
        net(batch.tokens, batch.stories, recorder)
        for site in sites:
            parts[site].append(recorder.activations[site].flatten(1).float())
    return {site: torch.cat(parts.pop(site)) for site in sites}
