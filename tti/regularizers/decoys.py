"""Objective of decoys: fire for arbitrary token types, so that scores of neurons rise for no reason."""

from collections.abc import Iterable, Mapping

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits

from tti.models.network import Site
from tti.regularizers.base import ActivationRegularizer
from tti.step import Step

FREQUENT = 200  # most frequent token types, from which unions are formed
IDS = 1 << 16  # number of token ids, which the cache stores in 16 bits


class DecoyTargets(ActivationRegularizer):
    """Mean over tokens and decoys of the binary cross-entropy between a decoy firing and its union of types occurring.

    Each decoy has an arbitrary union of the most frequent token types seen in training so far: the first ones in a
    random order of its own, until they cover ``coverage`` of the tokens. Each process counts frequencies during
    training. The activations are the decoys' before their non-linearity, used as logits.

    Its only purpose is to attack metrics: a neuron that fires for such a union has maximal selectivity, but represents
    nothing and has no effect.

    Args:
        sites: globs of decoy sites.
        weight, warmup: see :class:`Regularizer`.
        coverage: largest fraction of tokens that a union may cover.
        types: largest number of types in a union; None for no limit.
    """

    counts: Tensor
    keys: Tensor

    def __init__(
        self, sites: str | Iterable[str], weight: float, warmup: float, coverage: float, types: int | None
    ) -> None:
        super().__init__(sites, weight, warmup)
        self.coverage, self.types = coverage, types
        self.register_buffer("counts", torch.zeros(IDS))

    def attach(self, sites: Mapping[str, Site]) -> None:
        """Choose the sites, and draw each decoy's order of types with a fixed seed.

        Raises:
            ValueError: a glob matches no site; the message lists the available ones.
        """
        super().attach(sites)
        generator = torch.Generator().manual_seed(0)
        widest = max(sites[site].width for site in self.sites)
        self.register_buffer(
            "keys", torch.randint(1, PRIME, (widest, 1), generator=generator, device="cpu"), persistent=False
        )

    def forward(self, step: Step) -> Float[Tensor, ""]:
        tokens = step.batch.tokens
        self.counts.index_add_(0, tokens, torch.ones_like(tokens, dtype=self.counts.dtype))
        return super().forward(step)

    def penalty(self, acts: Float[Tensor, "token decoy"], step: Step) -> Float[Tensor, ""]:
        ids, member = self.unions()
        none = member.new_zeros(len(member), 1)
        column = torch.full((IDS,), len(ids), device=ids.device).scatter_(0, ids, torch.arange(len(ids)).to(ids))
        own = torch.cat([member, none], 1)[: acts.shape[1], column[step.batch.tokens]].T
        return binary_cross_entropy_with_logits(acts.float(), own)

    def unions(self) -> tuple[Int[Tensor, "type"], Float[Tensor, "decoy type"]]:
        """Ids of the most frequent token types, and a matrix that is 1 where a type belongs to a decoy's union."""
        counted = self.counts.topk(FREQUENT)
        shares = counted.values / self.counts.sum().clamp_min(1)
        shares = torch.where(shares <= self.coverage / 2, shares, torch.inf)  # so that a union has several types
        order = ((counted.indices + 1) * self.keys % PRIME).where(shares.isfinite(), PRIME).argsort(1)
        kept = (shares[order].cumsum(1) <= self.coverage) & (shares[order] > 0)
        if self.types is not None:
            kept[:, self.types :] = False
        return counted.indices, torch.zeros_like(shares[order]).scatter_(1, order, kept.float())


PRIME = 2_147_483_647  # its product with an id fits in 64 bits
