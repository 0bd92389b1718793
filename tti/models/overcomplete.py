"""MLPs whose output is written through an overcomplete dictionary: sparsity built into the model."""

from collections.abc import Callable
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import relu

from tti.models.mlp import MLP, DenseMLP, Draws, TopKMLP
from tti.models.symmetry import folded
from tti.models.taps import Tap, scoped


class Overcomplete(MLP):
    """``out(hidden(inp(dense(x))))``: a dense MLP followed by a wide ReLU layer without biases that reads its output.

    The wide layer is a dictionary on the network's only path: the output is a sum of ``out``'s columns. The dictionary
    takes the usual sites, ``pre`` and ``post``, so that objectives and measurements of an MLP's neurons apply to it;
    the sites of the dense MLP are ``dense.pre`` and ``dense.post``. Sparsity comes from a regularizer (``l1``,
    ``decoder_l1``) or from the subclass.

    Args:
        d_model: width of the residual stream.
        d_ff: hidden units of the dense MLP.
        activation: activation function of the dense MLP.
        expansion: width of the dictionary divided by ``d_model``.
        settings: further arguments of the class that defines the wide layer.

    Raises:
        ValueError: ``expansion`` is not positive.
    """

    def __init__(
        self, d_model: int, d_ff: int, activation: Callable[[Tensor], Tensor], expansion: float, **settings: Any
    ) -> None:
        if expansion <= 0:
            raise ValueError(f"expansion={expansion} of the dictionary over d_model={d_model} must be above 0")
        with torch.random.fork_rng(devices=[]):  # keeps the random state that a dense MLP alone would leave
            super().__init__(d_model, round(expansion * d_model), relu, **settings)
        self.dense = DenseMLP(d_model, d_ff, activation)

    def forward(self, x: Float[Tensor, "token d_model"], tap: Tap) -> Float[Tensor, "token d_model"]:
        return super().forward(self.dense(x, scoped(tap, "dense")), tap)

    def draws(self, std: float, residual_std: float) -> Draws:
        """The dense MLP's draws, except that the dictionary, not the dense MLP, writes into the residual stream."""
        added = [(self.inp.weight, std), (self.out.weight, residual_std)]
        return self.dense.draws(std, std)._replace(added=added)

    @property
    def weights_per_token(self) -> int:
        return self.dense.weights_per_token + super().weights_per_token

    def reads(self, site: str) -> Float[Tensor, "width d_model"] | None:
        """Input weights of the dense MLP's neurons: only these read the residual stream."""
        return self.dense.reads(site.removeprefix("dense.")) if site.startswith("dense.") else None

    def rotate(self, norm: nn.LayerNorm, rotation: Float[Tensor, "d_model d_model"]) -> None:
        self.dense.inp = folded(self.dense.inp, norm, rotation)
        self.out.weight.data = rotation.T @ self.out.weight


class OvercompleteMLP(Overcomplete, DenseMLP):
    """Uses every latent that ReLU leaves active."""


class OvercompleteTopKMLP(Overcomplete, TopKMLP):
    """Keeps, per token, the ``keep`` fraction of the dictionary with the largest magnitude."""
