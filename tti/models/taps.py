"""Activation taps: the named sites of a model, how to choose them, and how to record them.

A *tap* is a function ``(site, tensor) -> tensor`` that the model calls at every named site with the activation there,
going on with what comes back. Recording, ablating a neuron and splicing an autoencoder in are therefore one mechanism,
and an untapped model pays nothing for it.
"""

import fnmatch
import re
from collections.abc import Callable, Iterable

from torch import Tensor

Tap = Callable[[str, Tensor], Tensor]


def no_tap(site: str, activation: Tensor) -> Tensor:
    """The tap that does nothing."""
    return activation


def scoped(tap: Tap, scope: str) -> Tap:
    """``tap`` with ``scope.`` before every site, for a part of a model that does not know where it stands."""
    return lambda site, activation: tap(f"{scope}.{site}", activation)


class Recorder:
    """A tap that keeps the activations of ``sites`` in ``activations``, unchanged and attached to the graph."""

    def __init__(self, sites: Iterable[str]) -> None:
        self.sites = frozenset(sites)
        self.activations: dict[str, Tensor] = {}

    def __call__(self, site: str, activation: Tensor) -> Tensor:
        if site in self.sites:
            self.activations[site] = activation
        return activation


def natural(site: str) -> list[int | str]:
    """Sorting key under which ``blocks.10`` follows ``blocks.9``."""
    return [int(part) if part.isdigit() else part for part in re.split(r"(\d+)", site)]


def choose(patterns: str | Iterable[str], names: Iterable[str], what: str = "site") -> tuple[str, ...]:
    """Those of a model's names (of sites, or of ``what`` else) that match a glob (or any of several), in natural order.

    Raises:
        ValueError: a pattern matches nothing; the message lists those there are.
    """
    patterns = [patterns] if isinstance(patterns, str) else list(patterns)
    names, chosen = list(names), set[str]()
    for pattern in patterns:
        matches = fnmatch.filter(names, pattern)
        if not matches:
            known = ", ".join(sorted({re.sub(r"\d+", "*", name) for name in names}))
            layers = [int(found[1]) for name in names if (found := re.match(r"blocks\.(\d+)\.", name))]
            blocks = f"; its blocks are 0 to {max(layers)}" if layers else ""
            raise ValueError(f"no {what} of this model matches {pattern!r}; it has: {known}{blocks}")
        chosen.update(matches)
    return tuple(sorted(chosen, key=natural))


def layer_of(site: str) -> str:
    """``blocks.3.mlp_out`` -> ``layer_3``; a site outside the blocks keeps its name."""
    found = re.match(r"blocks\.(\d+)\.", site)
    return f"layer_{found.group(1)}" if found else site


def kind_of(site: str) -> str:
    """``blocks.3.mlp.post`` -> ``mlp.post``: what the site is, whichever layer it is in."""
    return re.sub(r"^blocks\.\d+\.", "", site)
