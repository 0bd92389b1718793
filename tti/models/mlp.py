"""Interchangeable MLPs of a transformer block.

:class:`FeedForward` is the contract. :class:`MLP` implements it with an input and an output matrix; its subclasses
define only the hidden layer.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn.functional import gelu

from tti.models.stories import Stories
from tti.models.symmetry import InapplicableError, folded
from tti.models.taps import Tap

Draw = tuple[Tensor, float]
"""A weight and the standard deviation of its normal initialization."""


class Draws(NamedTuple):
    """How a module's weights are initialized, in the order of the draws.

    The network draws the ``first`` of all modules, then the ``again`` of all modules (weights that write into the
    residual stream, with a smaller standard deviation), then the ``added`` of all modules. Weights that a dense MLP
    does not have go into ``added``. An MLP without the dense MLP's matrices creates a :class:`DenseMLP` that is not
    registered as a submodule, and extends its draws, so that everything outside the MLP starts as in every other
    variant.
    """

    first: list[Draw]
    again: list[Draw] = []  # noqa: RUF012  (never written to)
    added: list[Draw] = []  # noqa: RUF012


class FeedForward(nn.Module, ABC):
    """Maps ``[token, d_model]`` to ``[token, d_model]``, and describes its own weights.

    Sites are named relative to the MLP: ``post`` for the network's ``blocks.3.mlp.post``. The hidden layer is at
    ``pre`` (before the non-linearity) and ``post`` (the input of the output matrix).
    """

    by_token = True
    """Whether a token's output depends on that token only."""
    needs = ""
    """What the output depends on besides the token, which an export cannot pass to it; empty if nothing."""
    groups = 0
    """Number of groups of stories (``Stories.group``) that it tells apart; 0 if it needs none."""

    @abstractmethod
    def forward(self, x: Float[Tensor, "token d_model"], tap: Tap) -> Float[Tensor, "token d_model"]:
        """The MLP's output, which is added to the residual stream."""

    def among(
        self, x: Float[Tensor, "token d_model"], layout: Stories | None, tap: Tap
    ) -> Float[Tensor, "token d_model"]:
        """Like :meth:`forward`, for the tokens of several stories; ``layout`` None means a single story."""
        return self(x, tap)

    @abstractmethod
    def draws(self, std: float, residual_std: float) -> Draws:
        """Initialization: ``residual_std`` for matrices that write into the residual stream, ``std`` for the rest."""

    @property
    @abstractmethod
    def weights_per_token(self) -> int:
        """Entries of the matrices that multiply a token; in a mixture of experts, of the experts it uses."""

    @property
    def described(self) -> str:
        """What it is, for a model card."""
        return f"of class {type(self).__name__}"

    def writes(self, site: str) -> Float[Tensor, "d_model width"] | None:
        """Output weights of each neuron of a site, one column per neuron; None if it does not write out."""
        return None

    def reads(self, site: str) -> Float[Tensor, "width d_model"] | None:
        """Input weights of each neuron of a site, one row per neuron; None if it does not read the residual stream."""
        return None

    # -- equivalent reparametrisations; an InapplicableError if the MLP lacks the symmetry -----------------------------

    @property
    def width(self) -> int:
        """Number of hidden neurons, for :meth:`permute`."""
        raise InapplicableError(f"{type(self).__name__} has no single hidden layer")

    def permute(self, order: Int[Tensor, "width"]) -> None:
        """Reorder the hidden neurons."""
        raise InapplicableError(f"{type(self).__name__} has no hidden neurons to permute")

    def rescale(self, factor: float) -> None:
        """Multiply hidden activations by ``factor``, and divide their output weights by it."""
        raise InapplicableError(f"{type(self).__name__} has no hidden activations to rescale")

    def duplicate(self) -> None:
        """Duplicate every hidden neuron; each copy writes half."""
        raise InapplicableError(f"{type(self).__name__} has no hidden neurons to duplicate")

    def rotate(self, norm: nn.LayerNorm, rotation: Float[Tensor, "d_model d_model"]) -> None:
        """Read and write in a rotated basis of the residual stream, with the gain and bias of ``norm`` folded in."""
        raise InapplicableError(f"{type(self).__name__} cannot be rewritten in another basis")


