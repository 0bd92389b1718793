"""A GPT-2 style decoder over flat batches of stories, with a tap at every named site.

Site names are TransformerLens' names without ``hook_``; ``docs/sites.md`` lists them with their shapes.
"""

from collections.abc import Callable, Iterator
from typing import Any, cast

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from tti.models.bottleneck import SCOPE, Bottleneck
from tti.models.cross_entropy import SoftMax, linear_cross_entropy, soft_max_
from tti.models.decoys import with_detectors
from tti.models.mlp import Draws, FeedForward
from tti.models.network import Head, Network
from tti.models.stories import Stories
from tti.models.symmetry import folded, neutral
from tti.models.taps import Recorder, Tap, kind_of, no_tap, scoped

INIT_STD = 0.02  # GPT-2's
BASE_WIDTH = 384  # of the base model, where both initialization rules agree


class Attention(nn.Module):
    """Multi-head causal attention within each story; ``dropout`` applies to the attention weights."""

    def __init__(self, d_model: int, n_heads: int, dropout: float, bias: bool = False) -> None:
        super().__init__()
        self.qkv = nn.Linear(d_model, 3 * d_model, bias=bias)
        self.out = nn.Linear(d_model, d_model, bias=bias)
        self.n_heads = n_heads
        self.dropout = dropout

    def forward(self, x: Float[Tensor, "token d_model"], layout: Stories, tap: Tap) -> Float[Tensor, "token d_model"]:
        q, k, v = self.qkv(x).view(len(x), 3, self.n_heads, -1).unbind(1)
        qkv = torch.stack((tap("q", q), tap("k", k), tap("v", v)), dim=1)
        z = tap("z", layout.attend(qkv, self.dropout if self.training else 0.0))
        return self.out(z.flatten(1))


class Block(nn.Module):
    """Pre-LayerNorm block: attention, then the MLP, each added to the residual stream after dropout."""

    def __init__(self, attn: Attention, mlp: FeedForward, d_model: int, dropout: float) -> None:
        super().__init__()
        self.ln1 = nn.LayerNorm(d_model)
        self.attn = attn
        self.ln2 = nn.LayerNorm(d_model)
        self.mlp = mlp
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Float[Tensor, "token d_model"], layout: Stories, tap: Tap) -> Float[Tensor, "token d_model"]:
        x = tap("resid_pre", x)
        attn_out = self.attn(tap("ln1.normalized", self.ln1(x)), layout, scoped(tap, "attn"))
        x = tap("resid_mid", x + self.dropout(tap("attn_out", attn_out)))
        mlp_out = self.mlp.among(tap("ln2.normalized", self.ln2(x)), layout, scoped(tap, "mlp"))
        return tap("resid_post", x + self.dropout(tap("mlp_out", mlp_out)))


