"""Anti-polysemanticity: a neuron's activation should be spent on few token types."""

from jaxtyping import Float, Int
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import FunctionCtx, once_differentiable

from tti.measures import type_entropy_with_gradient, type_mass
from tti.regularizers.base import ActivationRegularizer
from tti.step import Step


class AntiPolysemantic(ActivationRegularizer):
    """Mean over neurons of the entropy (nats) of their activation mass over the input token types of the batch.

    ``H(p_j)`` with ``p_j(v)`` proportional to the sum of ``|a[t, j]|`` over the tokens of type ``v``: 0 for a neuron
    that answers to one type, at most the log of the number of types in the (micro-)batch of one process. Neurons that
    are silent in the batch are left out of the mean and logged as ``train/<name>/silent``.
    """

    def penalty(self, acts: Float[Tensor, "token width"], step: Step) -> Float[Tensor, ""]:
        mean, silent = _MeanTypeEntropy.apply(acts, step.batch.types, step.batch.n_types)
        step.note("silent", silent)
        return mean


class _MeanTypeEntropy(Function):
    """The closed-form gradient is one table of ``[type, width]`` read back at the tokens' types."""

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
        table = (gradient * grad).to(acts.dtype)  # rounded before it is copied to every token: a sign changes nothing
        return table.index_select(0, types).mul_(acts.sign()), None, None
