"""Causality: the change in loss when a neuron is ablated, and whether it occurs where the neuron's label says."""

from collections.abc import Iterable, Iterator, Sequence

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from tti.evaluation.base import (
    Seen,
    SitePart,
    Subject,
    array,
    by_layer,
    mean_defined,
    mean_of_all,
    per_neuron,
    too_coarse,
)
from tti.evaluation.influence import weighted, without
from tti.evaluation.stories import SEED, Chunk
from tti.evaluation_folder import Array, Result
from tti.interventions.ablate import Ablation
from tti.measures import type_mass
from tti.models.network import Network

ROWS = 2048  # tokens whose logits are held at a time


class Causality(SitePart):
    """Mean ablation of single neurons: the activation is replaced by its mean over all tokens, one neuron at a time.

    At every site, ``neurons`` neurons are drawn at random. Whole stories of about ``tokens`` tokens run through the
    network once per neuron, several neurons in one batch. The cost is that many forward passes, independent of the size
    of the split.

    A neuron's *label* is the token types with the largest share of its absolute activation, among those whose mean is
    at least ``lift`` times the neuron's mean; at most ``label_types``. ``ablation_specificity`` is (e - t) / (1 - t),
    where e is the label's share of the summed absolute change in loss, and t its share of the tokens: 0 if the neuron
    matters equally everywhere, 1 if only where its label says, negative if elsewhere. It is 0 for a neuron without any
    effect (``no_effect`` is the fraction of those), and undefined, which counts as 0, if the label is empty or does not
    occur in the stories. ``ablation_specificity_weighted`` weights by the neuron's share of the summed KL.

    The part also compares :mod:`~tti.evaluation.influence`, the cheap estimate for all neurons, with these ablations:
    ``influence_rank_correlation`` is Spearman's, ``influence_ratio`` the ratio of the sums.

    How it can be gamed: by redundancy, since neurons that substitute for each other have small effects one at a time.
    Mean ablation also changes a mostly-off neuron little where it is off, which by itself raises the label's share.

    Args:
        sites: globs.
        neurons: neurons ablated per site.
        tokens: approximate tokens of the stories.
        at_once: neurons per batch.
        label_types: maximum number of token types in a label.
        lift: how many times the neuron's mean a type's mean must be to enter its label.
    """

    def __init__(
        self,
        sites: str | Iterable[str],
        neurons: int,
        tokens: int,
        at_once: int,
        label_types: int,
        lift: float,
    ) -> None:
        super().__init__(sites)
        self.neurons, self.tokens, self.at_once = neurons, tokens, at_once
        self.label_types, self.lift = label_types, lift

    def inapplicable(self, subject: Subject) -> str:
        return too_coarse(subject)

    def attach(self, subject: Subject) -> None:
        self.subject, device = subject, subject.device
        widths = subject.widths
        draw = np.random.default_rng(SEED)
        self.drawn = {
            site: torch.from_numpy(np.sort(draw.choice(widths[site], min(self.neurons, widths[site]), replace=False)))
            for site in self.sites(widths)
        }
        self.drawn = {site: neurons.to(device) for site, neurons in self.drawn.items()}
        n_types = len(subject.stories.types)
        self.counts = torch.zeros(n_types, dtype=torch.float64, device=device)
        self.mass = {site: torch.zeros(n_types, len(neurons), device=device) for site, neurons in self.drawn.items()}
        self.sums = {
            site: torch.zeros(len(neurons), dtype=torch.float64, device=device) for site, neurons in self.drawn.items()
        }

    def update(self, seen: Seen) -> None:
        types = seen.step.batch.types
        self.counts += torch.bincount(types, minlength=len(self.counts))
        for site, neurons in self.drawn.items():
            acts = seen.step.activations[site][:, neurons].float()
            self.mass[site] += type_mass(acts, types, len(self.counts))
            self.sums[site] += acts.sum(0, dtype=torch.float64)

    def compute(self) -> Result:
        chunk = self.subject.stories.drawn(self.tokens).to(self.subject.device)
        ids = torch.from_numpy(self.subject.stories.types).to(self.subject.device)
        values: dict[str, dict[str, float]] = {}
        arrays: dict[str, Array] = {}
        for site, neurons in self.drawn.items():
            means = (self.sums[site] / self.counts.sum()).float()
            change, divergence = ablated(self.subject.net, chunk, site, neurons, means, self.at_once)
            label = self._label(self.mass[site])
            inside = torch.stack([torch.isin(chunk.batch.types, row[row >= 0]) for row in label])
            influence = self.subject.influence[site][neurons]
            found = {"ablation": change.mean(1), "ablation_kl": divergence, **against(change, inside, influence > 0)}
            values[site] = {name: mean_defined(each) for name, each in found.items()}
            specificity = found["ablation_specificity"]
            values[site]["ablation_specificity"] = mean_of_all(specificity)
            values[site]["ablation_specificity_weighted"] = weighted(specificity, divergence.where(influence > 0, 0))
            values[site]["no_effect"] = without(influence)
            values[site] |= agreement(influence, divergence)
            values[site]["ablation_abs"] = float(change.mean(1).abs().mean())
            values[site]["labelled"] = float((label >= 0).any(1).double().mean())
            width = self.subject.widths[site]
            spread = {name: _spread(each, neurons, width) for name, each in found.items()}
            arrays |= per_neuron(site, **spread)
            arrays[f"{site}/ablated"] = array(neurons.int(), "sampled")
            arrays[f"{site}/label"] = array(torch.where(label >= 0, ids[label], -1).int(), "sampled", "rank")
        notes = {"sample": f"{self.neurons} random neurons per site, {len(chunk.batch)} tokens of whole stories"}
        return Result(by_layer(values) | {"ablation_tokens": float(len(chunk.batch))}, arrays, notes)

    def _label(self, mass: Float[Tensor, "type sampled"]) -> Int[Tensor, "sampled rank"]:
        """Rows of token types, largest share first; -1 if there are no more."""
        mean = mass.double() / self.counts.clamp_min(1)[:, None]
        high = mean >= self.lift * (mass.double().sum(0) / self.counts.sum())
        best = (mass * (high & (mass > 0))).topk(min(self.label_types, len(mass)), dim=0)
        return torch.where(best.values > 0, best.indices, -1).T


