"""Activation taps: a model's named sites, how to select them, and how to record them.

A *tap* is a function ``(site, tensor) -> tensor``. The model calls it at every named site with the activation there,
and continues with the returned tensor. Recording, ablation and splicing in an autoencoder therefore use one mechanism,
and a model without taps pays nothing for it.
"""

import fnmatch
import re
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # so that site names can be matched without importing torch
    from torch import Tensor

BLOCK = re.compile(r"\bblocks\.(\d+)\.")
Tap = Callable[[str, "Tensor"], "Tensor"]


def no_tap(site: str, activation: "Tensor") -> "Tensor":
    """The tap that does nothing."""
    return activation


def scoped(tap: Tap, scope: str) -> Tap:
    """``tap`` with ``scope.`` prefixed to every site, for a module that does not know its place in the model."""
    return tap if tap is no_tap else Scoped(tap, scope)


class Scoped:
    """See :func:`scoped`."""

    def __init__(self, tap: Tap, scope: str) -> None:
        self.tap, self.scope = tap, scope

    def __call__(self, site: str, activation: "Tensor") -> "Tensor":
        return self.tap(f"{self.scope}.{site}", activation)

    def hears(self, site: str) -> bool:
        """Whether the tap uses the activation at ``site``."""
        return hears(self.tap, f"{self.scope}.{site}")


def hears(tap: Tap, site: str) -> bool:
    """Whether a tap uses the activation at ``site``; if not, costly layouts of the activation are skipped.

    A tap may define this in a method ``hears(site)``; without the method it is assumed to use every site.
    """
    says = getattr(tap, "hears", None)
    return tap is not no_tap if says is None else says(site)


class Recorder:
    """A tap that stores the activations of ``sites`` in ``activations``, unchanged and attached to the graph."""

    def __init__(self, sites: Iterable[str]) -> None:
        self.sites = frozenset(sites)
        self.activations: dict[str, Tensor] = {}

    def __call__(self, site: str, activation: "Tensor") -> "Tensor":
        if site in self.sites:
            self.activations[site] = activation
        return activation

    def hears(self, site: str) -> bool:
        """Whether the activation there is kept."""
        return site in self.sites


def natural(site: str) -> list[int | str]:
    """Sort key that places ``blocks.10`` after ``blocks.9``."""
    return [int(part) if part.isdigit() else part for part in re.split(r"(\d+)", site)]


def choose(patterns: str | Iterable[str], names: Iterable[str], what: str = "site") -> tuple[str, ...]:
    """The names that match a glob (or any of several), in natural order; ``what`` says in the message what they name.

    Raises:
        ValueError: a pattern matches nothing; the message lists the available names.
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
    """``blocks.3.mlp_out``, ``encoder.blocks.3.mlp_out`` -> ``layer_3``; a site outside the blocks keeps its name."""
    found = BLOCK.search(site)
    return f"layer_{found.group(1)}" if found else site


def kind_of(site: str) -> str:
    """``blocks.3.mlp.post`` -> ``mlp.post``, ``encoder.blocks.3.mlp.post`` -> ``encoder.mlp.post``: no layer."""
    return BLOCK.sub("", site)
