"""Causal form of the ground truth: does ablating a value's best neuron change predictions where the value holds?"""

from collections.abc import Callable
from copy import copy

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from tti.evaluation.beyond import ratio
from tti.evaluation.causality import ROWS, without_each
from tti.evaluation.knowledge import Knowledge
from tti.evaluation.stories import Chunk, StorySet
from tti.models.network import Head, Network


def odd_stories(stories: StorySet, tokens: int) -> Chunk:
    """Random whole stories with odd index from the split, of about ``tokens`` tokens."""
    odd = copy(stories)
    odd.members = stories.members[stories.members % 2 == 1]
    return odd.drawn(tokens)


@torch.no_grad()
def divergences(
    net: Network,
    logits: Head,
    chunk: Chunk,
    site: str,
    neurons: Int[Tensor, "neuron"],
    means: Float[Tensor, "neuron"],
    at_once: int,
    say: Callable[[str], None],
) -> Float[Tensor, "neuron token"]:
    """KL of the next-token distribution from the unablated one, in nats, with one neuron at a time held at its mean."""
    batch = chunk.batch
    found: list[Float[Tensor, "copy token"]] = []
    whole = net(batch.tokens, batch.stories)
    for copies in without_each(net, chunk, site, neurons, means, at_once):
        found.append(torch.stack([_divergence(logits, whole, each) for each in copies]))
        say(f"ablating the best detectors of {site}: {sum(len(each) for each in found)} of {len(neurons)}")
    return torch.cat(found)


def _divergence(
    logits: Head, whole: Float[Tensor, "token d"], changed: Float[Tensor, "token d"]
) -> Float[Tensor, "token"]:
    found = []
    for before, after in zip(whole.split(ROWS), changed.split(ROWS), strict=True):
        expected, said = (logits(hidden).float().log_softmax(-1) for hidden in (before, after))
        found.append((expected.exp() * (expected - said)).sum(1))
    return torch.cat(found).clamp_min(0)


def specificity(
    knowledge: Knowledge,
    places: Int[np.ndarray, "token"],
    effect: Float[np.ndarray, "counted token"],
    counted: Bool[np.ndarray, "value"],
) -> Float[np.ndarray, "counted"]:
    """Share of each value's effect on tokens with the value, beyond the last two tokens: 0 by chance, 1 if all of it.

    (share - chance) / (1 - chance), where chance is the share of the same effect if it were spread evenly, for each
    pair of last two tokens, over tokens with and without the value. 0 for a neuron without any effect.
    """
    rows = np.searchsorted(knowledge.measured_on, places)
    measure = knowledge.measure
    carried = measure.values[rows].toarray().T[counted]
    chance = measure.rates[:, measure.stratum[rows]].toarray()[counted]
    total = effect.sum(1)
    hits, by_chance = (effect * carried).sum(1), (effect * chance).sum(1)
    return ratio(hits - by_chance, total - by_chance)
