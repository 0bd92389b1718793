"""Leakage: how much of the logits flows through each path of a concept module, and not through the known concepts."""

from collections.abc import Callable, Collection, Mapping
from itertools import combinations, permutations

import torch
from jaxtyping import Float
from torch import Tensor

from tti.evaluation.base import Part, Subject
from tti.evaluation.stories import Chunk
from tti.evaluation_folder import Result
from tti.interventions.mask import Mask
from tti.interventions.replace import Replacement
from tti.models.bottleneck import PATHS, SCOPE
from tti.models.network import Head
from tti.models.taps import Recorder, Tap, no_tap

ROWS = 1024  # tokens whose logits are held at a time
SITES = {path: f"{SCOPE}.{path}" for path in PATHS}
Explained = Callable[[frozenset[str]], float]


class Leakage(Part):
    """Shares of the variance of the logits, and losses without a path.

    A path is held at its mean over tokens. With some paths left, ``z'`` the logits and ``z`` those of the whole
    network, these paths explain ``1 - Var(z - z') / Var(z)``: variances over tokens, summed over the vocabulary, after
    each token's mean logit, which no prediction depends on, is subtracted. ``known``, ``discovered`` and ``epsilon``
    are Shapley values of that (the mean, over all orders in which the paths can be added, of what a path adds; Shapley
    1953), so they sum to 1. If the rest of the network were linear, a path's would be ``Cov(its part of z, z) /
    Var(z)``. 0 is a path that nothing reads, 1 a path that all logits come from.

    ``<path>_alone`` is what a path explains if the others are held, and ``<path>_loss_increase`` what the loss rises by
    if it is held itself. ``rounded_loss_increase`` is the rise if every known concept is rounded to 0 or 1: what the
    network reads in their shades (Mahinpei et al. 2021, "Promises and pitfalls of black-box concept learning models").

    How it can be gamed: variance is not use: a large, useless part of the logits counts as well (compare the losses).
    Known concepts can carry more than their labels in their shades (compare ``rounded_loss_increase``). A path that is
    held at its mean is far from what the later layers are used to, so shares can be negative or exceed 1.

    Args:
        tokens: approximate tokens of the stories that are run.
    """

    streams = False

    def __init__(self, tokens: int) -> None:
        super().__init__()
        self.tokens = tokens

    def inapplicable(self, subject: Subject) -> str:
        has_them = SITES[PATHS[0]] in subject.net.sites
        return "" if has_them else "its network has no concept module (model/bottleneck=concepts)"

    def attach(self, subject: Subject) -> None:
        self.subject = subject

    def compute(self) -> Result:
        net, chunk = self.subject.net, self.subject.stories.drawn(self.tokens).to(self.subject.device)
        means = _means(self.subject, chunk)
        hidden = {left: self._hidden(chunk, _held(means, left)) for left in _subsets(PATHS)}
        targets, whole = chunk.batch.targets, frozenset(PATHS)
        losses = {left: float(net.loss(each, targets)[0]) for left, each in hidden.items()}
        rounded = self._hidden(chunk, Replacement(SITES["known"], torch.round))
        explained = _explained(self.subject.head or net.logits, hidden, whole)
        return Result(
            {
                **shares(explained.__getitem__, PATHS),
                **{f"{path}_alone": explained[frozenset([path])] for path in PATHS},
                **{f"{path}_loss_increase": losses[whole - {path}] - losses[whole] for path in PATHS},
                "rounded_loss_increase": float(net.loss(rounded, targets)[0]) - losses[whole],
                "loss": losses[whole],
            },
            {},
        )

    def _hidden(self, chunk: Chunk, tap: Tap) -> Float[Tensor, "row d_model"]:
        return chunk.batch.rows(self.subject.net(chunk.batch.tokens, chunk.batch.stories, tap))


def shares(explained: Explained, paths: Collection[str]) -> dict[str, float]:
    """The Shapley value of each path, given what every set of paths explains."""
    orders = list(permutations(paths))
    totals = dict.fromkeys(paths, 0.0)
    for order in orders:
        for place, path in enumerate(order):
            before = frozenset(order[:place])
            totals[path] += explained(before | {path}) - explained(before)
    return {path: total / len(orders) for path, total in totals.items()}


def _subsets(paths: Collection[str]) -> list[frozenset[str]]:
    return [frozenset(some) for size in range(len(paths) + 1) for some in combinations(paths, size)]


def _means(subject: Subject, chunk: Chunk) -> dict[str, Float[Tensor, "width"]]:
    recorder = Recorder(SITES.values())
    subject.net(chunk.batch.tokens, chunk.batch.stories, recorder)
    return {site: acts.mean(0) for site, acts in recorder.activations.items()}


def _held(means: Mapping[str, Float[Tensor, "width"]], left: frozenset[str]) -> Tap:
    """A tap that holds all paths but these at their means."""
    held = [site for path, site in SITES.items() if path not in left]
    none = {site: torch.zeros_like(means[site], dtype=torch.bool) for site in held}
    return Mask(none, means) if held else no_tap


def _explained(
    head: Head, hidden: Mapping[frozenset[str], Float[Tensor, "row d_model"]], whole: frozenset[str]
) -> dict[frozenset[str], float]:
    """What each set of paths explains of the logits of all of them."""
    rows = len(hidden[whole])
    sums: dict[frozenset[str], list[Tensor]] = {left: [] for left in hidden}
    for start in range(0, rows, ROWS):
        logits = {left: _centred(head(each[start : start + ROWS])) for left, each in hidden.items()}
        for left, each in logits.items():
            off = logits[whole] - each if left != whole else each
            sums[left].append(torch.stack([off.sum(0), off.square().sum(0)]))
    variance = {left: _variance(torch.stack(each).sum(0), rows) for left, each in sums.items()}
    return {left: 1.0 if left == whole else 1 - variance[left] / variance[whole] for left in hidden}


def _centred(logits: Float[Tensor, "row vocab"]) -> Float[Tensor, "row vocab"]:
    return logits.double() - logits.double().mean(1, keepdim=True)


def _variance(moments: Float[Tensor, "moment vocab"], rows: int) -> float:
    """Variance over rows, summed over the vocabulary, from the sums and the sums of squares."""
    total, squares = moments / rows
    return float((squares - total.square()).sum())
