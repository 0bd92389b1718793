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
    """Mean over neuron pairs ``i != j`` of ``r_ij**2``, the squared Pearson correlation over the batch's tokens.

    Based on DeCov (Cogswell, Ahmed, Girshick, Zitnick and Batra 2016, "Reducing overfitting in deep networks by
    decorrelating representations", eq. 1), half the sum of the squared off-diagonal *covariances*. Correlations are
    used here so that changing scale does not help, and a mean over pairs so that widths are comparable. Unlike
    ``Orthogonality``, it ignores the mean activation, and its gradient is larger for strong correlations than for weak
    ones.

    The floor for independent neurons is ``1 / (N - 1)`` with N tokens. How it can be gamed: by dead and constant
    neurons, which count as uncorrelated, and by neurons that depend on each other without being correlated.
    """

    def penalty(self, acts: Float[Tensor, "token width"], step: Step) -> Float[Tensor, ""]:
        return _MeanSquaredCorrelation.apply(self.sampled(acts))


class _MeanSquaredCorrelation(Function):
    """Value and gradient from the covariance; its centred copy of the activations is freed immediately."""

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
