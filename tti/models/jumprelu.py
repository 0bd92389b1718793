"""An MLP whose neurons have learned thresholds: JumpReLU."""

import math
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.autograd import Function
from torch.nn.functional import relu

from tti.models.mlp import MLP
from tti.models.taps import Tap


class Above(Function):
    """1 where ``pre`` exceeds the threshold, else 0; the threshold has a pseudo-derivative.

    It is ``-K((pre - threshold) / bandwidth) / bandwidth`` with the rectangle kernel K, 1 on [-1/2, 1/2]
    (Rajamanoharan et al. 2024, "Jumping Ahead", equation 12). ``pre`` receives no gradient.
    """

    @staticmethod
    def forward(ctx: Any, pre: Tensor, threshold: Tensor, bandwidth: float) -> Tensor:
        ctx.save_for_backward(pre, threshold)
        ctx.bandwidth = bandwidth
        return (pre > threshold).to(pre.dtype)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[None, Tensor, None]:
        pre, threshold = ctx.saved_tensors
        near = (pre - threshold).abs() <= ctx.bandwidth / 2
        return None, -(grad * near).sum(0) / ctx.bandwidth, None


class JumpReLUMLP(MLP):
    """``out(x * [x > threshold])`` with a positive threshold per neuron, which is trained (Rajamanoharan et al. 2024).

    The paper uses it in sparse autoencoders; here it is the model's own activation function. The site ``open`` is 1
    where a neuron exceeds its threshold: ``regularizer=l0`` lowers its mean, the fraction of active neurons. The
    gradient of the thresholds has ``x`` where the paper's equation 11 has the threshold: within the kernel's bandwidth
    the two are alike.

    Args:
        d_model: width of the residual stream.
        d_ff: hidden neurons.
        threshold: initial threshold of every neuron.
        bandwidth: width of the kernel, in units of the pre-activations.

    Raises:
        ValueError: ``threshold`` or ``bandwidth`` is not above 0.
    """

    def __init__(self, d_model: int, d_ff: int, threshold: float, bandwidth: float) -> None:
        super().__init__(d_model, d_ff, relu)
        if not (threshold > 0 and bandwidth > 0):
            raise ValueError(f"threshold={threshold} and bandwidth={bandwidth} of JumpReLU must be above 0")
        self.log_threshold = nn.Parameter(torch.full((d_ff,), math.log(threshold)))
        self.bandwidth = bandwidth

    def forward(self, x: Float[Tensor, "token d_model"], tap: Tap) -> Float[Tensor, "token d_model"]:
        pre = tap("pre", self.inp(x))
        return self.out(tap("post", pre * tap("open", self._open(pre))))

    def hidden(self, pre: Tensor) -> Tensor:
        return pre * self._open(pre)

    def _open(self, pre: Tensor) -> Tensor:
        return Above.apply(pre, self.log_threshold.exp(), self.bandwidth)

    def permute(self, order: Int[Tensor, "width"]) -> None:
        super().permute(order)
        self.log_threshold.data = self.log_threshold[order]

    def rescale(self, factor: float) -> None:
        super().rescale(factor)
        self.log_threshold.data += math.log(factor)

    def duplicate(self) -> None:
        super().duplicate()
        self.log_threshold.data = self.log_threshold.repeat(2)
