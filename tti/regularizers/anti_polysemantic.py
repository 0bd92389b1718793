"""Anti-polysemanticity: a neuron should concentrate its activation on few token types."""

from jaxtyping import Float, Int
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import FunctionCtx, once_differentiable

from tti.measures import type_entropy_with_gradient, type_mass
from tti.regularizers.base import ActivationRegularizer
from tti.step import Step


class AntiPolysemantic(ActivationRegularizer):
    """Mean over neurons of the entropy (nats) of their activation mass over the batch's input token types.

    ``H(p_j)`` with ``p_j(v)`` proportional to the sum of ``|a[t, j]|`` over the tokens of type ``v``: 0 for a neuron
    that responds to one type, at most the log of the number of types in the (micro-)batch of one process. Neurons that
    are silent in the batch are excluded from the mean and logged as ``train/<name>/silent``.

    How it can be gamed: by collapse, since neurons that all respond to the same tokens have low entropy; read it
    alongside the mean absolute cosine.
    """

    def penalty(self, acts: Float[Tensor, "token width"], step: Step) -> Float[Tensor, ""]:
        mean, silent = _MeanTypeEntropy.apply(acts, step.batch.types, step.batch.n_types)
        step.note("silent", silent)
        return mean


class _MeanTypeEntropy(Function):
    """Mean type entropy whose closed-form gradient is one ``[type, width]`` table, read at the tokens' types."""

    @staticmethod
    def forward(
        ctx: FunctionCtx, acts: Float[Tensor, "token width"], types: Int[Tensor, "token"], n_types: int
    ) -> tuple[Tensor, Tensor]:
        mean, gradient, active = type_entropy_with_gradient(type_mass(acts, types, n_types))
        ctx.save_for_backward(acts, types, gradient)
        silent = (~active).sum()
        ctx.mark_non_differentiable(silent)
        return mean, silent

    @staticmethod
    @once_differentiable
    def backward(ctx: FunctionCtx, grad: Tensor, _: Tensor) -> tuple[Tensor, None, None]:
        acts, types, gradient = ctx.saved_tensors  # type: ignore[attr-defined]
        table = (gradient * grad).to(acts.dtype)  # rounded before the copy to every token: a sign changes no rounding
        return table.index_select(0, types).mul_(acts.sign()), None, None
