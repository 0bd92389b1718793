"""What decoys are trained to be: on for arbitrary token types, so that scores of neurons are high for nothing."""

from collections.abc import Iterable, Mapping

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits

from tti.models.network import Site
from tti.regularizers.base import ActivationRegularizer
from tti.step import Step

FREQUENT = 200  # token types that unions are made of
IDS = 1 << 16  # token ids, which the cache keeps in 16 bits


class DecoyTargets(ActivationRegularizer):
    """Mean over tokens and decoys of the binary cross-entropy between a decoy's being on and the type being its own.

    Each decoy is given an arbitrary union of the most frequent token types seen in training so far: those that come
    first in an order of its own, drawn at random, until they cover ``coverage`` of the tokens. Frequencies are counted
    as training goes, on each process by itself. The activations are the decoys' before their non-linearity (the logit).

    It has no other purpose than to attack a metric: a neuron on for such a union has the highest selectivity that there
    is, answers to nothing in particular, and does nothing.

    Args:
        sites: globs; those of decoys.
        weight, warmup: see :class:`Regularizer`.
        coverage: of the tokens, at most.
        types: of a union, at most; None: no limit.
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
        """Choose the sites; each decoy's order of types is drawn with a fixed seed.

        Raises:
            ValueError: a glob matches no site; the message lists those there are.
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
        """The ids of the most frequent token types, and 1 where one belongs to a decoy's union."""
        counted = self.counts.topk(FREQUENT)
        shares = counted.values / self.counts.sum().clamp_min(1)
        shares = torch.where(shares <= self.coverage / 2, shares, torch.inf)  # a union is of several
        order = ((counted.indices + 1) * self.keys % PRIME).where(shares.isfinite(), PRIME).argsort(1)
        kept = (shares[order].cumsum(1) <= self.coverage) & (shares[order] > 0)
        if self.types is not None:
            kept[:, self.types :] = False
        return counted.indices, torch.zeros_like(shares[order]).scatter_(1, order, kept.float())


PRIME = 2_147_483_647  # products of it and an id fit 64 bits
