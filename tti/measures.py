"""Formulas with known answers, shared by what is trained on and what is measured, so that the two cannot drift apart.

All take sums over tokens (a Gram matrix, a table of activation mass), so that a batch and a streamed data set are
the same computation. A value that is trained on has its gradient in closed form beside it: autograd would keep and walk
every step in between.
"""

from collections.abc import Callable

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

ROUNDING = 64  # units in which a variance counts as 0; in float32, a standard deviation of 0.3 % of the mean


def widened(values: Tensor) -> Tensor:
    """The values in float32 at least: what sums over tokens are taken in."""
    return values.to(torch.promote_types(values.dtype, torch.float32))


def gram_matrix(acts: Float[Tensor, "token width"]) -> Float[Tensor, "width width"]:
    """``a.T @ a`` over the tokens, with float32 products whatever autocast says: cosines near 0 need them."""
    with torch.autocast(acts.device.type, enabled=False):
        acts = widened(acts)
        return acts.T @ acts


# -- the angle between two neurons ------------------------------------------------------------------------------------


def cosines(gram: Float[Tensor, "width width"]) -> Float[Tensor, "width width"]:
    """Cosine similarity of every two neurons from the Gram matrix ``a.T @ a`` of their activations over tokens.

    A silent neuron has cosine 0 with every other, and with itself.
    """
    scale = _inverse_norms(gram)
    return gram * scale[:, None] * scale


def mean_abs_cosine(gram: Float[Tensor, "width width"]) -> Float[Tensor, ""]:
    """Mean over ordered pairs ``i != j`` of ``|cos(a[:, i], a[:, j])|``: 0 for orthogonal neurons, 1 for equal ones.

    A dead neuron counts as orthogonal to all, so killing neurons games it: read it beside the dead fraction.
    """
    return _mean_over_pairs(cosines(gram).abs())


def cosine_gradient(gram: Float[Tensor, "width width"]) -> Float[Tensor, "width width"]:
    """``W`` such that the gradient of :func:`mean_abs_cosine` with respect to activations ``a`` is ``a @ W``."""
    return _pull(gram, torch.sign)


def centred(
    gram: Float[Tensor, "width width"], total: Float[Tensor, "width"], tokens: int | Tensor
) -> Float[Tensor, "width width"]:
    """The Gram matrix of activations less their mean over the tokens: ``tokens`` times their covariance.

    A neuron whose variance is within rounding of 0 beside its mean square is constant: its variance is 0 here, so that
    its cosines, which are its correlations, are 0.

    Args:
        gram: ``a.T @ a``.
        total: the sum of each neuron's activations over the tokens.
        tokens: how many there are.
    """
    covariance = gram - total[:, None] * (total / tokens)
    variance, rounding = covariance.diagonal(), ROUNDING * torch.finfo(gram.dtype).eps
    variance.masked_fill_(variance <= rounding * gram.diagonal(), 0)
    return covariance


def mean_squared_correlation(covariance: Float[Tensor, "width width"]) -> Float[Tensor, ""]:
    """Mean over ordered pairs ``i != j`` of the squared Pearson correlation of two neurons, from their covariance.

    From 0 (uncorrelated) to 1 (each a linear function of any other); about ``1 / (tokens - 1)`` for independent
    neurons. Dead and constant neurons count as uncorrelated, so killing neurons games it.
    """
    return _mean_over_pairs(cosines(covariance).square())


def correlation_gradient(covariance: Float[Tensor, "width width"]) -> Float[Tensor, "width width"]:
    """``W`` such that the gradient of :func:`mean_squared_correlation` is ``(a - mean) @ W``.

    ``covariance`` is that of :func:`centred`, not divided by the number of tokens.
    """
    return _pull(covariance, lambda correlation: 2 * correlation)


def _inverse_norms(gram: Tensor) -> Tensor:
    squares = gram.diagonal()
    return torch.where(squares > 0, squares.clamp_min(torch.finfo(gram.dtype).tiny).rsqrt(), 0)


