"""An MLP whose output is a sum of a few codes of a learned codebook."""

from collections.abc import Callable
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.autograd import Function
from torch.nn.functional import normalize

from tti.models.mlp import DenseMLP, Draws, FeedForward
from tti.models.symmetry import folded
from tti.models.taps import Tap, scoped


class StraightThrough(Function):
    """``stand_in``, with its gradient passed on to ``original`` as well, as if the two were equal."""

    @staticmethod
    def forward(ctx: Any, stand_in: Tensor, original: Tensor) -> Tensor:
        return stand_in.view_as(stand_in)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor]:
        return grad, grad


class CodebookMLP(FeedForward):
    """A dense MLP whose output is replaced by the sum of the ``k`` codes with the largest cosine to it.

    Tamkin, Taufeeque & Goodman (2023), "Codebook Features": the codes learn from the loss, and the dense MLP from the
    same gradient, passed straight through. Add ``regularizer=reconstruction``: only the direction of what the dense MLP
    writes has an effect, so that from scratch its size, and the codes after it, grow without bound. They put codebooks
    on attention heads too, and fine-tune; here they are in MLPs only, and trained from scratch. (Their code has inner
    products in place of cosines, and means in place of sums.)

    The codes take the sites of a hidden layer: ``pre`` are the inner products with codes of norm 1, ``post`` is 1 for a
    code in use and else 0. The sites of the dense MLP are ``dense.pre`` and ``dense.post``; ``error`` is what the codes
    write minus what the dense MLP wrote.

    How it can be gamed: a code is either on or off, so it is sparse whatever it means; and codes that are never chosen
    are exactly 0.

    Args:
        d_model: width of the residual stream.
        d_ff: hidden units of the dense MLP.
        activation: activation function of the dense MLP.
        codes: size of the codebook.
        k: codes per token.

    Raises:
        ValueError: ``k`` exceeds ``codes``.
    """

    def __init__(self, d_model: int, d_ff: int, activation: Callable[[Tensor], Tensor], codes: int, k: int) -> None:
        super().__init__()
        if not 1 <= k <= codes:
            raise ValueError(f"k={k} codes per token must be from 1 to the {codes} of the codebook")
        with torch.random.fork_rng(devices=[]):  # keeps the random state that a dense MLP alone would leave
            self.out = nn.Linear(codes, d_model, bias=False)
        self.dense = DenseMLP(d_model, d_ff, activation)
        self.k = k

    def forward(self, x: Float[Tensor, "token d_model"], tap: Tap) -> Float[Tensor, "token d_model"]:
        written = self.dense(x, scoped(tap, "dense"))
        pre = tap("pre", written @ normalize(self.out.weight, dim=0))
        chosen = pre.topk(self.k, dim=-1, sorted=False).indices
        post = tap("post", torch.zeros_like(pre).scatter(-1, chosen, 1.0))
        coded = self.out(post)
        tap("error", coded - written)
        return StraightThrough.apply(coded, written)

    def draws(self, std: float, residual_std: float) -> Draws:
        """The dense MLP's draws, except that the codes, not the dense MLP, write into the residual stream."""
        return self.dense.draws(std, std)._replace(added=[(self.out.weight, residual_std)])

    @property
    def weights_per_token(self) -> int:
        """The dense MLP's, and the codes once: the inner products, without a backward pass, are left out."""
        return self.dense.weights_per_token + self.out.weight.numel()

    def writes(self, site: str) -> Float[Tensor, "d_model width"] | None:
        return self.out.weight if site == "post" else None

    def reads(self, site: str) -> Float[Tensor, "width d_model"] | None:
        """Input weights of the dense MLP's neurons: only these read the residual stream."""
        return self.dense.reads(site.removeprefix("dense.")) if site.startswith("dense.") else None

    @property
    def width(self) -> int:
        return self.out.in_features

    def permute(self, order: Int[Tensor, "width"]) -> None:
        self.out.weight.data = self.out.weight[:, order]

    def rotate(self, norm: nn.LayerNorm, rotation: Float[Tensor, "d_model d_model"]) -> None:
        self.dense.inp = folded(self.dense.inp, norm, rotation)
        for written in (self.dense.out.weight, self.out.weight):
            written.data = rotation.T @ written
