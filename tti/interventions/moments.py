"""First and second moments of the activations at a site."""

from collections.abc import Iterable

import torch
from jaxtyping import Float
from torch import Tensor


class Moments:
    """A tap that accumulates first and second moments at some sites, without changing the activations."""

    def __init__(self, sites: Iterable[str]) -> None:
        self.tokens = dict.fromkeys(sites := tuple(sites), 0)
        self.sums: dict[str, Float[Tensor, "width"]] = {site: torch.zeros(()) for site in sites}
        self.squares = dict(self.sums)

    def __call__(self, site: str, activation: Tensor) -> Tensor:
        if site in self.sums:
            acts = activation.flatten(1).double()
            self.tokens[site] += len(acts)
            self.sums[site] = acts.sum(0) + self.sums[site].to(acts.device)
            self.squares[site] = acts.square().sum(0) + self.squares[site].to(acts.device)
        return activation

    def mean(self, site: str) -> Float[Tensor, "width"]:
        """Mean over the tokens."""
        return self.sums[site] / self.tokens[site]

    def variance(self, site: str) -> float:
        """Variance over the tokens, summed over the width."""
        return float((self.squares[site] / self.tokens[site] - self.mean(site).square()).sum())
