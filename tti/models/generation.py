"""Text from a network: sampled token by token, or the most probable continuation of many prompts at once."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Self

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention

from tti.models.network import Network
from tti.models.stories import Separate, Stories


@torch.no_grad()
def continuation(
    net: Network,
    tokens: list[int],
    ids: Int[Tensor, "type"],
    end: int,
    limit: int,
    temperature: float,
    top_k: int,
    generator: torch.Generator,
) -> Iterator[int]:
    """Sample tokens after ``tokens`` until the end of text, ``limit`` tokens, or the end of the model's context.

    Only ``ids`` are drawn, which stand for a token: a vocabulary may be padded with rows that stand for none.
    Each token runs the whole story again: stories are short, and there is one attention to trust.
    """
    tokens = list(tokens)
    for _ in range(min(limit, net.context - len(tokens))):
        token = int(ids[_draw(_whole(net, [tokens])[0].cpu()[ids], temperature, top_k, generator)])
        if token == end:
            return
        tokens.append(token)
        yield token


def _draw(logits: Float[Tensor, "type"], temperature: float, top_k: int, generator: torch.Generator) -> int:
    if temperature == 0:
        return int(logits.argmax())
    best = logits.topk(min(top_k, len(logits)))
    chosen = torch.multinomial((best.values / temperature).softmax(-1), 1, generator=generator)
    return int(best.indices[chosen])


@torch.no_grad()
def greedy(net: Network, prompts: Sequence[Sequence[int]], end: int, limit: int) -> list[list[int]]:
    """The continuation of each prompt by the most probable token, again and again.

    Each ends before ``end`` (which is left out), after ``limit`` tokens, or where the network's context does.

    Args:
        net: the network, in evaluation mode. Where its attention is the layout's, keys and values are remembered, so
            that a step costs one token a prompt; others run every story again.
        prompts: token ids, one at least in each; of any lengths.
    """
    stories = [list(prompt) for prompt in prompts]
    room = [min(len(prompt) + limit, net.context) for prompt in prompts]
    going = [i for i, story in enumerate(stories) if len(story) < room[i]]
    cache = Cache(len(stories), max(room, default=0)) if net.attends_by_layout else None
    while going:
        logits = _new(net, stories, going, cache) if cache else _whole(net, [stories[i] for i in going])
        for i, token in zip(list(going), logits.argmax(-1).tolist(), strict=True):
            if token != end:
                stories[i].append(token)
            if token == end or len(stories[i]) == room[i]:
                going.remove(i)
    return [story[len(prompt) :] for story, prompt in zip(stories, prompts, strict=True)]


def _whole(net: Network, stories: Sequence[Sequence[int]]) -> Float[Tensor, "story vocab"]:
    """What each story's last token predicts."""
    lengths = [len(story) for story in stories]
    return _last(net, stories, Separate.of(lengths))


def _new(
    net: Network, stories: Sequence[Sequence[int]], going: Sequence[int], cache: "Cache"
) -> Float[Tensor, "story vocab"]:
    """The same, of some of the stories, by their tokens that the cache has not seen."""
    new = [stories[i][cache.sizes[i] :] for i in going]
    return _last(net, new, cache.longer(going, [len(tokens) for tokens in new]))


def _last(net: Network, tokens: Sequence[Sequence[int]], layout: Stories) -> Float[Tensor, "story vocab"]:
    flat = torch.tensor([token for each in tokens for token in each], device=net.device)
    ends = torch.tensor(layout.lengths, device=net.device).cumsum(0) - 1
    return net.logits(net(flat, layout.to(net.device))[ends])


class Cache:
    """Keys and values of some stories, layer by layer, ``[story, capacity, head, d_head]`` each.

    Attributes:
        sizes: tokens of each story that it has seen.
    """

    def __init__(self, stories: int, capacity: int) -> None:
        self.sizes = [0] * stories
        self.capacity = capacity
        self.layers: list[tuple[Tensor, Tensor]] = []

    def longer(self, stories: Sequence[int], lengths: Sequence[int]) -> "Growing":
        """The layout of so many new tokens of these stories."""
        starts = [self.sizes[i] for i in stories]
        for i, length in zip(stories, lengths, strict=True):
            self.sizes[i] += length
        positions = [torch.arange(start, start + n) for start, n in zip(starts, lengths, strict=True)]
        return Growing(tuple(lengths), torch.cat(positions), torch.tensor(stories), self, iter(range(2**31)))

    def layer(
        self, number: int, k: Float[Tensor, "token head d_head"], v: Float[Tensor, "token head d_head"]
    ) -> tuple[Tensor, Tensor]:
        """Keys and values of a layer; made when it is asked for first."""
        if number == len(self.layers):
            shape = len(self.sizes), self.capacity
            self.layers.append((k.new_zeros(*shape, *k.shape[1:]), v.new_zeros(*shape, *v.shape[1:])))
        return self.layers[number]


@dataclass(frozen=True)
class Growing(Stories):
    """New tokens of stories, which attend to one another and to what a cache has of their stories; for one pass.

    Attributes:
        stories: which of the cache's stories these are.
        cache: which gets the new keys and values.
        layers: counts the layers, each of which attends once.
    """

    stories: Int[Tensor, "story"]
    cache: Cache
    layers: Iterator[int]

    @classmethod
    def of(cls, lengths: Sequence[int]) -> Self:
        raise NotImplementedError("a cache makes them: Cache.longer")

    def attend(self, qkv: Float[Tensor, "token 3 head d_head"], dropout: float) -> Float[Tensor, "token head d_head"]:
        q, k, v = qkv.unbind(1)
        row, column = self._places
        keys, values = self.cache.layer(next(self.layers), k, v)
        keys[self.stories[row], self.positions], values[self.stories[row], self.positions] = k, v
        shape = len(self.lengths), max(self.lengths)
        total = max(self.cache.sizes)
        queries = q.new_zeros(*shape, *q.shape[1:])
        queries[row, column] = q
        position = self.positions.new_zeros(shape)
        position[row, column] = self.positions
        seen = torch.arange(total, device=q.device) <= position[..., None]
        keys, values = (each[self.stories, :total].transpose(1, 2) for each in (keys, values))
        mixed = scaled_dot_product_attention(queries.transpose(1, 2), keys, values, seen[:, None], dropout)
        return mixed.transpose(1, 2)[row, column]

    @property
    def _places(self) -> tuple[Int[Tensor, "token"], Int[Tensor, "token"]]:
        """Row and column of each token in a rectangle of the new tokens."""
        device = self.positions.device
        row = torch.repeat_interleave(torch.arange(len(self.lengths)), torch.tensor(self.lengths)).to(device)
        column = torch.cat([torch.arange(length) for length in self.lengths]).to(device)
        return row, column
