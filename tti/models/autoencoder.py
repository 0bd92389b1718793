"""A sentence autoencoder: an encoder reads a sentence into a latent vector, from which a decoder writes it again."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from tti.models.generation import greedy
from tti.models.gpt import GPT
from tti.models.network import Network
from tti.models.stories import Stories
from tti.models.taps import Tap, hears, no_tap, scoped

ENCODER = "encoder"
MEAN, LOG_VARIANCE, SAMPLE = "latent.mean", "latent.log_variance", "latent.sample"


class Autoencoder(Network):
    """Two GPTs of the same size: an encoder whose tokens attend to the whole sentence, and a decoder.

    The encoder's final states, averaged over a sentence's tokens (Long et al. 2019, "Preventing posterior collapse in
    sequence VAEs with pooling"), give through a linear map each the mean and the log variance of the latent. In
    training the latent is sampled (Kingma & Welling 2014, "Auto-encoding variational Bayes", section 2.4); in
    evaluation it is the mean. A linear map for each of the decoder's layers adds it to the stream that the layer reads,
    at every token. The decoder reads the sentence up to the token that it predicts. Sentences begin with a start token,
    so that every word is predicted.

    Sites: those of a GPT for the decoder, the same after ``encoder.`` for the encoder, and for every sentence
    ``latent.mean``, ``latent.log_variance`` (with ``noise`` only) and ``latent.sample``, the latent that the decoder
    reads.

    Args:
        latent: width of the latent.
        noise: whether the latent is sampled. Without noise the network is a plain autoencoder.
        transformer: arguments of both :class:`GPT`. The maps to and from the latent have initial weights with standard
            deviation ``1 / sqrt(inputs)`` and no bias: if the latent begins much smaller than the stream, training
            takes long to find it.
    """

    attends_by_layout = False

    def __init__(self, latent: int, noise: bool, **transformer: Any) -> None:
        super().__init__()
        self.encoder, self.decoder = (GPT(**transformer) for _ in range(2))
        self.context = self.decoder.context
        width, layers = self.decoder.embed.embedding_dim, len(self.decoder.blocks)
        self.mean = nn.Linear(width, latent)
        self.log_variance = nn.Linear(width, latent) if noise else None
        self.read = nn.ModuleList(nn.Linear(latent, width, bias=False) for _ in range(layers))
        for linear in filter(None, (self.mean, self.log_variance, *self.read)):
            nn.init.normal_(linear.weight, std=linear.in_features**-0.5)
            if linear.bias is not None:
                nn.init.zeros_(linear.bias)

    def forward(
        self, tokens: Int[Tensor, "token"], layout: Stories, tap: Tap = no_tap
    ) -> Float[Tensor, "token d_model"]:
        return self.decoded(self.encoded(tokens, layout, tap), tokens, layout, tap)

    def encoded(
        self, tokens: Int[Tensor, "token"], layout: Stories, tap: Tap = no_tap
    ) -> Float[Tensor, "story latent"]:
        """The latent of every sentence."""
        states = self.encoder(tokens, replace(layout, causal=False), scoped(tap, ENCODER))
        pooled = _pooled(states, layout)
        mean = latent = tap(MEAN, self.mean(pooled))
        if self.log_variance is not None:
            deviation = (tap(LOG_VARIANCE, self.log_variance(pooled)) / 2).exp()
            latent = mean + deviation * torch.randn_like(mean) if self.training else mean
        return tap(SAMPLE, latent)

    def decoded(
        self, latent: Float[Tensor, "story latent"], tokens: Int[Tensor, "token"], layout: Stories, tap: Tap = no_tap
    ) -> Float[Tensor, "token d_model"]:
        """Final hidden state of every token of sentences that begin with ``tokens``, given their latents."""
        story = layout.story
        reads = {f"blocks.{i}.resid_pre": read(latent)[story] for i, read in enumerate(self.read)}
        return self.decoder(tokens, layout, _Reading(reads, tap))

    def logits(self, hidden: Float[Tensor, "row d_model"]) -> Float[Tensor, "row vocab"]:
        return self.decoder.logits(hidden)

    def loss(
        self, hidden: Float[Tensor, "row d_model"], targets: Int[Tensor, "row"]
    ) -> tuple[Float[Tensor, ""], Float[Tensor, "row"]]:
        return self.decoder.loss(hidden, targets)

    @property
    def vocab_size(self) -> int:
        return self.decoder.vocab_size

    @property
    def operations_per_token(self) -> int:
        """Those of the decoder, and of the encoder without a head; the maps of the latent are left out."""
        head = 6 * self.encoder.embed.weight.numel()
        return self.decoder.operations_per_token + self.encoder.operations_per_token - head

    # -- weights by site -----------------------------------------------------------------------------------------------

    def writes(self, site: str) -> Float[Tensor, "d_model width"] | None:
        """Output weights of the decoder's neurons; None for the encoder, which writes into a stream without a head."""
        return None if _of_encoder(site) else self.decoder.writes(site)

    def reads(self, site: str) -> Float[Tensor, "width d_model"] | None:
        """Input weights of an MLP's neurons; None for all other sites."""
        net = self.encoder if _of_encoder(site) else self.decoder
        return net.reads(site.removeprefix(f"{ENCODER}."))

    def direct_logits(self, directions: Float[Tensor, "d_model n"]) -> Float[Tensor, "vocab n"]:
        return self.decoder.direct_logits(directions)


class Writer(Network):
    """The decoder of an autoencoder with given latents, as a network that continues sentences.

    Args:
        net: the autoencoder.
        latent: a latent for each group of a layout (``Stories.group``): a sentence's group is the row of its latent.
    """

    def __init__(self, net: Autoencoder, latent: Float[Tensor, "group latent"]) -> None:
        super().__init__()
        self.net, self.latent, self.context = net, latent, net.context

    def forward(
        self, tokens: Int[Tensor, "token"], layout: Stories, tap: Tap = no_tap
    ) -> Float[Tensor, "token d_model"]:
        assert layout.group is not None
        return self.net.decoded(self.latent[layout.group], tokens, layout, tap)

    def logits(self, hidden: Float[Tensor, "row d_model"]) -> Float[Tensor, "row vocab"]:
        return self.net.logits(hidden)

    def loss(self, hidden: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        return self.net.loss(hidden, targets)

    @property
    def vocab_size(self) -> int:
        return self.net.vocab_size

    @property
    def operations_per_token(self) -> int:
        return self.net.decoder.operations_per_token


def written(net: Autoencoder, latent: Float[Tensor, "story latent"], start: int, end: int) -> list[list[int]]:
    """The tokens that the decoder writes from each latent, greedily, after ``start`` and before ``end``."""
    prompts: Sequence[Sequence[int]] = [[start]] * len(latent)
    rows = torch.arange(len(latent), device=latent.device)
    return greedy(Writer(net, latent), prompts, end, net.context, rows)


class _Reading:
    """A tap that adds the latent to the stream that each layer of the decoder reads, before another tap."""

    def __init__(self, reads: dict[str, Float[Tensor, "token d_model"]], tap: Tap) -> None:
        self.reads, self.tap = reads, tap

    def __call__(self, site: str, activation: Tensor) -> Tensor:
        if site in self.reads:
            activation = activation + self.reads[site]
        return self.tap(site, activation)

    def hears(self, site: str) -> bool:
        """Whether the other tap uses the activation at ``site``."""
        return hears(self.tap, site)


def _pooled(states: Float[Tensor, "token d_model"], layout: Stories) -> Float[Tensor, "story d_model"]:
    """The mean over the tokens of each sentence."""
    empty = states.new_zeros(len(layout.lengths), states.shape[1])
    return empty.scatter_reduce(0, layout.story[:, None].expand_as(states), states, "mean", include_self=False)


def _of_encoder(site: str) -> bool:
    return site.startswith(f"{ENCODER}.")
