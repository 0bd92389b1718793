"""Influence: the change in the next-token distribution when a neuron is held at its mean, for all neurons at once.

Every score of a neuron has a form weighted by influence, in which neurons that do nothing do not count. Ablating every
neuron of a network costs one forward pass each; this estimate costs a few backward passes in total.
"""

from collections.abc import Callable, Iterable

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from tti.evaluation.stories import SEED, Chunk
from tti.models.network import Head, Network
from tti.models.taps import Recorder

View = Callable[[str, Float[Tensor, "token width"]], Float[Tensor, "token width"]]
TOKENS = 8192  # approximate tokens of the stories it is estimated on
DRAWS = 8  # labels drawn per token, and backward passes
ROWS = 2048  # tokens whose logits are held at a time


def influence(
    net: Network, head: Head, chunk: Chunk, sites: Iterable[str], view: View, draws: int = DRAWS
) -> dict[str, Float[Tensor, "width"]]:
    """Mean KL of the next-token distribution when each neuron is held at its mean over ``chunk``, in nats per token.

    It is a second-order estimate. With ``dz`` the first-order change of a token's logits, ``KL(p || p') = dz' (diag p -
    p p') dz / 2`` up to third order: the Fisher information's quadratic form (Martens 2020, "New insights and
    perspectives on the natural gradient method", section 5), which is half the mean over labels ``y ~ p`` of ``(grad
    log p(y) . dz)^2``. Labels drawn independently at different tokens have uncorrelated scores of mean 0. The square of
    a story's sum of ``da . gradient`` is therefore an unbiased estimate of the sum over its tokens, including the
    effect on later tokens through attention, and takes one backward pass for all neurons of all sites.

    A neuron that nothing reads has exactly 0; all values are NaN if a prediction is. The relative standard error is
    about ``sqrt(2 / (stories * draws))``, and more for a neuron that is on in few of the stories; ``causality``
    compares the estimate with exact ablation.

    Args:
        net: the network, in evaluation mode.
        head: maps its final hidden state to logits.
        chunk: whole stories.
        sites: sites of the neurons.
        view: a linear transformation of activations.
        draws: labels drawn per token.
    """
    tap = Attached(sites)
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
    """Mean of the neurons' scores, weighted by their shares of the summed influence; an undefined score counts as 0.

    0 if no neuron has influence.
    """
    total = influence.double().sum()
    shares = influence.double() / total.where(total > 0, 1)
    return float((shares * scores.double().nan_to_num(0, 0, 0)).sum())


def idle(influence: Float[Tensor, "width"], least: float) -> Bool[Tensor, "width"]:
    """Whether each neuron is among the least influential, with together at most ``least`` of the site's influence.

    If no neuron has any influence, all are idle. Adding idle neurons does not change which of the others are idle.
    """
    ordered = influence.double().sort().values
    total = ordered.cumsum(0)
    up_to = total[torch.searchsorted(ordered, influence.double(), right=True) - 1]
    return up_to <= least * total[-1]


def without(influence: Float[Tensor, "width"]) -> float:
    """Fraction of neurons with no influence; NaN if any influence is not finite."""
    return float((influence == 0).double().where(influence.isfinite(), torch.nan).mean())


def fraction_in_use(influence: Float[Tensor, "width"]) -> float:
    """``(sum i)^2 / (width sum i^2)``: 1 for equal influences, 1 / width if one neuron has all; 0 if none has any."""
    squares = influence.double().square().sum()
    return float(influence.double().sum().square() / squares.where(squares > 0, 1)) / len(influence)


class Attached(Recorder):
    """Records activations such that gradients reach them even if no parameter precedes them."""

    def __call__(self, site: str, activation: Tensor) -> Tensor:
        if site in self.sites and not activation.requires_grad:
            activation = activation.detach().requires_grad_()
        return super().__call__(site, activation)


def _less_mean(acts: Float[Tensor, "token width"]) -> Float[Tensor, "token width"]:
    return acts.float() - acts.float().mean(0)


def _scores(head: Head, hidden: Float[Tensor, "token d_model"], draws: int) -> Float[Tensor, "draw token d_model"]:
    """Gradients with respect to ``hidden`` of the log-probability of labels drawn from the head's predictions."""
    generator = torch.Generator(hidden.device).manual_seed(SEED)
    directions = torch.eye(hidden.shape[1], device=hidden.device, dtype=hidden.dtype)
    weight = (head(directions) - head(torch.zeros_like(directions[:1]))).T.contiguous()  # assumes an affine head
    found = []
    for rows in hidden.split(ROWS):
        p = head(rows).softmax(-1)
        mean = p @ weight
        p = p.nan_to_num(1)  # multinomial rejects NaN; the mean keeps the result NaN
        labels = torch.multinomial(p, draws, replacement=True, generator=generator)
        found.append(weight[labels.T] - mean)
    return torch.cat(found, 1)
