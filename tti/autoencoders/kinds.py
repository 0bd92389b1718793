"""The kinds of autoencoders: each is a class, and a YAML of the group ``regularizer/autoencoder`` that names it."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from typing import Any

from hydra.utils import get_class, instantiate
from omegaconf import OmegaConf

from tti.autoencoders.base import SparseAutoencoder
from tti.configuration import options

GROUP = "regularizer/autoencoder"
Make = Callable[..., SparseAutoencoder]


def sweep(names: Iterable[str], sparsities: Mapping[str, Any]) -> dict[str, Make]:
    """``<kind>_<sparsity>`` -> function that makes one from ``d_in``, ``d_sae``, ``seed`` and ``dead_after``.

    Args:
        names: names of kinds.
        sparsities: a kind's ``sparsity_argument`` -> its values, for one autoencoder each; by default the YAML's value.

    Raises:
        ValueError: there is no such kind; the message lists the kinds.
    """
    names, there = list(names), options(GROUP)
    if unknown := [name for name in names if name not in there]:
        raise ValueError(f"no kind of autoencoder {', '.join(unknown)}; there are: {', '.join(there)}")
    return dict(each for name in names for each in _swept(name, OmegaConf.load(there[name]), sparsities))


def _swept(name: str, config: Any, sparsities: Mapping[str, Any]) -> Iterator[tuple[str, Make]]:
    kind: type[SparseAutoencoder] = get_class(config._target_)
    for value in sparsities.get(kind.sparsity_argument) or [config[kind.sparsity_argument]]:
        yield f"{name}_{value:g}", partial(instantiate(config), **{kind.sparsity_argument: value})
