"""A plain GPT-2 over rectangles of tokens: the network of the loops that this project is compared with.

Its parameters have the names of ``tti.models.gpt.GPT``, so that either loads the other's weights.
"""

from collections.abc import Callable

import torch
from jaxtyping import Float, Int
from omegaconf import DictConfig
from torch import Tensor, nn
from torch.nn import functional as F

from tti.benchmarking.sample import UNSCORED

INIT_STD = 0.02
Attend = Callable[[Tensor, Tensor, Tensor, float], Tensor]
"""Maps ``(q, k, v, dropout)``, tensors of ``[row, head, position, d_head]``, to the mixed values, of the same shape."""


class Attention(nn.Module):
    """Multi-head attention; ``attend`` is what a loop computes between the projections."""

    def __init__(self, d_model: int, n_heads: int, dropout: float, attend: Attend) -> None:
        super().__init__()
        self.qkv = nn.Linear(d_model, 3 * d_model, bias=False)
        self.out = nn.Linear(d_model, d_model, bias=False)
        self.n_heads, self.dropout, self.attend = n_heads, dropout, attend

    def forward(self, x: Float[Tensor, "row position d_model"]) -> Float[Tensor, "row position d_model"]:
        q, k, v = (part.unflatten(-1, (self.n_heads, -1)).transpose(1, 2) for part in self.qkv(x).chunk(3, -1))
        mixed = self.attend(q, k, v, self.dropout if self.training else 0.0)
        return self.out(mixed.transpose(1, 2).flatten(2))


class MLP(nn.Module):
    """The MLP of GPT-2, with the exact GELU."""

    def __init__(self, d_model: int, d_ff: int) -> None:
        super().__init__()
        self.inp = nn.Linear(d_model, d_ff, bias=False)
        self.out = nn.Linear(d_ff, d_model, bias=False)

    def forward(self, x: Float[Tensor, "row position d_model"]) -> Float[Tensor, "row position d_model"]:
        return self.out(F.gelu(self.inp(x)))


class Block(nn.Module):
    """Attention, then the MLP, each added to the residual stream after dropout."""

    def __init__(self, config: DictConfig, attend: Attend) -> None:
        super().__init__()
        self.ln1 = nn.LayerNorm(config.d_model)
        self.attn = Attention(config.d_model, config.n_heads, config.attention_dropout, attend)
        self.ln2 = nn.LayerNorm(config.d_model)
        self.mlp = MLP(config.d_model, config.mlp.d_ff)
        self.dropout = nn.Dropout(config.dropout)

    def forward(self, x: Float[Tensor, "row position d_model"]) -> Float[Tensor, "row position d_model"]:
        x = x + self.dropout(self.attn(self.ln1(x)))
        return x + self.dropout(self.mlp(self.ln2(x)))


class Transformer(nn.Module):
    """A dense network with the sizes and dropouts of a ``model`` configuration and a tied head."""

    def __init__(self, config: DictConfig, attend: Attend, vocab_size: int) -> None:
        super().__init__()
        self.embed = nn.Embedding(vocab_size, config.d_model)
        self.pos_embed = nn.Embedding(config.context, config.d_model)
        self.dropout = nn.Dropout(config.dropout)
        self.blocks = nn.ModuleList(Block(config, attend) for _ in range(config.n_layers))
        self.ln_final = nn.LayerNorm(config.d_model)
        for parameter in self.parameters():
            if parameter.ndim == 2:
                nn.init.normal_(parameter, std=INIT_STD)

    def forward(self, tokens: Int[Tensor, "row position"], targets: Int[Tensor, "row position"]) -> Float[Tensor, ""]:
        """Mean cross-entropy in nats over the targets that are not ``UNSCORED``, through the full logits."""
        positions = torch.arange(tokens.shape[1], device=tokens.device)
        x = self.dropout(self.embed(tokens) + self.pos_embed(positions))
        for block in self.blocks:
            x = block(x)
        return self.loss(self.ln_final(x), targets)

    def loss(
        self, hidden: Float[Tensor, "row position d_model"], targets: Int[Tensor, "row position"]
    ) -> Float[Tensor, ""]:
        """The head and the cross-entropy."""
        logits = F.linear(hidden, self.embed.weight)
        return F.cross_entropy(logits.flatten(0, 1), targets.flatten(), ignore_index=UNSCORED)
