"""Where configurations are found, how they are spelled into folder names, and what identifies a run."""

import ctypes
import hashlib
import json
import os
import re
import sys
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from functools import cache, cached_property
from importlib.resources import files
from pathlib import Path
from typing import Any, cast

from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException, InstantiationException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

# Keys that cannot change a run's result, and so are no part of its identity or name. A key covers everything below it.
# The number of devices is not among them: regularizers see the stories of one process.
WITHOUT_EFFECT = (
    "callbacks",
    "data.corpus.cache_dir",
    "data.num_workers",
    "experiment",
    "hydra",
    "logger",
    "name",
    "overwrite",
    "run_dir",
    "runs",
    "threads",
    "trainer.accelerator",
    "trainer.enable_model_summary",
    "trainer.log_every_n_steps",
    "trainer.strategy",
    "trainer.plugins",
    "variant",
)
# Keys that only add measurements. They may appear in a folder's name, but do not change a run's identity.
MEASURED = ("metrics",)
# A question that each run answers for itself (tti.precision): what was recorded is the answer.
PRECISION, AUTO = "trainer.precision", "auto"
# Values that runs had before these keys existed, if different from today's default.
BEFORE = {"model.init_std": 0.02}
MISSING = "-"
HANDED_OVER = ("._convert_", "._partial_", "._recursive_")  # how Hydra passes arguments, not what they are
# Keys of `task` that repeated top-level keys in runs up to 0.1.
REPEATED = ("metrics", "net", "optimizer", "regularizers", "schedule", "seed", "weighting")
# Overrides that choose the method, rather than the data or the length of training.
METHOD = ("regularizer", "weighting", "model/mlp", "model.mlp", "model/bottleneck", "model.bottleneck")
NAMING = ("variant=", "name=", "seed=", "experiment=", "runs=", "run_dir=")  # overrides that only name a run
LONGEST_NAME = 120
DISTRIBUTION = "training-time-interpretability"
LAUNCHERS = {"submitit": "slurm", "ray": "ray"}  # Hydra plugins -> the extras that install them
LONGEST_FILE = 255  # maximum bytes of a name on common file systems


def conf_dir() -> str:
    """The folder of the YAML files: $TTI_CONF, or in an installed package, or next to a checkout's package."""
    package = Path(str(files("tti")))
    candidates = (
        [Path(os.environ["TTI_CONF"]).expanduser()]
        if "TTI_CONF" in os.environ
        else [package / "conf", package.parent / "conf"]
    )
    for candidate in candidates:
        if (candidate / "train.yaml").is_file():
            return str(candidate.resolve())
    raise SystemExit(f"no train.yaml in {' or '.join(map(str, candidates))}: set TTI_CONF to the folder conf/")


def options(group: str) -> dict[str, Path]:
    """The YAML files of a configuration group by name, wherever the present command looks for them."""
    told = HydraConfig.instance().cfg
    sources = HydraConfig.get().runtime.config_sources if told is not None else ()
    folders = {each.path: None for each in sources if each.schema == "file"} | {conf_dir(): None}
    return {path.stem: path for folder in reversed(folders) for path in sorted(Path(folder, group).glob("*.yaml"))}


