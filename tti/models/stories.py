"""Layouts: how the stories of a batch are packed, and how each attends only to itself.

A batch is *flat*: the tokens of all its stories are concatenated in one row, ``[token]``, without padding. Everything
except attention works token by token. Attention must keep stories apart; a layout object, chosen by configuration, does
that:

* ``Separate`` runs one attention call per story: no wasted arithmetic, fastest on a CPU
  (``docs/architecture.md``).
* ``Grouped`` sorts stories by length into a few groups, pads within each group for attention only, and drops the
  padding again: a few large kernels, with shapes that a compiler can treat as dynamic, for GPUs. Padding comes after a
  story, so a causal query never sees it; other queries are masked.

Both give the same result as padded single stories, with or without dropout on the attention weights.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import Any, Self

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention


@dataclass(frozen=True)
class Stories(ABC):
    """Layout of a flat batch.

    Attributes:
        lengths: tokens of each story.
        positions: position of each token in its story, from 0.
        group: a label of each story, by which a router may choose experts (``tti.models.routing.ByGroup``).
        causal: whether a token attends to itself and the tokens before it only, or to its whole story (an encoder's
            layout is ``replace(layout, causal=False)``).
    """

    lengths: tuple[int, ...]
    positions: Int[Tensor, "token"]
    group: Int[Tensor, "story"] | None = field(default=None, kw_only=True)
    causal: bool = field(default=True, kw_only=True)

    @classmethod
    @abstractmethod
    def of(cls, lengths: Sequence[int]) -> Self:
        """The layout of stories with these lengths, in this order, in host memory."""

    @abstractmethod
    def attend(self, qkv: Float[Tensor, "token 3 head d_head"], dropout: float) -> Float[Tensor, "token head d_head"]:
        """Attention of each story to itself, scaled by ``1/sqrt(d_head)``."""

    @property
    def story(self) -> Int[Tensor, "token"]:
        """Index of the story that each token belongs to."""
        return (self.positions == 0).cumsum(0) - 1

    def repeated(self, times: int) -> Self:
        """The layout of the same stories, repeated ``times`` times."""
        group = None if self.group is None else self.group.repeat(times)
        return replace(self.of(self.lengths * times).to(self.positions.device), group=group)

    def to(self, device: torch.device) -> Self:
        """The same layout with its index tensors on ``device``, copied asynchronously."""
        return self._moved(lambda index: index.to(device, non_blocking=True))

    def pin(self) -> Self:
        """The same layout in page-locked memory."""
        return self._moved(Tensor.pin_memory)

    def _moved(self, move: Callable[[Tensor], Tensor]) -> Self:
        moved: dict[str, Any] = {name: move(value) for name, value in vars(self).items() if isinstance(value, Tensor)}
        return replace(self, **moved)


@dataclass(frozen=True)
class Separate(Stories):
    """One attention call per story."""

    @classmethod
    def of(cls, lengths: Sequence[int]) -> Self:
        return cls(tuple(lengths), _positions(lengths))

    def attend(self, qkv: Tensor, dropout: float) -> Tensor:
        return torch.cat([_mixed(story[None], dropout, self.causal)[0] for story in qkv.split(self.lengths)])


@dataclass(frozen=True)
class Grouped(Stories):
    """``groups`` attention calls (fewer if there are fewer stories), each over a padded rectangle of stories of similar
    length. A compiler makes one graph for all batches of eight stories or more, since no rectangle has a side of 1.

    ``slot`` is each token's row in the concatenated rectangles; ``shapes`` are their (stories, length).
    """

    slot: Int[Tensor, "token"]
    shapes: tuple[tuple[int, int], ...]
    groups = 4

    @classmethod
    def of(cls, lengths: Sequence[int]) -> Self:
        order = sorted(range(len(lengths)), key=lambda story: lengths[story])
        groups = min(cls.groups, len(order))
        bounds = [len(order) * group // groups for group in range(groups + 1)]  # of one size, but for one story
        slots: dict[int, Tensor] = {}
        shapes, rows = [], 0
        for start, end in pairwise(bounds):
            members = order[start:end]
            longest = lengths[members[-1]]
            for story in members:
                slots[story] = rows + torch.arange(lengths[story])
                rows += longest
            shapes.append((len(members), longest))
        slot = torch.cat([slots[story] for story in range(len(lengths))])
        return cls(tuple(lengths), _positions(lengths), slot, tuple(shapes))

    def attend(self, qkv: Tensor, dropout: float) -> Tensor:
        rows = [stories * length for stories, length in self.shapes]
        padded = qkv.new_zeros(sum(rows), *qkv.shape[1:]).index_copy(0, self.slot, qkv)
        mixed = [
            _mixed(part.unflatten(0, shape), dropout, self.causal, mask).flatten(0, 1)
            for part, mask, shape in zip(padded.split(rows), self._masks(rows), self.shapes, strict=True)
        ]
        return torch.cat(mixed).index_select(0, self.slot)

    def _masks(self, rows: Sequence[int]) -> Sequence[Bool[Tensor, "story 1 1 seq"] | None]:
        """For each rectangle, the mask that hides its padding; None for causal attention, which never sees it."""
        if self.causal:
            return [None] * len(rows)
        there = self.slot.new_zeros(sum(rows), dtype=torch.bool).index_fill(0, self.slot, True).split(rows)
        return [part.view(stories, 1, 1, length) for part, (stories, length) in zip(there, self.shapes, strict=True)]


def _positions(lengths: Sequence[int]) -> Int[Tensor, "token"]:
    return torch.cat([torch.arange(length) for length in lengths])


def _mixed(
    qkv: Float[Tensor, "story seq 3 head d_head"], dropout: float, causal: bool, mask: Tensor | None = None
) -> Float[Tensor, "story seq head d_head"]:
    if qkv.device.type == "cpu" and not dropout:
        # The fused kernel, which has no dropout, takes longer backward in bf16 than in float32: 4 times as long for 100
        # tokens, 1.5 times for 350.
        with torch.autocast("cpu", enabled=False):
            exact = qkv.to(torch.promote_types(qkv.dtype, torch.float32))
            return _attended(exact, 0.0, causal, mask).to(qkv.dtype)
    return _attended(qkv, dropout, causal, mask)


def _attended(
    qkv: Float[Tensor, "story seq 3 head d_head"], dropout: float, causal: bool, mask: Tensor | None = None
) -> Float[Tensor, "story seq head d_head"]:
    q, k, v = qkv.permute(2, 0, 3, 1, 4)
    return scaled_dot_product_attention(q, k, v, mask, dropout, causal).transpose(1, 2)
