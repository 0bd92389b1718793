"""Influence: how far the next-token distribution moves when a neuron is held at its mean, for all neurons at once.

Every score of a neuron has a form in which neurons count by their share of it, so that those that do nothing do not
count. Ablating every neuron of a network costs as many forward passes as there are neurons; this costs a few backward
passes.
"""

from collections.abc import Callable, Iterable

import torch
from jaxtyping import Float
from torch import Tensor

from tti.evaluation.stories import SEED, Chunk
from tti.models.network import Head, Network
from tti.models.taps import Recorder

View = Callable[[str, Float[Tensor, "token width"]], Float[Tensor, "token width"]]
TOKENS = 8192  # of the stories that it is taken from
DRAWS = 8  # labels drawn a token, and backward passes
ROWS = 2048  # tokens whose logits are held


def influence(
    net: Network, head: Head, chunk: Chunk, sites: Iterable[str], view: View, draws: int = DRAWS
) -> dict[str, Float[Tensor, "width"]]:
    """Mean KL of the next-token distribution from the unchanged, in nats a token, to second order, by neuron.

    Of holding a neuron at its mean over ``chunk``, in place of its activation. With ``dz`` the change of a token's
    logits to first order, ``KL(p || p') = dz' (diag p - p p') dz / 2`` up to third order, the Fisher information's
    quadratic form (Martens 2020, "New insights and perspectives on the natural gradient method", section 5), which is
    half the mean over labels ``y ~ p`` of ``(grad log p(y) . dz)^2``. Labels drawn apart at different tokens have
    uncorrelated scores of mean 0, so that the square of a story's sum of ``da . gradient``, one backward pass for all
    neurons of all sites, is right on average for the sum over its tokens, with what attention carries to later ones.

    A neuron that nothing reads has exactly 0; all are NaN where a prediction is. The standard error is about
    ``sqrt(2 / (stories * draws))`` of a value, more for a neuron that is on in few of the stories; ``causality``
    compares with exact ablation.

    Args:
        net: the network, in evaluation mode.
        head: its logits from its final hidden state.
        chunk: whole stories.
        sites: whose neurons.
        view: what becomes of activations, linear.
        draws: labels drawn a token.
    """
    tap = _Attached(sites)
    with torch.enable_grad():
        hidden = chunk.batch.rows(net(chunk.batch.tokens, chunk.batch.stories, tap))
    acts = tap.activations
    away = {site: _less_mean(view(site, each.detach().flatten(1))) for site, each in acts.items()}
    total = {site: each.new_zeros(each.shape[1], dtype=torch.float64) for site, each in away.items()}
    for score in _scores(head, hidden.detach(), draws):
        gradients = torch.autograd.grad(
            hidden, list(acts.values()), score, retain_graph=True, allow_unused=True, materialize_grads=True
        )
        for site, gradient in zip(acts, gradients, strict=True):
            change = away[site] * view(site, gradient.flatten(1))
            by_story = change.new_zeros(len(chunk.stories), change.shape[1]).index_add_(0, chunk.story, change)
            total[site] += by_story.double().square().sum(0)
    return {site: squares / (2 * draws * len(chunk.batch)) for site, squares in total.items()}


def weighted(scores: Float[Tensor, "width"], influence: Float[Tensor, "width"]) -> float:
    """Mean of the neurons' scores, each weighted by its share of their summed influence; an undefined score is 0.

    0 where no neuron has any.
    """
    total = influence.double().sum()
    shares = influence.double() / total.where(total > 0, 1)
    return float((shares * scores.double().nan_to_num(0, 0, 0)).sum())


def without(influence: Float[Tensor, "width"]) -> float:
    """Share of neurons with no influence; undefined where an influence is."""
    return float((influence == 0).double().where(influence.isfinite(), torch.nan).mean())


def fraction_in_use(influence: Float[Tensor, "width"]) -> float:
    """``(sum i)^2 / (width sum i^2)``: 1 where all neurons have as much, 1 / width where one has all; 0 if none has."""
    squares = influence.double().square().sum()
    return float(influence.double().sum().square() / squares.where(squares > 0, 1)) / len(influence)


class _Attached(Recorder):
    """Records activations that gradients reach also where no parameter lies before them."""

    def __call__(self, site: str, activation: Tensor) -> Tensor:
        if site in self.sites and not activation.requires_grad:
            activation = activation.detach().requires_grad_()
        return super().__call__(site, activation)


def _less_mean(acts: Float[Tensor, "token width"]) -> Float[Tensor, "token width"]:
    return acts.float() - acts.float().mean(0)


def _scores(head: Head, hidden: Float[Tensor, "token d_model"], draws: int) -> Float[Tensor, "draw token d_model"]:
    """Gradients with respect to ``hidden`` of the log-probability of labels drawn from what the head predicts."""
    generator = torch.Generator(hidden.device).manual_seed(SEED)
    directions = torch.eye(hidden.shape[1], device=hidden.device, dtype=hidden.dtype)
    weight = (head(directions) - head(torch.zeros_like(directions[:1]))).T.contiguous()  # of a head that is affine
    found = []
    for rows in hidden.split(ROWS):
        p = head(rows).softmax(-1)
        mean = p @ weight
        p = p.nan_to_num(1)  # nothing can be drawn from NaN; whatever is drawn in its place, the mean keeps it NaN
        labels = torch.multinomial(p, draws, replacement=True, generator=generator)
        found.append(weight[labels.T] - mean)
    return torch.cat(found, 1)
