"""An MLP that keeps the largest activations of a batch: BatchTopK."""

from collections.abc import Callable

import torch
from torch import Tensor

from tti.models.mlp import TopKMLP

PACE = 0.01
"""How fast the threshold of evaluation follows the smallest activation kept in training."""


class BatchTopKMLP(TopKMLP):
    """Keeps ``keep`` of all (token, neuron) of a micro-batch, by magnitude: tokens that need more neurons get more.

    Bussmann, Leask & Nanda (2024) use it in sparse autoencoders; here it is the model's own activation function. In
    evaluation a token must not depend on others: activations above ``threshold`` are kept, the running mean of the
    smallest magnitude kept in training. Before any training each token keeps its own largest.

    Args:
        d_model: width of the residual stream.
        d_ff: hidden neurons.
        activation: activation function before the choice.
        keep: fraction of activations kept, in (0, 1].
    """

    threshold: Tensor

    def __init__(self, d_model: int, d_ff: int, activation: Callable[[Tensor], Tensor], keep: float) -> None:
        super().__init__(d_model, d_ff, activation, keep)
        self.register_buffer("threshold", torch.tensor(-1.0))  # below 0: not known yet

    def hidden(self, pre: Tensor) -> Tensor:
        if self.training:
            return self._largest(self.activation(pre))
        if self.threshold.is_meta or self.threshold < 0:
            return super().hidden(pre)
        post = self.activation(pre)
        return post * (post.abs() > self.threshold)

    def _largest(self, post: Tensor) -> Tensor:
        values = post.flatten()
        kept = values.abs().topk(self.k * len(post), sorted=False).indices
        smallest = values.detach()[kept].abs().amin().float()
        followed = torch.lerp(self.threshold, smallest, PACE)
        self.threshold = torch.where(self.threshold < 0, smallest, followed)
        return torch.zeros_like(values).scatter(0, kept, values[kept]).view_as(post)

    def rescale(self, factor: float) -> None:
        super().rescale(factor)
        self.threshold *= factor