class GPT(Network):
    """A decoder with learned positions, LayerNorms with bias, and the embedding tied to the head.

    Weights are drawn from N(0, init_std^2), biases are 0, and weights that write into the residual stream are divided
    by ``sqrt(2 * n_layers)`` (Radford et al. 2019, section 2.3).

    Args:
        vocab_size: number of token types.
        context: maximum number of tokens of a story.
        n_layers: number of blocks.
        d_model: width of the residual stream.
        n_heads: attention heads per block.
        mlp: makes a block's MLP from ``d_model`` (a class of ``tti.models.mlp`` with its other arguments bound).
        dropout: dropout on the embedding and on the outputs of attention and MLP.
        attention_dropout: dropout on the attention weights; off by default (0.1 in ``model=original``).
        bias: whether attention's linear maps have biases, as in external GPT-2 models (``tti.huggingface.gpt2``); an
            MLP decides for itself.
        init_std: standard deviation of the initial weights. ``None`` scales it with the width, ``0.02 * sqrt(384 /
            d_model)``, so that pre-activations have the same size in a narrow model as in the base model. (With a fixed
            0.02, a narrow model's GELUs start nearly linear, and anything that makes them less so seems to lower the
            loss.)
        bottleneck: makes, from ``d_model``, what the residual stream passes through after the middle layer (of an odd
            number the middle one, of an even number the last of the first half).

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
        mlp: Callable[[int], FeedForward],
        dropout: float,
        attention_dropout: float,
        bias: bool = False,
        init_std: float | None = INIT_STD,
        bottleneck: Callable[[int], Bottleneck] | None = None,
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
        self.attends_by_layout = all(block.mlp.by_token for block in self._blocks)
        self.groups = max(block.mlp.groups for block in self._blocks)
        self.bottleneck = bottleneck(d_model) if bottleneck else Bottleneck()
        self.ln_final = nn.LayerNorm(d_model)
        self._soft_max: SoftMax = soft_max_
        self._initialise(INIT_STD * (BASE_WIDTH / d_model) ** 0.5 if init_std is None else init_std)

    def forward(
        self, tokens: Int[Tensor, "token"], layout: Stories, tap: Tap = no_tap
    ) -> Float[Tensor, "token d_model"]:
        """Final hidden state of every token, after the last LayerNorm: the input of the head."""
        x = tap("embed", self.embed(tokens)) + tap("pos_embed", self.pos_embed(layout.positions))
        x = self.dropout(x)
        for i, block in enumerate(self.blocks):
            x = block(x, layout, scoped(tap, f"blocks.{i}"))
            if i == (len(self.blocks) - 1) // 2:
                x = self.bottleneck(x, scoped(tap, SCOPE))
        return tap("ln_final.normalized", self.ln_final(x))

    def logits(self, hidden: Float[Tensor, "token d_model"]) -> Float[Tensor, "token vocab"]:
        """Logits of the head, for few tokens; a loss over many takes :meth:`loss`, which never holds all logits."""
        return hidden @ self.embed.weight.T

    def loss(
        self, hidden: Float[Tensor, "token d_model"], targets: Int[Tensor, "token"]
    ) -> tuple[Float[Tensor, ""], Float[Tensor, "token"]]:
        """Mean cross-entropy in nats, and each token's cross-entropy, detached."""
        return linear_cross_entropy(hidden, self.embed.weight, targets, self._soft_max)

    def compile(self, *args: Any, **kwargs: Any) -> None:
        """Apply ``torch.compile`` to the forward pass and to the softmax of the loss."""
        super().compile(*args, **kwargs)
        self._soft_max = torch.compile(soft_max_, *args, **kwargs)

    @property
    def vocab_size(self) -> int:
        return self.embed.num_embeddings

    @property
    def operations_per_token(self) -> int:
        """``6 (P + V d)``, with P the weights of the blocks that multiply a token, V token types, d ``d_model``."""
        weights = sum(_attention_weights(block) + block.mlp.weights_per_token for block in self._blocks)
        return 6 * (weights + self.bottleneck.weights_per_token + self.embed.weight.numel())

    # -- weights by site -----------------------------------------------------------------------------------------------

    def writes(self, site: str) -> Float[Tensor, "d_model width"] | None:
        """Output weights of each neuron of a site; the identity at sites in the residual stream's own basis."""
        kind = kind_of(site)
        if kind.startswith("mlp."):
            return self._block(site).mlp.writes(kind.removeprefix("mlp."))
        if kind.startswith(f"{SCOPE}."):
            return self.bottleneck.writes(kind.removeprefix(f"{SCOPE}."))
        if kind == "attn.z":
            return self._block(site).attn.out.weight
        if kind.startswith("attn.") or kind.endswith("normalized"):
            return None
        return torch.eye(self.embed.embedding_dim, device=self.device)

    def reads(self, site: str) -> Float[Tensor, "width d_model"] | None:
        """Input weights of an MLP's neurons or of a bottleneck's units; None for all other sites."""
        kind = kind_of(site)
        if kind.startswith(f"{SCOPE}."):
            return self.bottleneck.reads(kind.removeprefix(f"{SCOPE}."))
        return self._block(site).mlp.reads(kind.removeprefix("mlp.")) if kind.startswith("mlp.") else None

    def direct_logits(self, directions: Float[Tensor, "d_model n"]) -> Float[Tensor, "vocab n"]:
        centred = directions - directions.mean(0)
        return self.embed.weight @ (self.ln_final.weight[:, None] * centred)

    @property
    def _blocks(self) -> list[Block]:
        return [cast(Block, block) for block in self.blocks]

    def _block(self, site: str) -> Block:
        return self._blocks[int(site.split(".")[1])]

    # -- equivalent reparametrisations ---------------------------------------------------------------------------------

    def permute_hidden(self, generator: torch.Generator) -> None:
        for mlp in self._mlps():
            mlp.permute(torch.randperm(mlp.width, generator=generator).to(self.device))

    def rescale_hidden(self, factor: float) -> None:
        for mlp in self._mlps():
            mlp.rescale(factor)

    def duplicate_hidden(self) -> None:
        for mlp in self._mlps():
            mlp.duplicate()
        self.__dict__.pop("sites", None)  # widths have changed

    def add_idle_hidden(self, tokens: Int[Tensor, "token"], layout: Stories, on: Float[Tensor, "token n"]) -> None:
        recorder = Recorder(f"blocks.{i}.ln2.normalized" for i in range(len(self.blocks)))
        self(tokens, layout, recorder)
        for block, stream in zip(self._blocks, recorder.activations.values(), strict=True):
            block.mlp = with_detectors(block.mlp, stream, on)
        self.__dict__.pop("sites", None)  # widths have changed

    def rotate_residual(self, rotation: Float[Tensor, "d_model d_model"]) -> Head:
        """Fold LayerNorms' gains and biases into the weights that read them, which gain a bias, and rotate."""
        head, bias = self.embed.weight * self.ln_final.weight, self.embed.weight @ self.ln_final.bias
        for block in self._blocks:
            block.attn.qkv = folded(block.attn.qkv, block.ln1, rotation)
            block.mlp.rotate(block.ln2, rotation)
            for norm in (block.ln1, block.ln2):
                neutral(norm)
            for written in block.attn.out.parameters():
                written.data = rotation.T @ written
        neutral(self.ln_final)
        self.bottleneck.rotate(rotation)
        for embedding in (self.embed, self.pos_embed):
            embedding.weight.data = embedding.weight @ rotation
        return lambda hidden: hidden @ (head @ rotation).T.to(hidden.dtype) + bias.to(hidden.dtype)

    def _mlps(self) -> Iterator[FeedForward]:
        return (block.mlp for block in self._blocks)

    # -- initialization ---------------------------------------------------------------------------------------------

    def _initialise(self, std: float) -> None:
        """Draw all weights in three rounds, so that the weights shared with a dense model start equal under any MLP."""
        small = std / (2 * len(self.blocks)) ** 0.5
        embeddings = Draws(first=[(self.embed.weight, std), (self.pos_embed.weight, std)])
        rounds = [embeddings, *(each for block in self._blocks for each in _draws(block, std, small))]
        rounds.append(self.bottleneck.draws(std, small))
        self._require_drawn(rounds)
        for draws in zip(*rounds, strict=True):
            for weight, std in (draw for each in draws for draw in each):
                nn.init.normal_(weight, std=std)
        for module in self.modules():
            if isinstance(module, nn.Linear) and module.bias is not None:
                nn.init.zeros_(module.bias)

    def _require_drawn(self, rounds: list[Draws]) -> None:
        drawn = {id(weight) for draws in rounds for draw in draws for weight, _ in draw}
        if missing := [name for name, weight in self.named_parameters() if weight.ndim > 1 and id(weight) not in drawn]:
            raise ValueError(
                f"draws() of the MLP or bottleneck does not name {', '.join(missing)}: they would stay uninitialized"
            )


def require_gpt(net: Network) -> GPT:
    """The network as the GPT that it is.

    Raises:
        ValueError: it is another network, or has a bottleneck.
    """
    if not isinstance(net, GPT):
        raise ValueError(f"the network is a {type(net).__name__}: an export is a GPT-2, so it must be a GPT")
    if type(net.bottleneck) is not Bottleneck:
        raise ValueError("the network has a bottleneck (model/bottleneck): an export is a GPT-2, which has none")
    return net


def _draws(block: Block, std: float, small: float) -> tuple[Draws, Draws]:
    attn = block.attn
    first = [(attn.qkv.weight, std), (attn.out.weight, std)]
    return Draws(first, again=[(attn.out.weight, small)]), block.mlp.draws(std, small)


def _attention_weights(block: Block) -> int:
    return block.attn.qkv.weight.numel() + block.attn.out.weight.numel()