def _mean_over_pairs(values: Float[Tensor, "width width"]) -> Float[Tensor, ""]:
    width = len(values)
    return values.fill_diagonal_(0).sum() / (width * (width - 1))


def _pull(gram: Float[Tensor, "width width"], slope: Callable[[Tensor], Tensor]) -> Float[Tensor, "width width"]:
    """``W`` such that the gradient of the mean over pairs of ``f(cosine)`` is ``a @ W``, where ``slope`` is ``f'``.

    With ``c`` the cosines, ``n`` the norms and ``s = f'(c) / (d (d - 1))`` off the diagonal:
    ``W = 2 (s / (n n') - diag(sum_j s c / n^2))``. Zero for silent neurons.
    """
    width, scale, cosine = len(gram), _inverse_norms(gram), cosines(gram).fill_diagonal_(0)
    steepness = slope(cosine)
    along = (steepness * cosine).sum(-1)
    share = scale * (2 / (width * (width - 1)))
    pull = steepness.mul_(share[:, None]).mul_(scale)
    pull.diagonal().sub_(along * share * scale)
    return pull


# -- the token types that a neuron answers to -------------------------------------------------------------------------


def type_mass(
    activations: Float[Tensor, "token width"], types: Int[Tensor, "token"], n_types: int
) -> Float[Tensor, "type width"]:
    """``s[v, j]``: the sum of ``|a[t, j]|`` over the tokens of type ``v``, in float32 at least."""
    size = widened(activations.abs())
    return size.new_zeros(n_types, size.shape[-1]).index_add_(0, types, size)


def type_entropy(
    mass: Float[Tensor, "type width"],
) -> tuple[Float[Tensor, "width"], Bool[Tensor, "width"]]:
    """Entropy in nats of each neuron's activation mass over token types, and which neurons are active at all.

    ``H_j = log Z_j - (1/Z_j) sum_v s[v, j] log s[v, j]`` with ``Z_j = sum_v s[v, j]``: 0 for a neuron that answers to
    one type, ``log(types)`` for one that answers to all alike. A silent neuron (``Z = 0``) has entropy 0 here and is
    not active: leave it out of means, for it is no perfect score.

    What games it: density (a neuron that is on everywhere by a constant has the entropy of the token distribution),
    and the number of tokens; compare at equal token counts.
    """
    share, log_share, _, active = _shares(mass)
    return -(share * log_share).sum(0), active


def mean_over(values: Float[Tensor, "width"], chosen: Bool[Tensor, "width"]) -> Float[Tensor, ""]:
    """Mean of the chosen values; 0 where none is chosen."""
    return values.where(chosen, 0).sum() / chosen.sum().clamp_min(1)


def type_entropy_with_gradient(
    mass: Float[Tensor, "type width"],
) -> tuple[Float[Tensor, ""], Float[Tensor, "type width"], Bool[Tensor, "width"]]:
    """Mean :func:`type_entropy` over active neurons, its gradient with respect to ``mass``, and which are active.

    The gradient is ``(1/Z) (-log p_v - H) / (number of active neurons)`` with ``p = s / Z``; 0 where ``s = 0`` (its
    one-sided limit is infinite, and rectified units sit there most of the time) and for silent neurons.
    """
    share, log_share, total, active = _shares(mass)
    entropy = -(share * log_share).sum(0)
    gradient = (log_share + entropy).div_(-total * active.sum().clamp_min(1)).masked_fill_(share == 0, 0)
    return mean_over(entropy, active), gradient, active


def _shares(mass: Float[Tensor, "type width"]) -> tuple[Tensor, Tensor, Tensor, Bool[Tensor, "width"]]:
    """``p = s / Z``, its log (finite where ``p = 0``), ``Z`` (1 for silent neurons), and which neurons are active."""
    total = mass.sum(0)
    active = total > 0
    total = total.where(active, 1)
    share = mass / total  # normalised before x log x: sums of very different size would cancel in `log Z - sum / Z`
    return share, share.clamp_min(torch.finfo(share.dtype).tiny).log(), total, active
