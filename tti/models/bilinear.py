"""An MLP without an activation function: the product of two linear maps."""

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn.functional import gelu

from tti.models.mlp import DenseMLP, Draws, FeedForward
from tti.models.symmetry import folded
from tti.models.taps import Tap


class BilinearMLP(FeedForward):
    """``out(inp(x) * gate(x))``: quadratic in ``x``, so its weights can be analysed without data (Pearce et al. 2024).

    It has as many weights as a dense MLP with ``d_ff`` hidden neurons, and two thirds as many neurons. The sites are
    ``pre`` (``inp(x)``), ``gate`` (``gate(x)``) and ``post``, their product.

    Args:
        d_model: width of the residual stream.
        d_ff: hidden neurons of the dense MLP with as many weights.
    """

    def __init__(self, d_model: int, d_ff: int) -> None:
        super().__init__()
        neurons = round(d_ff * 2 / 3)
        with torch.random.fork_rng(devices=[]):  # so that all else begins as with a dense MLP
            self.inp = nn.Linear(d_model, neurons, bias=False)
            self.gate = nn.Linear(d_model, neurons, bias=False)
            self.out = nn.Linear(neurons, d_model, bias=False)
        self._stand_in = (DenseMLP(d_model, d_ff, gelu),)  # no module; see Draws

    def forward(self, x: Float[Tensor, "token d_model"], tap: Tap) -> Float[Tensor, "token d_model"]:
        return self.out(tap("post", tap("pre", self.inp(x)) * tap("gate", self.gate(x))))

    def draws(self, std: float, residual_std: float) -> Draws:
        added = [(self.inp.weight, std), (self.gate.weight, std), (self.out.weight, residual_std)]
        return self._stand_in[0].draws(std, residual_std)._replace(added=added)

    @property
    def weights_per_token(self) -> int:
        return sum(layer.weight.numel() for layer in (self.inp, self.gate, self.out))

    @property
    def described(self) -> str:
        return f"bilinear, of {self.width} neurons"

    def writes(self, site: str) -> Float[Tensor, "d_model width"] | None:
        return self.out.weight if site == "post" else None

    def reads(self, site: str) -> Float[Tensor, "width d_model"] | None:
        """Input weights at ``pre`` and ``gate``; a neuron at ``post`` reads in two directions."""
        return {"pre": self.inp.weight, "gate": self.gate.weight}.get(site)

    @property
    def width(self) -> int:
        return self.inp.out_features

    def permute(self, order: Int[Tensor, "width"]) -> None:
        for layer in (self.inp, self.gate):
            layer.weight.data = layer.weight[order]
        self.out.weight.data = self.out.weight[:, order]

    def rescale(self, factor: float) -> None:
        self.inp.weight.data *= factor
        self.out.weight.data /= factor

    def duplicate(self) -> None:
        for layer in (self.inp, self.gate):
            layer.weight.data = torch.cat([layer.weight, layer.weight])
        self.out.weight.data = self.out.weight.repeat(1, 2) / 2

    def rotate(self, norm: nn.LayerNorm, rotation: Float[Tensor, "d_model d_model"]) -> None:
        self.inp, self.gate = (folded(layer, norm, rotation) for layer in (self.inp, self.gate))
        self.out.weight.data = rotation.T @ self.out.weight
