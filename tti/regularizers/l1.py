"""L1: activations should be small."""

from jaxtyping import Float
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import FunctionCtx, once_differentiable

from tti.measures import widened
from tti.regularizers.base import ActivationRegularizer
from tti.step import Step


class L1(ActivationRegularizer):
    """Mean over tokens and neurons of ``|a|``, as in the seed project; a sum over neurons is ``width`` times larger.

    How it can be gamed: by shrinking the activations while the next matrix grows.
    """

    def penalty(self, acts: Float[Tensor, "token width"], step: Step) -> Float[Tensor, ""]:
        return _MeanAbs.apply(acts)


class _MeanAbs(Function):
    """Mean absolute value that saves only the activations; autograd would add a float32 copy under bf16."""

    @staticmethod
    def forward(ctx: FunctionCtx, acts: Float[Tensor, "token width"]) -> Tensor:
        ctx.save_for_backward(acts)
        return widened(acts.abs()).mean()

    @staticmethod
    @once_differentiable
    def backward(ctx: FunctionCtx, grad: Tensor) -> Tensor:
        (acts,) = ctx.saved_tensors  # type: ignore[attr-defined]
        return acts.sign().mul_(grad / acts.numel())
