"""A GPT-2 style decoder over flat batches of stories, with a tap at every named site.

Site names are TransformerLens' without ``hook_`` (``docs/sites.md`` lists them with their shapes).
"""

from collections.abc import Callable
from functools import cached_property
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from tti.models.cross_entropy import SoftMax, linear_cross_entropy, soft_max_
from tti.models.mlp import MLP
from tti.models.stories import Separate, Stories
from tti.models.taps import Tap, no_tap, scoped

INIT_STD = 0.02  # GPT-2's
BASE_WIDTH = 384  # of the base model, at which the two rules of initialisation agree


class Attention(nn.Module):
    """Multi-head causal attention within each story; ``dropout`` acts on the attention weights."""

    def __init__(self, d_model: int, n_heads: int, dropout: float, bias: bool = False) -> None:
        super().__init__()
        self.qkv = nn.Linear(d_model, 3 * d_model, bias=bias)
        self.out = nn.Linear(d_model, d_model, bias=bias)
        self.n_heads = n_heads
        self.dropout = dropout

    def forward(self, x: Float[Tensor, "token d_model"], stories: Stories, tap: Tap) -> Float[Tensor, "token d_model"]:
        q, k, v = self.qkv(x).view(len(x), 3, self.n_heads, -1).unbind(1)
        qkv = torch.stack((tap("q", q), tap("k", k), tap("v", v)), dim=1)
        z = tap("z", stories.attend(qkv, self.dropout if self.training else 0.0))
        return self.out(z.flatten(1))


class Block(nn.Module):
    """Pre-LayerNorm block: attention, then the MLP, each added to the residual stream after dropout."""

    def __init__(self, attn: Attention, mlp: MLP, d_model: int, dropout: float) -> None:
        super().__init__()
        self.ln1 = nn.LayerNorm(d_model)
        self.attn = attn
        self.ln2 = nn.LayerNorm(d_model)
        self.mlp = mlp
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Float[Tensor, "token d_model"], stories: Stories, tap: Tap) -> Float[Tensor, "token d_model"]:
        x = tap("resid_pre", x)
        attn_out = self.attn(tap("ln1.normalized", self.ln1(x)), stories, scoped(tap, "attn"))
        x = tap("resid_mid", x + self.dropout(tap("attn_out", attn_out)))
        mlp_out = self.mlp(tap("ln2.normalized", self.ln2(x)), scoped(tap, "mlp"))
        return tap("resid_post", x + self.dropout(tap("mlp_out", mlp_out)))


