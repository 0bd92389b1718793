"""An MLP with a gate on every hidden neuron that training can close: L0 regularization."""

import math
from collections.abc import Callable

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from tti.models.mlp import MLP
from tti.models.taps import Tap

LOW, HIGH = -0.1, 1.1  # the stretched interval, gamma and zeta in the paper
TEMPERATURE = 2 / 3  # beta


class HardConcreteGates(nn.Module):
    """Hard-concrete gates (Louizos, Welling & Kingma 2018, equations 10 to 13), independent of the input.

    A gate is ``clamp(stretch(sigmoid((logit(u) + log_alpha) / beta)), 0, 1)`` with ``u`` uniform, drawn once per
    optimizer step for all its tokens (the paper draws once per data point or mini-batch). In evaluation it is
    ``clamp(stretch(sigmoid(log_alpha)), 0, 1)``, which is exactly 0 below ``log_alpha = -2.398``.

    Args:
        width: number of gates.
        learning_rate: learning rate of ``log_alpha``. At the network's learning rate, gates would hardly move within a
            short run.
    """

    noise: Tensor

    def __init__(self, width: int, learning_rate: float) -> None:
        super().__init__()
        self.log_alpha = nn.Parameter(torch.zeros(width))
        self.register_buffer("noise", torch.zeros(width), persistent=False)  # logit(u), redrawn before every step
        self.optimizer_settings = {"lr": learning_rate, "weight_decay": 0.0}

    def draw(self, generator: torch.Generator) -> None:
        """Draw the noise of one optimizer step."""
        uniform = torch.rand(len(self.noise), generator=generator)
        self.noise.copy_(uniform.logit(eps=1e-6), non_blocking=True)

    def forward(self) -> Float[Tensor, "width"]:
        """The gates' values, from 0 (closed) to 1 (open)."""
        smooth = torch.sigmoid((self.noise + self.log_alpha) / TEMPERATURE if self.training else self.log_alpha)
        return (smooth * (HIGH - LOW) + LOW).clamp(0, 1)

    def open_probability(self) -> Float[Tensor, "width"]:
        """Probability that each gate is not exactly 0 in training (equation 12); initially 0.83."""
        return torch.sigmoid(self.log_alpha - TEMPERATURE * math.log(-LOW / HIGH))


class HardConcreteMLP(MLP):
    """A dense MLP with a gate on every hidden neuron, and the site ``open``: each gate's probability of being open.

    ``open`` has one row, ``[1, d_ff]``, since the gates do not depend on the token. ``regularizer=l0`` reads it.
    """

    def __init__(
        self, d_model: int, d_ff: int, activation: Callable[[Tensor], Tensor], gate_learning_rate: float
    ) -> None:
        super().__init__(d_model, d_ff, activation)
        self.gates = HardConcreteGates(d_ff, gate_learning_rate)

    def forward(self, x: Float[Tensor, "token d_model"], tap: Tap) -> Float[Tensor, "token d_model"]:
        tap("open", self.gates.open_probability()[None])
        return super().forward(x, tap)

    def hidden(self, pre: Tensor) -> Tensor:
        return self.activation(pre) * self.gates()

    def permute(self, order: Int[Tensor, "width"]) -> None:
        super().permute(order)
        self.gates.log_alpha.data = self.gates.log_alpha[order]

    def duplicate(self) -> None:
        super().duplicate()
        self.gates.log_alpha.data = self.gates.log_alpha.repeat(2)
        self.gates.noise = self.gates.noise.repeat(2)