def ablated(
    net: Network,
    chunk: Chunk,
    site: str,
    neurons: Int[Tensor, "sampled"],
    means: Float[Tensor, "sampled"],
    at_once: int,
) -> tuple[Float[Tensor, "sampled token"], Float[Tensor, "sampled"]]:
    """Change of each token's nll in nats, and mean KL of the next-token distribution, for each ablated neuron."""
    batch = chunk.batch
    whole = batch.rows(net(batch.tokens, batch.stories))
    nll = net.loss(whole, batch.targets)[1]
    changes, divergences = [], []
    for copies in without_each(net, chunk, site, neurons, means, at_once):
        count, hidden = len(copies), torch.cat([batch.rows(copy) for copy in copies])
        changed = net.loss(hidden, batch.targets.repeat(count))[1]
        changes.append(changed.view(count, -1) - nll)
        divergences.append(torch.stack([_divergence(net, whole, each) for each in hidden.chunk(count)]))
    return torch.cat(changes), torch.cat(divergences)


def without_each(
    net: Network,
    chunk: Chunk,
    site: str,
    neurons: Int[Tensor, "sampled"],
    means: Float[Tensor, "sampled"],
    at_once: int,
) -> Iterator[Sequence[Float[Tensor, "token d_model"]]]:
    """Hidden states of all tokens with one neuron at a time held at its mean; ``at_once`` neurons per batch."""
    batch = chunk.batch
    for some, some_means in zip(neurons.split(at_once), means.split(at_once), strict=True):
        stories = batch.stories.repeated(len(some))
        yield net(batch.tokens.repeat(len(some)), stories, Ablation(site, some, some_means)).chunk(len(some))


def agreement(influence: Float[Tensor, "sampled"], divergence: Float[Tensor, "sampled"]) -> dict[str, float]:
    """Spearman's rank correlation of the estimate with exact ablation, and the ratio of their sums."""
    ranks = torch.stack([each.argsort().argsort() for each in (influence, divergence)]).double()
    return {
        "influence_rank_correlation": float(torch.corrcoef(ranks)[0, 1]) if len(influence) > 1 else float("nan"),
        "influence_ratio": float(influence.double().sum() / divergence.double().sum()),
    }


def against(
    change: Float[Tensor, "sampled token"], label: Bool[Tensor, "sampled token"], moves: Bool[Tensor, "sampled"]
) -> dict[str, Tensor]:
    """Mean change on the label's tokens and elsewhere, and specificity, for each neuron.

    Specificity is 0 for a neuron that does not affect the predictions: any remaining change is rounding.
    """
    inside, size = label.double(), change.abs().double()
    share, effect = inside.mean(1), size.sum(1)
    moves = moves & (effect > 0)
    share_of_effect = (size * inside).sum(1) / effect.where(moves, 1)
    specificity = ((share_of_effect - share) / (1 - share)).where(moves, 0)
    return {
        "ablation_label": (change * inside).sum(1) / inside.sum(1),
        "ablation_elsewhere": (change * (1 - inside)).sum(1) / (1 - inside).sum(1),
        "ablation_specificity": torch.where(share > 0, specificity, torch.nan),
    }


def _divergence(net: Network, whole: Float[Tensor, "token d"], changed: Float[Tensor, "token d"]) -> Float[Tensor, ""]:
    total = torch.zeros((), dtype=torch.float64, device=whole.device)
    for before, after in zip(whole.split(ROWS), changed.split(ROWS), strict=True):
        expected, found = (net.logits(hidden).float().log_softmax(-1) for hidden in (before, after))
        total += (expected.exp() * (expected - found)).sum(dtype=torch.float64)
    return total / len(whole)


def _spread(values: Float[Tensor, "sampled"], neurons: Int[Tensor, "sampled"], width: int) -> Float[Tensor, "width"]:
    table = torch.full((width,), torch.nan, device=values.device)
    table[neurons] = values.float()
    return table
