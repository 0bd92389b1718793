"""Decorrelation: no neuron should be predictable from another."""

import torch
from jaxtyping import Float
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import FunctionCtx, once_differentiable

from tti.measures import correlation_gradient, covariance, mean_squared_correlation, widened
from tti.regularizers.pairs import PairRegularizer
from tti.step import Step


class Decorrelation(PairRegularizer):
    """Mean over neuron pairs ``i != j`` of ``r_ij**2``, the squared Pearson correlation over the tokens of the batch.

    After DeCov (Cogswell, Ahmed, Girshick, Zitnick and Batra 2016, "Reducing overfitting in deep networks by
    decorrelating representations", eq. 1), which takes half the sum of the squared *covariances* off the diagonal.
    Here it is correlations, so that scale is no way out, and a mean over pairs, so that widths compare. Beside
    ``Orthogonality`` it does not see the mean activation, and pulls on strong correlations more than on weak ones.

    The floor for independent neurons is ``1 / (N - 1)`` with N tokens. What games it: dead and constant neurons, which
    count as uncorrelated, and neurons that depend on one another without being correlated.
    """

    def penalty(self, acts: Float[Tensor, "token width"], step: Step) -> Float[Tensor, ""]:
        return _MeanSquaredCorrelation.apply(self.sampled(acts))


class _MeanSquaredCorrelation(Function):
    """Value and gradient from the covariance; the centred copy of the activations that it takes is let go at once."""

    @staticmethod
    def forward(ctx: FunctionCtx, acts: Float[Tensor, "token width"]) -> Tensor:
        scatter, mean = covariance(acts)
        ctx.save_for_backward(acts, mean, scatter)
        return mean_squared_correlation(scatter)

    @staticmethod
    @once_differentiable
    def backward(ctx: FunctionCtx, grad: Tensor) -> Tensor:
        acts, mean, scatter = ctx.saved_tensors  # type: ignore[attr-defined]
        with torch.autocast(acts.device.type, enabled=False):
            pull = correlation_gradient(scatter) * grad
            return torch.addmm(-mean @ pull, widened(acts), pull).to(acts.dtype)