class GPT(nn.Module):
    """Decoder with learned positions, biased LayerNorms, and the embedding tied to the head.

    Args:
        vocab_size: token types.
        context: most tokens of a story that the model can see.
        mlp: makes a block's MLP from ``d_model`` (a class of ``tti.models.mlp`` with its other arguments bound).
        dropout: on the embedding and on what attention and MLP write into the residual stream.
        attention_dropout: on the attention weights; off by default (0.1 in ``model=original``).
        bias: of attention's linears, which only models from elsewhere have (``tti.huggingface.gpt2``); an MLP has its
            own say.
        init_std: standard deviation of the initial weights. ``None`` scales it with the width, ``0.02 * sqrt(384 /
            d_model)``, so that pre-activations are as large in a narrow model as in the base model. (At a fixed 0.02 a
            narrow model's GELUs begin nearly linear, and whatever bends them seems to lower the loss.)

    Weights are drawn from N(0, init_std^2), biases are 0, and what writes into the residual stream is divided by
    ``sqrt(2 * n_layers)`` (Radford et al. 2019, section 2.3).

    Raises:
        ValueError: ``d_model`` is not a multiple of ``n_heads``.
    """

    def __init__(
        self,
        vocab_size: int,
        context: int,
        n_layers: int,
        d_model: int,
        n_heads: int,
        mlp: Callable[[int], MLP],
        dropout: float,
        attention_dropout: float,
        bias: bool = False,
        init_std: float | None = INIT_STD,
    ) -> None:
        super().__init__()
        if d_model % n_heads:
            raise ValueError(f"d_model={d_model} is not a multiple of n_heads={n_heads}")
        self.context = context
        self.embed = nn.Embedding(vocab_size, d_model)
        self.pos_embed = nn.Embedding(context, d_model)
        self.dropout = nn.Dropout(dropout)
        self.blocks = nn.ModuleList(
            Block(Attention(d_model, n_heads, attention_dropout, bias), mlp(d_model), d_model, dropout)
            for _ in range(n_layers)
        )
        self.ln_final = nn.LayerNorm(d_model)
        self._soft_max: SoftMax = soft_max_
        self._initialise(INIT_STD * (BASE_WIDTH / d_model) ** 0.5 if init_std is None else init_std)

    def forward(
        self, tokens: Int[Tensor, "token"], stories: Stories, tap: Tap = no_tap
    ) -> Float[Tensor, "token d_model"]:
        """The final hidden state of every token, after the last LayerNorm: what the head reads."""
        x = tap("embed", self.embed(tokens)) + tap("pos_embed", self.pos_embed(stories.positions))
        x = self.dropout(x)
        for i, block in enumerate(self.blocks):
            x = block(x, stories, scoped(tap, f"blocks.{i}"))
        return tap("ln_final.normalized", self.ln_final(x))

    def logits(self, hidden: Float[Tensor, "token d_model"]) -> Float[Tensor, "token vocab"]:
        """The head. For single tokens; a loss over many takes :meth:`loss`, which never holds all of this."""
        return hidden @ self.embed.weight.T

    def loss(
        self, hidden: Float[Tensor, "token d_model"], targets: Int[Tensor, "token"]
    ) -> tuple[Float[Tensor, ""], Float[Tensor, "token"]]:
        """Mean cross-entropy in nats, and every token's own, detached."""
        return linear_cross_entropy(hidden, self.embed.weight, targets, self._soft_max)

    def compile(self, *args: Any, **kwargs: Any) -> None:
        """``torch.compile`` the forward pass, and the soft-max of the loss."""
        super().compile(*args, **kwargs)
        self._soft_max = torch.compile(soft_max_, *args, **kwargs)

    @cached_property
    def sites(self) -> dict[str, int]:
        """Every site in the order of the forward pass, with its width: numbers a token, over all heads together.

        Found by running one token, so that the list cannot drift from what the model does.
        """
        widths: dict[str, int] = {}

        def listing(site: str, activation: Tensor) -> Tensor:
            widths[site] = activation[0].numel()
            return activation

        training, device = self.training, self.embed.weight.device
        self.eval()
        with torch.no_grad():
            self.forward(torch.zeros(1, dtype=torch.long, device=device), Separate.of([1]).to(device), listing)
        self.train(training)
        return widths

    @property
    def vocab_size(self) -> int:
        """Number of token types."""
        return self.embed.num_embeddings

    def _initialise(self, std: float) -> None:
        """Draw all weights; what an MLP has beside a dense one last, so that all else begins as in a dense model."""
        blocks = [module for module in self.modules() if isinstance(module, Block)]
        added = [linear for block in blocks for linear in block.mlp.added]
        writers = [weight for block in blocks for weight in (block.attn.out.weight, *block.mlp.residual_writers)]
        small = {id(weight): std / (2 * len(blocks)) ** 0.5 for weight in writers}
        for module in self.modules():
            if isinstance(module, nn.Linear | nn.Embedding) and module not in added:
                nn.init.normal_(module.weight, std=std)
            if isinstance(module, nn.Linear) and module.bias is not None:
                nn.init.zeros_(module.bias)
        again = [weight for block in blocks for weight in (block.attn.out.weight, block.mlp.residual_reader.out.weight)]
        for weight in (*again, *(linear.weight for linear in added)):
            nn.init.normal_(weight, std=small.get(id(weight), std))
