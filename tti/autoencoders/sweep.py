"""Autoencoders of one kind at several sparsities, and the selection of kinds."""

from collections.abc import Callable, Iterable, Mapping
from functools import partial

from tti.autoencoders.base import SparseAutoencoder

Make = Callable[..., SparseAutoencoder]


class Sweep:
    """One kind of autoencoder, with several values of one argument: ``Sweep(TopK, k=[8, 32])``.

    Args:
        kind: makes an autoencoder from that argument and all others.
        argument: name and values of the argument.
    """

    def __init__(self, kind: Make, **argument: Iterable[float]) -> None:
        ((name, values),) = argument.items()
        self.makes = {f"{value:g}": partial(kind, **{name: value}) for value in values}


def chosen(kinds: Mapping[str, Sweep], names: Iterable[str]) -> dict[str, Make]:
    """``<kind>_<value>`` -> constructor (from ``d_in``, ``d_sae``, ``seed`` and ``dead_after``), for the named kinds.

    Raises:
        ValueError: there is no such kind; the message lists the available ones.
    """
    names = list(names)
    if unknown := [name for name in names if name not in kinds]:
        raise ValueError(f"no kind of autoencoder {', '.join(unknown)}; there are: {', '.join(kinds)}")
    return {f"{name}_{value}": make for name in names for value, make in kinds[name].makes.items()}
