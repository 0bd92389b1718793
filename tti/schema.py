"""Allowed values of configuration keys: the rules of ``schema.yaml``, checked before anything starts."""

import math
import operator
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import yaml
from omegaconf import DictConfig, ListConfig, OmegaConf, read_write
from omegaconf.errors import OmegaConfBaseException

BOUNDS = {"from": operator.ge, "above": operator.gt, "to": operator.le, "below": operator.lt}
NOTE = re.compile(r" \(.*\)")
OR = re.compile(r",? or |, (?!to |below )")
BOUND = re.compile(r",? (from|above|to|below) ([^\s,]+)")
TYPE = re.compile(rf"an? (list of )?(integer|number|text|path|switch|mapping|device)s?((?:{BOUND.pattern})*)")


class RefusedError(Exception):
    """A value violates a rule."""


def check(config: DictConfig) -> None:
    """Check every key, and normalize its value: the home folder for ``~``, lists for single values.

    Given values come before values derived from them, so that the error names a key that the user can set.

    Raises:
        ValueError: a key is missing, or violates its rule; one line, which names it.
    """
    knobs = list(_knobs(config))
    for knob in sorted(knobs, key=lambda knob: knob.derived):
        knob.settle()


@dataclass(frozen=True)
class Knob:
    """A key in a configuration, with its value.

    Attributes:
        path: the keys that lead to it.
        parent: the node that contains it.
        key: its key in that node.
        rule: its rule; None allows anything except NaN and infinity.
    """

    path: tuple[str, ...]
    parent: Any
    key: Any
    rule: str | None

    @property
    def derived(self) -> bool:
        """Whether its value refers to other keys."""
        return bool(OmegaConf.is_interpolation(self.parent, self.key))

    def settle(self) -> None:
        """Check and normalize its value.

        Raises:
            ValueError: see :func:`check`.
        """
        name, rule = ".".join(self.path), self.rule or "a finite number"
        if OmegaConf.is_missing(self.parent, self.key):
            raise ValueError(f"{name} is missing: it must be {(self.rule or 'given').removesuffix(' or null')}")
        try:
            value = self.parent[self.key]
        except OmegaConfBaseException:
            return  # refers to a value filled in later, such as the model's context for a command's data
        try:
            allowed = allow(value, self.rule)
        except RefusedError as refused:
            raise ValueError(f"{name}={_shown(value)} must be {rule}{refused}") from refused
        if allowed is not value and not self.derived:
            with read_write(self.parent):
                self.parent[self.key] = allowed


def allow(value: Any, rule: str | None) -> Any:
    """The value, normalized as a rule requires.

    Raises:
        RefusedError: the rule does not allow it.
    """
    if rule is None:
        return _require(value, not isinstance(value, float) or math.isfinite(value))
    why, alternatives = "", OR.split(NOTE.sub("", rule))
    single = any(not match[1] for match in map(TYPE.fullmatch, alternatives) if match)
    for alternative in alternatives:
        try:
            return _typed(value, alternative, wrapped=not single)
        except RefusedError as refused:
            why = why or str(refused)
    raise RefusedError(why)


def _typed(value: Any, alternative: str, wrapped: bool) -> Any:
    """The value under one alternative of a rule; ``wrapped``: a single value may stand for a list of one."""
    match = TYPE.fullmatch(alternative)
    if match is None:  # a word
        word = yaml.safe_load(alternative)
        return _require(value, value == word and isinstance(value, bool) == isinstance(word, bool))
    many, kind, bounds = match[1], match[2], BOUND.findall(match[3])
    if not many:
        return _one(value, kind, bounds)
    if not isinstance(value, ListConfig):
        return [_one(_require(value, wrapped), kind, bounds)]
    each = [_one(item, kind, bounds) for item in _require(value, len(value) > 0)]
    return value if each == list(value) else each


def _one(value: Any, kind: str, bounds: Sequence[tuple[str, str]]) -> Any:
    return {
        "integer": lambda: _number(value, bounds, whole=True),
        "number": lambda: _number(value, bounds, whole=False),
        "text": lambda: _text(value),
        "path": lambda: _path(_require(value, isinstance(value, str) and value != "")),
        "switch": lambda: _require(value, isinstance(value, bool)),
        "mapping": lambda: _require(value, isinstance(value, DictConfig)),
        "device": lambda: _device(value),
    }[kind]()


def _require(value: Any, allowed: bool) -> Any:
    if not allowed:
        raise RefusedError
    return value


def _number(value: Any, bounds: Sequence[tuple[str, str]], whole: bool) -> Any:
    try:
        number = float(_require(value, isinstance(value, str | int | float) and not isinstance(value, bool)))
    except ValueError as error:
        raise RefusedError from error
    _require(value, math.isfinite(number) and all(BOUNDS[word](number, float(bound)) for word, bound in bounds))
    if whole:
        _require(value, number.is_integer())
        return value if isinstance(value, int) else int(number)
    return number if isinstance(value, str) else value


def _text(value: Any) -> Any:
    """A text that is not empty, or a number, since Hydra reads a name of digits as one."""
    _require(value, isinstance(value, str | int | float) and not isinstance(value, bool) and value != "")
    return value if isinstance(value, str) else str(value)


def _path(value: str) -> str:
    return str(Path(value).expanduser()) if value.startswith("~") else value


def _device(value: Any) -> Any:
    import torch  # takes seconds that other keys can avoid

    there = ["cpu", *["cuda"] * torch.cuda.is_available(), *(f"cuda:{i}" for i in range(torch.cuda.device_count()))]
    if value not in there:
        raise RefusedError(f" of this machine, which has {', '.join(there)}")
    return value


def _shown(value: Any) -> str:
    return yaml.safe_dump(OmegaConf.to_container(value) if OmegaConf.is_config(value) else value,
                          default_flow_style=True, allow_unicode=True, width=10**6).partition("\n")[0]  # fmt: skip


def _knobs(node: Any, path: tuple[str, ...] = (), owner: str = "") -> Iterator[Knob]:
    """All keys of a node; ``owner`` is the name of the class that takes them as arguments."""
    for key in range(len(node)) if isinstance(node, ListConfig) else node:
        here = (*path, str(key))
        if str(key).startswith("_") or (here[:1] == ("hydra",) and len(here) == 2 and key != "launcher"):
            continue
        rule = _rule(here, owner)
        child = None if OmegaConf.is_missing(node, key) or OmegaConf.is_interpolation(node, key) else node[key]
        if rule or not isinstance(child, DictConfig | ListConfig) or not child:
            yield Knob(here, node, key, rule)
        if isinstance(child, DictConfig) or (isinstance(child, ListConfig) and not rule):
            yield from _knobs(child, here, str(child.get("_target_", "")) if isinstance(child, DictConfig) else "")


@cache
def _rule(path: tuple[str, ...], owner: str) -> str | None:
    named = [path, (*path[:-2], owner.rpartition(".")[2], path[-1])] if owner else [path]
    names = ["\0".join(name) + "\0" for name in named]
    return next((rule for pattern, rule in _rules() if any(pattern.fullmatch(name) for name in names)), None)


@cache
def _rules() -> list[tuple[re.Pattern[str], str]]:
    rules = yaml.safe_load(Path(__file__).with_suffix(".yaml").read_text(encoding="utf-8"))
    return [(_pattern(name), rule) for name, rule in rules.items()]


def _pattern(name: str) -> re.Pattern[str]:
    parts = {"*": "[^\0]*\0", "**": "([^\0]*\0)*"}
    return re.compile("".join(parts.get(part, re.escape(part) + "\0") for part in name.split(".")))