class MLP(FeedForward):
    """``out(hidden(inp(x)))``, by default without biases. Subclasses define ``hidden``."""

    def __init__(self, d_model: int, d_ff: int, activation: Callable[[Tensor], Tensor], bias: bool = False) -> None:
        super().__init__()
        self.inp = nn.Linear(d_model, d_ff, bias=bias)
        self.out = nn.Linear(d_ff, d_model, bias=bias)
        self.activation = activation

    def forward(self, x: Float[Tensor, "token d_model"], tap: Tap) -> Float[Tensor, "token d_model"]:
        return self.out(tap("post", self.hidden(tap("pre", self.inp(x)))))

    @abstractmethod
    def hidden(self, pre: Float[Tensor, "token d_ff"]) -> Float[Tensor, "token d_ff"]:
        """Activations that the output matrix reads, computed from the pre-activations."""

    def draws(self, std: float, residual_std: float) -> Draws:
        inp, out = self.inp.weight, self.out.weight
        return Draws(first=[(inp, std), (out, std)], again=[(out, residual_std)])

    @property
    def weights_per_token(self) -> int:
        return self.inp.weight.numel() + self.out.weight.numel()

    def writes(self, site: str) -> Float[Tensor, "d_model width"] | None:
        return self.out.weight if site == "post" else None

    def reads(self, site: str) -> Float[Tensor, "width d_model"] | None:
        return self.inp.weight if site in ("pre", "post") else None

    @property
    def width(self) -> int:
        return self.inp.out_features

    def permute(self, order: Int[Tensor, "width"]) -> None:
        for parameter in self.inp.parameters():
            parameter.data = parameter[order]
        self.out.weight.data = self.out.weight[:, order]

    def rescale(self, factor: float) -> None:
        probe = torch.linspace(-3, 3, 101)
        if not torch.allclose(self.activation(probe * factor), self.activation(probe) * factor):
            raise InapplicableError("its activation function is not homogeneous")
        for parameter in self.inp.parameters():
            parameter.data *= factor
        self.out.weight.data /= factor

    def duplicate(self) -> None:
        for parameter in self.inp.parameters():
            parameter.data = torch.cat([parameter, parameter])
        self.out.weight.data = self.out.weight.repeat(1, 2) / 2

    def rotate(self, norm: nn.LayerNorm, rotation: Float[Tensor, "d_model d_model"]) -> None:
        self.inp = folded(self.inp, norm, rotation)
        for written in self.out.parameters():
            written.data = rotation.T @ written


class DenseMLP(MLP):
    """GPT-2's MLP: every hidden unit is used. ``activation`` is a function such as ``torch.nn.functional.gelu``."""

    def hidden(self, pre: Tensor) -> Tensor:
        return self.activation(pre)


class TopKMLP(MLP):
    """Keeps, per token, the ``keep`` fraction of hidden units with the largest magnitude, and zeroes the others.

    Gradients pass through the kept units only. Ties are broken by ``torch.topk``, so that exactly ``round(keep *
    d_ff)`` units (at least one) are kept.

    Raises:
        ValueError: ``keep`` is not in (0, 1].
    """

    def __init__(self, d_model: int, d_ff: int, activation: Callable[[Tensor], Tensor], keep: float) -> None:
        super().__init__(d_model, d_ff, activation)
        if not 0 < keep <= 1:
            raise ValueError(f"keep={keep} must be a fraction in (0, 1] of the {d_ff} hidden units")
        self.k = max(1, round(keep * d_ff))

    def hidden(self, pre: Tensor) -> Tensor:
        post = self.activation(pre)
        kept = post.abs().topk(self.k, dim=-1, sorted=False).indices
        return torch.zeros_like(post).scatter(-1, kept, post.gather(-1, kept))

    def duplicate(self) -> None:
        raise InapplicableError("duplicates would compete for the top-k places")


def gelu_tanh(pre: Tensor) -> Tensor:
    """GELU as GPT-2 computes it (``gelu_new``): the tanh approximation, within 5e-4 of the exact function."""
    return gelu(pre, approximate="tanh")
