"""The exchangeable MLPs of a transformer block.

Each maps ``[token, d_model]`` to ``[token, d_model]``, offers its hidden layer at the sites ``pre`` (before the
non-linearity) and ``post`` (what the output matrix reads), and names its weights that write into the residual
stream, ``residual_writers``. A new one needs those three things and nothing else.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor, nn

from tti.models.taps import Tap


class MLP(nn.Module, ABC):
    """``out(hidden(inp(x)))`` without biases. Subclasses say what happens in the hidden layer."""

    def __init__(self, d_model: int, d_ff: int, activation: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.inp = nn.Linear(d_model, d_ff, bias=False)
        self.out = nn.Linear(d_ff, d_model, bias=False)
        self.activation = activation

    def forward(self, x: Float[Tensor, "token d_model"], tap: Tap) -> Float[Tensor, "token d_model"]:
        return self.out(tap("post", self.hidden(tap("pre", self.inp(x)))))

    @property
    def residual_writers(self) -> list[Tensor]:
        """The weights that write into the residual stream, which the transformer initialises smaller."""
        return [self.out.weight]

    @property
    def residual_reader(self) -> "MLP":
        """The MLP whose ``inp`` reads the residual stream: this one, unless another stands before it."""
        return self

    @property
    def added(self) -> list[nn.Linear]:
        """The linears that a dense MLP has no counterpart of, whose weights the transformer draws last."""
        return []

    @abstractmethod
    def hidden(self, pre: Float[Tensor, "token d_ff"]) -> Float[Tensor, "token d_ff"]:
        """What the output matrix reads, from what the input matrix wrote."""


class DenseMLP(MLP):
    """GPT-2's MLP: every hidden unit takes part. ``activation`` is a function such as ``torch.nn.functional.gelu``."""

    def hidden(self, pre: Tensor) -> Tensor:
        return self.activation(pre)


class TopKMLP(MLP):
    """Keeps, per token, the ``keep`` fraction of hidden units that are largest in magnitude, and zeroes the others.

    The gradient passes through the kept units only. Of equal magnitudes those that ``torch.topk`` picks are kept, so
    that exactly ``round(keep * d_ff)`` units (at least one) are open.

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
