"""Hoyer: few neurons should carry a token's activation."""

import torch
from jaxtyping import Float
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import FunctionCtx, once_differentiable

from tti.measures import widened
from tti.regularizers.base import ActivationRegularizer
from tti.step import Step


class Hoyer(ActivationRegularizer):
    """Mean over tokens of ``(|a|_1 / |a|_2)**2 / width``: ``1 / width`` for one active neuron, 1 if all are equal.

    The effective fraction of active neurons: ``k / width`` if k are equal and the rest 0. The ratio of norms is from
    Hoyer (2004, "Non-negative matrix factorization with sparseness constraints"), its square is the Hoyer-Square of
    Yang, Wen and Li (2020, "DeepHoyer", eq. 3). They apply it to all weights of a layer together; here it applies to
    each token's activations, divided by their number. A token whose activations are all 0 counts as 0, with gradient 0.

    Changing scale does not help. How it can be gamed: by a few neurons that are large on every token, next to which the
    others are small; read it alongside the always-on fraction.
    """

    def penalty(self, acts: Float[Tensor, "token width"], step: Step) -> Float[Tensor, ""]:
        return _MeanHoyer.apply(acts)


class _MeanHoyer(Function):
    """Mean Hoyer-Square that saves the activations and one number per token.

    With ``r = |a|_1 / |a|_2**2``, the gradient of a token's ``(|a|_1 / |a|_2)**2`` is ``2 r (sign(a) - r a)``.
    """

    @staticmethod
    def forward(ctx: FunctionCtx, acts: Float[Tensor, "token width"]) -> Tensor:
        wide = widened(acts)
        l1, squares = wide.abs().sum(-1), torch.linalg.vector_norm(wide, dim=-1).square()
        ratio = torch.where(squares > 0, l1 / squares, 0)
        ctx.save_for_backward(acts, ratio)
        return (ratio * l1).mean() / acts.shape[1]

    @staticmethod
    @once_differentiable
    def backward(ctx: FunctionCtx, grad: Tensor) -> Tensor:
        acts, ratio = ctx.saved_tensors  # type: ignore[attr-defined]
        wide, ratio = widened(acts), ratio[:, None]
        gradient = wide.sign().addcmul_(wide, ratio, value=-1)
        return gradient.mul_(ratio * (2 * grad / acts.numel())).to(acts.dtype)
