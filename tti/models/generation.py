"""Text generation: sampling token by token, or greedy decoding of many prompts at once."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
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
    """Sample tokens after ``tokens`` until an end-of-text token, ``limit`` tokens, or the end of the model's context.

    Only ``ids``, the ids that stand for a token, are sampled: a padded vocabulary also has rows that stand for none.
    Every token re-runs the whole story: stories are short, and this keeps a single implementation of attention.
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
def greedy(
    net: Network,
    prompts: Sequence[Sequence[int]],
    end: int,
    limit: int,
    group: Int[Tensor, "prompt"] | None = None,
) -> list[list[int]]:
    """The greedy continuation of each prompt: the most probable token, repeatedly.

    A continuation stops before ``end`` (which is not returned), after ``limit`` tokens, or at the end of the network's
    context.

    Args:
        net: the network, in evaluation mode. If its attention is the layout's, keys and values are cached, so that a
            step costs one token per prompt; other networks re-run every story.
        prompts: token ids of each prompt, at least one, of any length.
        end: token that ends a text.
        limit: maximum number of tokens per continuation.
        group: group of each prompt (``Stories.group``), for networks that route by group.
    """
    stories = [list(prompt) for prompt in prompts]
    room = [min(len(prompt) + limit, net.context) for prompt in prompts]
    going = [i for i, story in enumerate(stories) if len(story) < room[i]]
    cache = Cache(len(stories), max(room, default=0)) if net.attends_by_layout else None
    while going:
        of = None if group is None else group[going]
        logits = _new(net, stories, going, cache, of) if cache else _whole(net, [stories[i] for i in going], of)
        for i, token in zip(list(going), logits.argmax(-1).tolist(), strict=True):
            if token != end:
                stories[i].append(token)
            if token == end or len(stories[i]) == room[i]:
                going.remove(i)
    return [story[len(prompt) :] for story, prompt in zip(stories, prompts, strict=True)]


def _whole(
    net: Network, stories: Sequence[Sequence[int]], group: Int[Tensor, "story"] | None = None
) -> Float[Tensor, "story vocab"]:
    """Next-token logits after each story's last token."""
    lengths = [len(story) for story in stories]
    return _last(net, stories, replace(Separate.of(lengths), group=group))


def _new(
    net: Network,
    stories: Sequence[Sequence[int]],
    going: Sequence[int],
    cache: "Cache",
    group: Int[Tensor, "story"] | None,
) -> Float[Tensor, "story vocab"]:
    """The same for the stories ``going``, computed from the tokens that the cache has not seen."""
    new = [stories[i][cache.sizes[i] :] for i in going]
    return _last(net, new, replace(cache.longer(going, [len(tokens) for tokens in new]), group=group))


def _last(net: Network, tokens: Sequence[Sequence[int]], layout: Stories) -> Float[Tensor, "story vocab"]:
    flat = torch.tensor([token for each in tokens for token in each], device=net.device)
    ends = torch.tensor(layout.lengths, device=net.device).cumsum(0) - 1
    return net.logits(net(flat, layout.to(net.device))[ends])


class Cache:
    """Keys and values of some stories, ``[story, capacity, head, d_head]`` for each layer.

    Attributes:
        sizes: number of cached tokens of each story.
    """

    def __init__(self, stories: int, capacity: int) -> None:
        self.sizes = [0] * stories
        self.capacity = capacity
        self.layers: list[tuple[Tensor, Tensor]] = []

    def longer(self, stories: Sequence[int], lengths: Sequence[int]) -> "Growing":
        """The layout of the next ``lengths`` tokens of these stories."""
        starts = [self.sizes[i] for i in stories]
        for i, length in zip(stories, lengths, strict=True):
            self.sizes[i] += length
        positions = [torch.arange(start, start + n) for start, n in zip(starts, lengths, strict=True)]
        return Growing(tuple(lengths), torch.cat(positions), torch.tensor(stories), self, iter(range(2**31)))

    def layer(
        self, number: int, k: Float[Tensor, "token head d_head"], v: Float[Tensor, "token head d_head"]
    ) -> tuple[Tensor, Tensor]:
        """Keys and values of a layer, allocated on first use."""
        if number == len(self.layers):
            shape = len(self.sizes), self.capacity
            self.layers.append((k.new_zeros(*shape, *k.shape[1:]), v.new_zeros(*shape, *v.shape[1:])))
        return self.layers[number]


@dataclass(frozen=True)
class Growing(Stories):
    """New tokens of stories, which attend to each other and to the cached tokens of their story. Valid for one forward
    pass.

    Attributes:
        stories: indices of these stories in the cache.
        cache: the cache that receives the new keys and values.
        layers: counts the layers, each of which attends once.
    """

    stories: Int[Tensor, "story"]
    cache: Cache
    layers: Iterator[int]

    @classmethod
    def of(cls, lengths: Sequence[int]) -> Self:
        raise NotImplementedError("only a cache can make this layout: Cache.longer")

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
    def story(self) -> Int[Tensor, "token"]:
        return self._places[0]

    @property
    def _places(self) -> tuple[Int[Tensor, "token"], Int[Tensor, "token"]]:
        """Row and column of each token in a padded rectangle of the new tokens."""
        device = self.positions.device
        row = torch.repeat_interleave(torch.arange(len(self.lengths)), torch.tensor(self.lengths)).to(device)
        column = torch.cat([torch.arange(length) for length in self.lengths]).to(device)
        return row, column
