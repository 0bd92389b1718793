"""Orthogonality: neurons should not be parallel over the tokens of a batch."""

import torch
from jaxtyping import Float
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import FunctionCtx, once_differentiable

from tti.measures import cosine_gradient, gram_matrix, mean_abs_cosine, widened
from tti.regularizers.pairs import PairRegularizer
from tti.step import Step


class Orthogonality(PairRegularizer):
    """Mean over neuron pairs ``i != j`` of ``|cos(a[:, i], a[:, j])|``: 0 for orthogonal neurons, 1 for equal ones.

    A ``[width, width]`` matrix of neuron pairs over the tokens of the (micro-)batch of one process. The seed project
    divides by ``width**2`` and includes the diagonal; without the diagonal's constant its value is smaller by the
    factor ``(width - 1) / width``.

    The floor for independent neurons is about ``sqrt(2 / (pi N))`` with N tokens. How it can be gamed: by dead neurons,
    which count as orthogonal.
    """

    def penalty(self, acts: Float[Tensor, "token width"], step: Step) -> Float[Tensor, ""]:
        return _MeanAbsCosine.apply(self.sampled(acts))


class _MeanAbsCosine(Function):
    """Value and gradient from one Gram matrix: two ``[token, width, width]`` products, no normalized activations."""

    @staticmethod
    def forward(ctx: FunctionCtx, acts: Float[Tensor, "token width"]) -> Tensor:
        gram = gram_matrix(acts)
        ctx.save_for_backward(acts, gram)
        return mean_abs_cosine(gram)

    @staticmethod
    @once_differentiable
    def backward(ctx: FunctionCtx, grad: Tensor) -> Tensor:
        acts, gram = ctx.saved_tensors  # type: ignore[attr-defined]
        with torch.autocast(acts.device.type, enabled=False):
            return (widened(acts) @ (cosine_gradient(gram) * grad)).to(acts.dtype)
