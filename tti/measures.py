"""Formulas with known answers, shared by what is trained on and what is measured, so that the two cannot drift apart.

All take sums over tokens (a Gram matrix, a table of activation mass), so that a batch and a streamed data set are
the same computation.
"""

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor


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
    width = len(gram)
    return cosines(gram).fill_diagonal_(0).abs().sum() / (width * (width - 1))


def cosine_gradient(gram: Float[Tensor, "width width"]) -> Float[Tensor, "width width"]:
    """``W`` such that the gradient of :func:`mean_abs_cosine` with respect to activations ``a`` is ``a @ W``.

    With ``c`` the cosines, ``n`` the norms and ``s = sign(c) / (d (d - 1))`` off the diagonal:
    ``W = 2 (s / (n n') - diag(sum_j s c / n^2))``. Zero for silent neurons.
    """
    width, scale, cosine = len(gram), _inverse_norms(gram), cosines(gram).fill_diagonal_(0)
    pull = cosine.sign() * scale[:, None] * scale
    pull.diagonal().sub_(cosine.abs().sum(-1) * scale.square())
    return pull * (2 / (width * (width - 1)))


def _inverse_norms(gram: Tensor) -> Tensor:
    squares = gram.diagonal()
    return torch.where(squares > 0, squares.clamp_min(torch.finfo(gram.dtype).tiny).rsqrt(), 0)


def type_mass(
    activations: Float[Tensor, "token width"], types: Int[Tensor, "token"], n_types: int
) -> Float[Tensor, "type width"]:
    """``s[v, j]``: the sum of ``|a[t, j]|`` over the tokens of type ``v``."""
    mass = activations.new_zeros(n_types, activations.shape[-1])
    return mass.index_add_(0, types, activations.abs())


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
    total = mass.sum(0)
    active = total > 0
    safe = total.where(active, 1)
    # Normalised before x log x: sums of very different size would cancel in `log Z - sum / Z`.
    return -torch.special.xlogy(mass / safe, mass / safe).sum(0), active


def mean_over(values: Float[Tensor, "width"], chosen: Bool[Tensor, "width"]) -> Float[Tensor, ""]:
    """Mean of the chosen values; 0 where none is chosen."""
    return values.where(chosen, 0).sum() / chosen.sum().clamp_min(1)


def type_entropy_gradient(mass: Float[Tensor, "type width"]) -> Float[Tensor, "type width"]:
    """Gradient of the mean :func:`type_entropy` over active neurons with respect to ``mass``.

    ``(1/Z) (-log p_v - H) / (number of active neurons)`` with ``p = s / Z``; 0 where ``s = 0`` (its one-sided limit is
    infinite, and rectified units sit there most of the time) and for silent neurons.
    """
    entropy, active = type_entropy(mass)
    total = mass.sum(0).where(active, 1)
    probability = mass / total
    log_p = probability.where(probability > 0, 1).log()
    gradient = (-log_p - entropy) / (total * active.sum().clamp_min(1))
    return gradient.where(probability > 0, 0)
