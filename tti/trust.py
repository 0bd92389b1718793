"""Restrictions on run folders that may come from somebody else.

A run's ``config.yaml`` names classes, and Hydra calls what is named. A configuration that is *loaded*, rather than
composed from a command, must therefore be resolved already, and may name only what networks, regularizers and corpora
are made of, and packages that the user trusts by name.
"""

import inspect
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from hydra.errors import InstantiationException
from hydra.utils import get_object
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

# Packages and modules from which a loaded configuration may name classes and, with `get_method`, functions.
ALLOWED = (
    "tti.autoencoders",
    "tti.data.corpora",
    "tti.data.module",
    "tti.data.multitask",
    "tti.data.sentences",
    "tti.data.tasks",
    "tti.models",
    "tti.regularizers",
    "torch.nn",
)
BUILT_IN = ("torch._C._nn",)  # the module of functions of torch.nn.functional such as gelu
LOOKED_UP = ("hydra.utils.get_method", "hydra.utils.get_class")  # return what `path` names, without calling it


def load(path: Path) -> Any:
    """The mapping or list in a YAML file of a run folder, unresolved.

    Raises:
        ValueError: it is not YAML, or neither of the two.
    """
    return parse(path.read_bytes(), str(path))


def parse(content: bytes, where: str) -> Any:
    """:func:`load` for a file's content."""
    try:
        return OmegaConf.to_container(OmegaConf.create(content.decode()), resolve=False)
    except (yaml.YAMLError, UnicodeDecodeError, OmegaConfBaseException) as error:
        raise ValueError(f"{where} is damaged: it is not YAML ({' '.join(str(error).split())})") from error


def configuration(content: Any, where: str) -> DictConfig:
    """The content of a run folder's ``config.yaml``.

    Raises:
        ValueError: it is not a mapping, or has interpolations, which could read the environment.
    """
    if not isinstance(content, dict):
        raise ValueError(f"{where} is damaged: it is not a configuration")
    for key, value in _leaves(content):
        if "${" in str(value):
            raise ValueError(
                f"{where} has an interpolation, {key}: {value}. A run writes none, and this one could read the "
                "environment. If you trust the origin of the folder, replace it by the value"
            )
    return OmegaConf.create(content)


def allowed(config: DictConfig, trust: Sequence[str] = ()) -> DictConfig:
    """The configuration itself, after checking that it names only what it may: what Hydra can call.

    Args:
        config: the configuration of a run folder, or a part of it.
        trust: packages besides ours and torch's whose code may run.

    Raises:
        ValueError: it names something else, or something that does not exist.
    """
    for node in _nodes(OmegaConf.to_container(config, resolve=False)):
        _require_allowed(node, trust)
    return config


def named(path: str, trust: Sequence[str] = ()) -> Any:
    """The class or function with this name.

    Raises:
        ValueError: a loaded configuration may not name it, or it does not exist.
    """
    packages = (*ALLOWED, *trust)
    hint = f"If you trust the origin of the folder and want to run that code: trust={path.partition('.')[0]}"
    if not _below(path, packages) or (_private(path) and not _below(path, trust)):
        raise ValueError(f"a run folder may not name {path}, since that runs code other than its parts'. {hint}")
    try:
        found = get_object(path)
    except (ImportError, ValueError, InstantiationException) as error:
        package = path.partition(".")[0]
        raise ValueError(f"cannot find {path}: is {package} installed, or its folder on PYTHONPATH?") from error
    if not _below(_home(found), (*packages, *BUILT_IN)):
        raise ValueError(f"a run folder may not name {path}, which is {_home(found)}'s own. {hint}")
    return found


def packages(given: str | Sequence[str] | None) -> tuple[str, ...]:
    """The packages of the option ``trust``: none, one, or a list."""
    return (given,) if isinstance(given, str) else tuple(given or ())


def _require_allowed(node: Mapping[str, Any], trust: Sequence[str]) -> None:
    target = node["_target_"]
    if not isinstance(target, str):
        raise ValueError(f"a run folder may not name {target} as a _target_: it is not a name")
    if target in LOOKED_UP:
        if set(node) != {"_target_", "path"}:
            raise ValueError(f"a run folder may give {target} a path, and nothing else")
        named(str(node["path"]), trust)
    elif not inspect.isclass(named(target, trust)) and not _below(target, trust):
        raise ValueError(f"a run folder may not call {target}: it is not a class")


def _home(found: Any) -> str:
    """The module that defined an object, whichever module it was reached through."""
    return str(getattr(inspect.unwrap(found), "__module__", None) or type(found).__module__)


def _below(path: str, packages: Sequence[str]) -> bool:
    return any(path == package or path.startswith(f"{package}.") for package in packages)


def _private(path: str) -> bool:
    return any(part.startswith("_") for part in path.split("."))


def _nodes(content: Any) -> Iterator[Mapping[str, Any]]:
    """Every mapping with a ``_target_``, at any depth."""
    if isinstance(content, Mapping):
        if "_target_" in content:
            yield content
        content = list(content.values())
    if isinstance(content, list):
        for each in content:
            yield from _nodes(each)


def _leaves(content: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Values and keys, by dotted key."""
    if isinstance(content, Mapping):
        for key, value in content.items():
            yield f"{prefix}{key}", key
            yield from _leaves(value, f"{prefix}{key}.")
    elif isinstance(content, list):
        for index, value in enumerate(content):
            yield from _leaves(value, f"{prefix}{index}.")
    else:
        yield prefix.rstrip("."), content
