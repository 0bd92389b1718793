"""Hoyer: a token's activation should be carried by few neurons."""

import torch
from jaxtyping import Float
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import FunctionCtx, once_differentiable

from tti.measures import widened
from tti.regularizers.base import ActivationRegularizer
from tti.step import Step


class Hoyer(ActivationRegularizer):
    """Mean over tokens of ``(|a|_1 / |a|_2)**2 / width``: ``1 / width`` if one neuron is on, 1 if all are on alike.

    The effective fraction of neurons that are on: ``k / width`` for k equal ones and the rest 0. The ratio of norms is
    Hoyer's (2004, "Non-negative matrix factorization with sparseness constraints"), its square the Hoyer-Square of
    Yang, Wen and Li (2020, "DeepHoyer", eq. 3). They apply it to all weights of a layer together; here it is each
    token's activations, divided by their number. A token on which all is 0 counts 0, with gradient 0.

    Scale is no way out. What games it: a few neurons that are large on every token, which make the others small beside
    them and say nothing; read it beside the always-on fraction.
    """

    def penalty(self, acts: Float[Tensor, "token width"], step: Step) -> Float[Tensor, ""]:
        return _MeanHoyer.apply(acts)


class _MeanHoyer(Function):
    """Keeps the activations and one number a token.

    With ``r = |a|_1 / |a|_2**2`` the gradient of a token's ``(|a|_1 / |a|_2)**2`` is ``2 r (sign(a) - r a)``.
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
