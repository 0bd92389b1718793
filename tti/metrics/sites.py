"""The contract of an interpretability metric, and its instances at the sites of a model."""

from abc import ABC, abstractmethod
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import cast

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torchmetrics import Metric

from tti.models.network import Site
from tti.models.taps import choose, kind_of, layer_of
from tti.step import Step


class SiteMetric(Metric, ABC):
    """A metric of one site's activations: ``width`` neurons over the tokens of a split with ``n_types`` types."""

    full_state_update = False

    def __init__(self, width: int, n_types: int) -> None:
        super().__init__()
        self.width = width
        self.n_types = n_types

    @abstractmethod
    def update(self, acts: Float[Tensor, "token width"], step: Step) -> None:
        """Add one step's activations; every row is a token in the loss."""

    @abstractmethod
    def compute(self) -> dict[str, Tensor]:
        """Named scalars."""


class AtSites(nn.Module):
    """One metric at every site that matches a glob (or several), with heads concatenated."""

    def __init__(self, sites: str | Iterable[str], metric: Callable[..., SiteMetric]) -> None:
        super().__init__()
        self.patterns = sites
        self.metric = metric
        self.sites: tuple[str, ...] = ()
        self.metrics = nn.ModuleList()

    def choose(self, sites: Mapping[str, Site]) -> tuple[str, ...]:
        """The matching sites among those with a row per token.

        Raises:
            ValueError: a glob matches no such site; the message lists the available ones.
        """
        return choose(self.patterns, [name for name, site in sites.items() if site.rows == "token"])

    def attach(self, sites: Mapping[str, Site], n_types: int) -> None:
        """Create the metrics for a network with these sites and a split of ``n_types`` token types."""
        self.sites = self.choose(sites)
        self.metrics = nn.ModuleList(self.metric(width=sites[site].width, n_types=n_types) for site in self.sites)

    def update(self, step: Step) -> None:
        """Add one step at every site."""
        for site, metric in self._each():
            metric.update(step.activations[site].flatten(1), step)

    def compute(self) -> dict[str, Tensor]:
        """``<name>/<kind of site>/layer_<i>`` for every site, and ``<name>/<kind of site>/mean`` over the layers."""
        values: dict[str, Tensor] = {}
        over_layers: dict[str, list[Tensor]] = defaultdict(list)
        for site, metric in self._each():
            for name, value in metric.compute().items():
                kind = f"{name}/{kind_of(site)}"
                values[f"{kind}/{layer_of(site)}"] = value
                over_layers[kind].append(value)
        means = {f"{kind}/mean": torch.stack(each).double().mean() for kind, each in over_layers.items()}
        return values | means

    def reset(self) -> None:
        """Reset the metrics of all sites."""
        for _, metric in self._each():
            metric.reset()

    def _each(self) -> Iterator[tuple[str, SiteMetric]]:
        return zip(self.sites, cast(Iterable[SiteMetric], self.metrics), strict=True)