def flat(config: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """``{"a": {"b": 1}}`` -> ``{"a.b": 1}``."""
    leaves: dict[str, Any] = {}
    for key, value in config.items():
        if isinstance(value, Mapping) and value:
            leaves |= flat(value, f"{prefix}{key}.")
        else:
            leaves[f"{prefix}{key}"] = value
    return leaves


def identity(config: DictConfig) -> dict[str, Any]:
    """The resolved leaves of a configuration that can change a run's result."""
    return {key: value for key, value in flat(plain(config)).items() if _has_effect(key)}


def plain(config: DictConfig) -> dict[str, Any]:
    """A configuration as resolved dictionaries and lists."""
    return cast(dict[str, Any], OmegaConf.to_container(config, resolve=True))


@dataclass(frozen=True)
class Recorded:
    """A configuration as recorded in a run folder: resolved, with the keys that existed when the run began.

    Args:
        config: the folder's ``config.yaml``.
        overrides: its ``overrides.yaml``, from which the configuration was composed; None if unknown.
    """

    config: DictConfig
    overrides: Sequence[str] | None

    def differences(self, wanted: DictConfig) -> dict[str, tuple[Any, Any]]:
        """Keys in which ``wanted`` would train differently: key -> (recorded value, wanted value), ``-`` for none.

        A key added since then counts as having the value declared in ``BEFORE`` or, failing that, its default, which is
        read by composing the run's own command today.
        """
        there, here = _compared(self.config), _compared(wanted)
        there |= self._today(here.keys() - there.keys()) | self._before(wanted)
        keys = sorted(key for key in there | here if not _same(there.get(key, MISSING), here.get(key, MISSING)))
        return {key: (there.get(key, MISSING), here.get(key, MISSING)) for key in keys}

    def continued(self, wanted: DictConfig) -> DictConfig:
        """``wanted``, adjusted to continue this run: a precision that it leaves to the machine stays as it was, and so
        do keys in ``BEFORE`` that the command does not set."""
        kept, before = wanted.copy(), self._before(wanted)
        for key, default in self._today(before).items():
            if OmegaConf.select(wanted, key) == default:
                OmegaConf.update(kept, key, before[key])
        if OmegaConf.select(wanted, PRECISION) == AUTO:
            OmegaConf.update(kept, PRECISION, OmegaConf.select(self.config, PRECISION, default=AUTO))
        return kept

    def _before(self, wanted: DictConfig) -> dict[str, Any]:
        """The values that ``BEFORE`` declares for keys of ``wanted`` that this run lacks."""
        there, here = flat(plain(self.config)), flat(plain(wanted))
        return {key: value for key, value in BEFORE.items() if key in here and key not in there}

    def _today(self, keys: Collection[str]) -> dict[str, Any]:
        """Values of ``keys`` when the run's command is composed with today's configurations."""
        if not keys or self.overrides is None:
            return {}  # composing takes half a second
        try:
            found = {key: OmegaConf.select(self._composed, key, default=MISSING) for key in keys}
        except (HydraException, OmegaConfBaseException):  # an option that was removed, or is in a folder not given here
            return {}
        values = {
            key: OmegaConf.to_container(each) if OmegaConf.is_config(each) else each for key, each in found.items()
        }
        return {key: value for key, value in values.items() if value != MISSING}

    @cached_property
    def _composed(self) -> DictConfig:
        return _composed(self.overrides or ())


def _same(there: Any, here: Any) -> bool:
    """Whether two values are equal; a single value equals a list of it, as in runs from before the schema existed."""
    return bool(there == here or [there] == here or there == [here])


def _compared(config: DictConfig) -> dict[str, Any]:
    leaves = identity(config).items()
    return {key: value for key, value in leaves if not _stands_for(MEASURED, key) and not key.endswith(HANDED_OVER)}


def _composed(overrides: Iterable[str]) -> DictConfig:
    """The configuration of ``python -m tti.train overrides``, composed today with the current command's search path."""
    if not GlobalHydra.instance().is_initialized():
        with initialize_config_dir(conf_dir(), version_base=None):
            return compose("train", list(overrides))
    given = [] if HydraConfig.instance().cfg is None else HydraConfig.get().overrides.hydra
    searched = [override for override in given if override.startswith("hydra.searchpath=")]
    return compose("train", [*searched, *overrides])


def without_repetitions(config: DictConfig) -> DictConfig:
    """A run's configuration without the keys that versions up to 0.1 wrote twice."""
    kept = config.copy()
    if "task" in kept:
        kept.task = {key: value for key, value in kept.task.items() if key not in REPEATED}
    regularizers = (kept.get("regularizer") or {}).values()
    for owner in (kept, *filter(OmegaConf.is_dict, regularizers)):
        if OmegaConf.select(owner, "weighting.baseline.like") is not None:
            del owner.weighting.baseline.like
    return kept


def spell(overrides: Iterable[str]) -> str:
    """A readable folder name from command-line overrides, without those that cannot change the result.

    ``model=mini trainer.max_steps=9 regularizer=[l1,orthogonality]`` -> ``mini+trainer.max_steps-9+l1+orthogonality``:
    nothing that a shell or Hydra's grammar (``run=FOLDER``) requires quoting. A very long name is truncated and ends
    with a digest of the whole.
    """
    words = []
    for override in overrides:
        key, _, value = override.lstrip("+~").partition("=")
        if key != "seed" and _has_effect(key):
            value = value.strip("'\"[]").rpartition("/")[2].replace(",", "+")
            words.append(f"{'.'.join(key.split('.')[-2:])}-{value}" if "." in key else value)
    name = re.sub(r"[^\w.+-]+", "-", "+".join(filter(None, words)))
    return name if len(name) <= LONGEST_NAME else f"{name[:LONGEST_NAME]}-{digest(name)}"


def spell_variant(overrides: Iterable[str], named: bool, swept: Collection[str] = ()) -> str:
    """The default ``variant`` of a run: all its overrides, or only the method's if ``name`` replaces the others.

    ``swept`` overrides are always spelled out, since they distinguish the jobs of a sweep.
    """
    said = [each for each in overrides if not named or each in swept or each.lstrip("+~").startswith(METHOD)]
    return spell(said) or "baseline"


def quoted(arguments: Sequence[str], keys: Iterable[str] = (), lists: Iterable[str] = ()) -> list[str]:
    """Command-line arguments in a form that Hydra's grammar accepts.

    Values that the grammar cannot parse are taken literally, such as file names with parentheses, ``=``, ``~`` or
    accents. Values of ``keys`` are always taken literally, except in a sweep, and except lists for the keys in
    ``lists``.
    """
    sweeping = bool({"-m", "--multirun"} & set(arguments))
    free, listed = (() if sweeping else tuple(f"{key}=" for key in keys)), tuple(f"{key}=[" for key in lists)
    return [
        f"{key}={_literal(value)}"
        if argument.startswith(free) and not argument.startswith(listed)
        else _readable(argument, sweeping)
        for argument in arguments
        for key, _, value in [argument.partition("=")]
    ]


def require_options(arguments: Iterable[str]) -> None:
    """Raise ValueError if a group is set to something that is no name of an option, such as ``model=null``."""
    for argument in arguments:
        group, _, value = argument.lstrip("+~").partition("=")
        if value and Path(conf_dir(), group).is_dir() and _is_read(argument):
            chosen = OverridesParser.create().parse_override(argument).value()
            names = chosen if isinstance(chosen, list) else [chosen]
            if any(name is None or isinstance(name, bool | int | float | dict | list) for name in names):
                there = ", ".join(sorted(options(group)))
                raise ValueError(f"{argument}: choose an option of the group {group}, which has {there}")


def _readable(argument: str, sweeping: bool) -> str:
    key, equals, value = argument.partition("=")
    if argument.startswith("-") or not equals or _is_read(argument):
        return argument
    if value.startswith("[") and value.endswith("]"):
        return f"{key}=[{','.join(map(_item, value[1:-1].split(',')))}]"
    return f"{key}={','.join(map(_item, value.split(',') if sweeping else [value]))}"


def _item(text: str) -> str:
    return text if _is_read(f"key={text}") else _literal(text)


def _is_read(override: str) -> bool:
    try:
        OverridesParser.create().parse_override(override)
    except HydraException:
        return False
    return True


def _literal(value: str) -> str:
    escaped = value.replace("\\", "\\\\").replace("'", "\\'")
    return f"'{escaped}'"


def alternatives(error: BaseException | None) -> str:
    """The available keys, if an override names an unknown one; empty for other errors."""
    if extra := _extra(str(getattr(error, "missing_cfg_file", ""))):
        return f"it comes with an extra: pip install '{DISTRIBUTION}[{extra}]' (in a checkout: -e '.[{extra}]')\n"
    cause = error.__cause__ if error else None
    parent = getattr(cause, "parent_node", None)
    if not isinstance(parent, DictConfig) or getattr(cause, "key", None) in parent:
        return ""
    where = parent._get_full_key(None) or "the configuration"
    if not parent:
        return f"{where} has nothing: choose something first, as in {where}={getattr(cause, 'key', 'NAME')}\n"
    return f"{where} has: {', '.join(sorted(map(str, parent)))}\n"


def _extra(missing: str) -> str:
    """The extra that provides a missing configuration, which must be that of a launcher's plugin."""
    launcher = missing.removeprefix("hydra/launcher/").partition("_")[0]
    return LAUNCHERS.get(launcher, "") if missing.startswith("hydra/launcher/") else ""


def identity_digest(config: DictConfig) -> str:
    """A digest of a run's identity in twelve hexadecimal characters."""
    return digest(json.dumps(identity(config), sort_keys=True))


def without_folders(override: str) -> str:
    """An override without the folders of this machine: an absolute path keeps its last two parts, or one of two."""
    return re.sub(r"(?<=[=\[,'\"])/[^,\]'\"]+", _shortened, override)


def _shortened(path: re.Match[str]) -> str:
    parts = path[0].split("/")[1:]
    return "/".join(["...", *parts[-1 if len(parts) == 2 else -2 :]])


def digest(text: str) -> str:
    """A digest of a text in twelve hexadecimal characters."""
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def _has_effect(key: str) -> bool:
    return not _stands_for(WITHOUT_EFFECT, key)


def _stands_for(keys: Iterable[str], key: str) -> bool:
    return any(key == each or key.startswith(f"{each}.") for each in keys)


_assumed_cuda: ContextVar[bool | None] = ContextVar("_assumed_cuda", default=None)


@contextmanager
def as_on_a_gpu() -> Iterator[None]:
    """Compose and check here as a machine with GPUs would."""
    token = _assumed_cuda.set(True)
    try:
        yield
    finally:
        _assumed_cuda.reset(token)


def is_for_elsewhere() -> bool:
    """Whether the check is for another machine, within :func:`as_on_a_gpu`."""
    return _assumed_cuda.get() is not None


def _if_cuda(there: Any, elsewhere: Any) -> Any:
    assumed = _assumed_cuda.get()
    return there if (_has_cuda() if assumed is None else assumed) else elsewhere


def _has_cuda() -> bool:
    """Whether torch has a GPU; without a driver, torch is not imported, which takes seconds."""
    if not _may_have_cuda():
        return False
    import torch

    return torch.cuda.is_available()


@cache
def _may_have_cuda() -> bool:
    if sys.platform != "linux" or Path("/dev/kfd").exists():  # exists with AMD's driver
        return True
    try:
        ctypes.CDLL("libcuda.so.1")
    except OSError:
        return False
    return True


def every(fraction: float, steps: int, times: int = 1, least: int = 1, most: int | None = None) -> int:
    """``times`` a number of steps: a fraction of all, clipped to ``least`` and ``most``."""
    return max(1, min(max(least, round(fraction * steps)), steps, most or steps)) * times


def _knobs(name: str) -> str:
    """A command's YAML with its comments, without its first line, its defaults and Hydra's settings."""
    text = Path(conf_dir(), f"{name}.yaml").read_text(encoding="utf-8").partition("\n")[2]
    own = re.sub(r"(?m)^(defaults|hydra):\n(?:(?:[ ].*)?\n)*", "", text + "\n").strip()
    return f"{own}\n".replace("$", "$$")  # Hydra substitutes it into a template


def _folder(start: Any, *names: Any) -> str:
    """``start/name/name``, where no name can lead elsewhere."""
    if not isinstance(start, str) or not start:
        raise ValueError(f"{start!r} is not a path: runs=FOLDER is the folder of all runs, run_dir=FOLDER that of one")
    for name in map(_word, names):
        if not name.strip(".") or set("/\\\0") & set(name) or len(name.encode()) > LONGEST_FILE:
            raise ValueError(
                f"{name!r} cannot name a folder: experiment, name and variant are names of at most {LONGEST_FILE} "
                "bytes, without / and \\. To move all runs, set runs=FOLDER"
            )
    return "/".join(map(str, (Path(start).expanduser(), *names)))


def _word(value: Any) -> str:
    if not isinstance(value, str | int | float):
        raise ValueError(
            f"{value} cannot name a folder: experiment, name, variant and seed must each be one word or number"
        )
    return str(value)


def register_resolvers() -> None:
    """Register the resolvers of ``conf/`` with OmegaConf; may be repeated."""
    resolvers = {
        "every": every,
        "folder": _folder,
        "if": lambda true, there, elsewhere: there if true else elsewhere,
        "if_cuda": _if_cuda,
        "knobs": _knobs,
        "join": lambda *words: "-".join(_word(word) for word in words if word not in (None, "")),
        "times": lambda a, b: a * b,
        "variant": lambda name: spell_variant(HydraConfig.get().overrides.task, named=bool(name)),
    }
    for name, resolver in resolvers.items():
        OmegaConf.register_new_resolver(name, resolver, replace=True)  # type: ignore[arg-type]


register_resolvers()


def root_cause(error: BaseException) -> BaseException:
    """The error itself, if Hydra wrapped one raised while instantiating.

    If a class cannot be imported, a ValueError that says what to do.
    """
    if not isinstance(error, InstantiationException) or error.__cause__ is None:
        return error
    cause = root_cause(error.__cause__)
    if isinstance(cause, ImportError) and (named := str(cause).partition("\n")[0]).startswith("Error loading"):
        return ValueError(
            f"{named.rstrip(':')}, which the configuration names ({cause.__cause__}): install its package here, or put "
            "its folder on PYTHONPATH"
        )
    return cause
