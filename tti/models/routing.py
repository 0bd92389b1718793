"""Routers, which decide which experts of a mixture process a token, and with which weights (``tti.models.moe``)."""

from abc import ABC, abstractmethod
from contextlib import AbstractContextManager, nullcontext

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from tti.models.stories import Stories
from tti.models.taps import Tap

POOLS = 4096  # pool sizes drawn per step; with more stories they are reused


class Router(nn.Module, ABC):
    """Chooses the ``top_k`` experts with the largest logits ``W x`` among the experts that are open to the token.

    Their *gates* are the softmax over the chosen logits (Jiang et al. 2024, "Mixtral of Experts", section 2.1), so they
    sum to 1. There is no capacity limit: an expert processes all tokens that choose it.

    Sites, ``[token, expert]``: ``router_logits`` of all experts, open or not; ``gates``, 0 for experts not chosen. A
    tap that sets an expert's ``router_logits`` to minus infinity sends its tokens to the next expert; one that changes
    ``gates`` changes the weights of the chosen experts and cannot choose others.

    Args:
        d_model: width of the residual stream.
        experts: number of experts to choose from.
        top_k: experts per token.

    Raises:
        ValueError: ``top_k`` exceeds the number of experts, or is 1 of several: the gate would be 1 for any logits, so
            the loss would not train the router.
    """

    by_token = True
    """Whether a token's experts depend on that token only."""
    needs = ""
    """What they depend on besides the token; empty if nothing."""
    groups = 0
    """Number of groups of stories that it tells apart; 0 if it needs none."""
    learns_from_the_loss = True

    def __init__(self, d_model: int, experts: int, top_k: int) -> None:
        super().__init__()
        if top_k > experts:
            raise ValueError(f"top_k={top_k} experts per token, but experts={experts}")
        if top_k == 1 < experts and self.learns_from_the_loss:
            raise ValueError(
                f"top_k=1 of experts={experts}: gates are normalized over the chosen experts, so a single gate is "
                "always 1 and the loss does not train the router; use 2 or more"
            )
        self.top_k = top_k
        self.score = nn.Linear(d_model, experts, bias=False)

    def forward(
        self, x: Float[Tensor, "token d_model"], layout: Stories | None, tap: Tap
    ) -> tuple[Int[Tensor, "token k"], Float[Tensor, "token k"]]:
        """The chosen experts of each token, and their gates."""
        with _precise(x.device):  # bfloat16 has many ties
            logits = tap("router_logits", self.score(x.to(self.score.weight.dtype)))
        best = logits.masked_fill(~self.open(logits, layout), -torch.inf).topk(self.top_k)
        gates = torch.zeros_like(logits).scatter(1, best.indices, best.values.softmax(-1))
        return best.indices, tap("gates", gates).gather(1, best.indices)

    @abstractmethod
    def open(self, logits: Float[Tensor, "token expert"], layout: Stories | None) -> Bool[Tensor, "token expert"]:
        """The experts that each token may choose, at least ``top_k`` of them."""


class ByToken(Router):
    """All experts are open to all tokens."""

    def open(self, logits: Tensor, layout: Stories | None) -> Tensor:
        return torch.ones_like(logits, dtype=torch.bool)


class ByGroup(Router):
    """Oracle routing: expert ``i`` is open to stories of group ``i mod groups`` only.

    Groups come from ``layout.group`` (``data.group`` names the corpus array).

    Raises:
        ValueError: some group would have fewer than ``top_k`` experts; in the forward pass: stories have no group.
    """

    learns_from_the_loss = False  # routing by group needs no training
    needs = "the group of its story"

    def __init__(self, d_model: int, experts: int, top_k: int, groups: int) -> None:
        super().__init__(d_model, experts, top_k)
        if experts // groups < top_k:
            raise ValueError(
                f"experts={experts} shared among groups={groups} leave {experts // groups} for some groups, fewer than "
                f"top_k={top_k}"
            )
        self.groups = groups

    def open(self, logits: Tensor, layout: Stories | None) -> Tensor:
        if layout is None or layout.group is None:
            raise ValueError(
                "this model routes stories by their group, and these stories have none: set data.group to an integer "
                "array of the corpus, such as data.group=task"
            )
        own = layout.group[story_of(layout)]
        return torch.arange(logits.shape[1], device=logits.device) % self.groups == own[:, None]


class FromPools(Router):
    """Tokens choose from a pool per story: the experts with the largest summed router probability.

    After Emo (2026), which sums over the whole document. Here the sum runs over the story *up to and including the
    token*: a pool chosen with later tokens would leak what the model has to predict. In training the pool size is drawn
    per story, uniformly from ``top_k`` to all experts, so that the trained model works with any size; in evaluation it
    is ``pool``.

    Args:
        d_model, experts, top_k: see :class:`Router`.
        pool: pool size in evaluation.

    Raises:
        ValueError: ``pool`` is not between ``top_k`` and the number of experts.
    """

    by_token = False
    needs = "the story so far"

    def __init__(self, d_model: int, experts: int, top_k: int, pool: int) -> None:
        super().__init__(d_model, experts, top_k)
        if not top_k <= pool <= experts:
            raise ValueError(f"pool={pool} must be from top_k={top_k} to experts={experts}")
        self.pool, self.experts = pool, experts
        self.register_buffer("sizes", torch.full((POOLS,), pool), persistent=False)

    sizes: Tensor

    def draw(self, generator: torch.Generator) -> None:
        """Draw the pool sizes of one optimizer step, indexed by a story's position in its micro-batch."""
        sizes = torch.randint(self.top_k, self.experts + 1, (POOLS,), generator=generator)
        self.sizes.copy_(sizes, non_blocking=True)

    def open(self, logits: Tensor, layout: Stories | None) -> Tensor:
        positions = torch.arange(len(logits), device=logits.device) if layout is None else layout.positions
        mass = sums_so_far(logits.detach().double().softmax(-1), positions)
        rank = mass.argsort(dim=1, descending=True, stable=True).argsort(1)
        story = (positions == 0).cumsum(0) - 1
        size = self.sizes[story % POOLS] if self.training else torch.full_like(story, self.pool)
        return rank < size[:, None]


def _precise(device: torch.device) -> AbstractContextManager[object]:
    return nullcontext() if device.type == "meta" else torch.autocast(device.type, enabled=False)


def sums_so_far(values: Float[Tensor, "token n"], positions: Int[Tensor, "token"]) -> Float[Tensor, "token n"]:
    """Running sum over each story. Use double precision: the sum runs over the whole batch and is then corrected."""
    total = values.cumsum(0)
    start = torch.arange(len(positions), device=positions.device) - positions
    return total - (total - values)[start]


def story_of(layout: Stories) -> Int[Tensor, "token"]:
    """The index of each token's story."""
    lengths = torch.tensor(layout.lengths, device="cpu")  # so that the sum is known without waiting for the device
    return torch.repeat_interleave(lengths).to(layout.positions.device, non_blocking=True)
