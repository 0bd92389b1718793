"""L1: activations should be small."""

from jaxtyping import Float
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import FunctionCtx, once_differentiable

from tti.measures import widened
from tti.regularizers.base import ActivationRegularizer
from tti.step import Step


class L1(ActivationRegularizer):
    """Mean over tokens and neurons of ``|a|`` (the original project's; a sum over neurons would be ``width`` times it).

    What games it: shrinking the activations while the next matrix grows.
    """

    def penalty(self, acts: Float[Tensor, "token width"], step: Step) -> Float[Tensor, ""]:
        return _MeanAbs.apply(acts)


class _MeanAbs(Function):
    """Keeps only the activations, of which autograd would add a float32 copy where they are rounded."""

    @staticmethod
    def forward(ctx: FunctionCtx, acts: Float[Tensor, "token width"]) -> Tensor:
        ctx.save_for_backward(acts)
        return widened(acts.abs()).mean()

    @staticmethod
    @once_differentiable
    def backward(ctx: FunctionCtx, grad: Tensor) -> Tensor:
        (acts,) = ctx.saved_tensors  # type: ignore[attr-defined]
        return acts.sign().mul_(grad / acts.numel())
