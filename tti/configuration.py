"""How configurations are found, spelled into folder names, and told apart."""

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

# What cannot change a run's result, and so is no part of its identity and of its name. A key stands for all below it.
# The number of devices is not among them: regularizers see one process's stories.
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
# Measured along the way. A folder's name may say it, but no run is another for it.
MEASURED = ("metrics",)
# What runs had before these knobs existed, where that is not today's default.
BEFORE = {"model.init_std": 0.02}
MISSING = "-"
HANDED_OVER = ("._convert_", "._partial_", "._recursive_")  # how Hydra hands arguments over, not which they are
# What `task` said again of what stands at the top, in runs up to 0.1.
REPEATED = ("metrics", "net", "optimizer", "regularizers", "schedule", "seed", "weighting")
# Overrides that say which method is trained, rather than on what and how long.
METHOD = ("regularizer", "weighting", "model/mlp", "model.mlp")
LONGEST_NAME = 120
DISTRIBUTION = "training-time-interpretability"
LAUNCHERS = {"submitit": "slurm", "ray": "ray"}  # plugins of Hydra's -> the extras that bring them
LONGEST_FILE = 255  # bytes of one name on common file systems


def conf_dir() -> str:
    """The folder of the YAML files: $TTI_CONF, else inside an installed package, else beside a checkout's package."""
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
    return {key: value for key, value in flat(_plain(config)).items() if _has_effect(key)}


def _plain(config: DictConfig) -> dict[str, Any]:
    return cast(dict[str, Any], OmegaConf.to_container(config, resolve=True))


@dataclass(frozen=True)
class Recorded:
    """A configuration as a run folder has it: the knobs that there were when the run began, resolved.

    Args:
        config: the folder's ``config.yaml``.
        overrides: its ``overrides.yaml``, the command that it was composed from; None if that is not known.
    """

    config: DictConfig
    overrides: Sequence[str] | None

    def differences(self, wanted: DictConfig) -> dict[str, tuple[Any, Any]]:
        """Where ``wanted`` trains something else: key -> (value there, value wanted), ``-`` for none.

        A knob that was added since has the value there that ``BEFORE`` declares, or else its default: what the run's
        own command gives it today.
        """
        there, here = _compared(self.config), _compared(wanted)
        there |= self._today(here.keys() - there.keys()) | self._before(wanted)
        keys = sorted(key for key in there | here if not _same(there.get(key, MISSING), here.get(key, MISSING)))
        return {key: (there.get(key, MISSING), here.get(key, MISSING)) for key in keys}

    def continued(self, wanted: DictConfig) -> DictConfig:
        """``wanted`` as this run continues it: a knob of ``BEFORE`` that the command leaves alone stays as it was."""
        kept, before = wanted.copy(), self._before(wanted)
        for key, default in self._today(before).items():
            if OmegaConf.select(wanted, key) == default:
                OmegaConf.update(kept, key, before[key])
        return kept

    def _before(self, wanted: DictConfig) -> dict[str, Any]:
        """What ``BEFORE`` declares of the knobs of ``wanted`` that this run does not have."""
        there, here = flat(_plain(self.config)), flat(_plain(wanted))
        return {key: value for key, value in BEFORE.items() if key in here and key not in there}

    def _today(self, keys: Collection[str]) -> dict[str, Any]:
        """The values of those of ``keys`` that the run's command composes to with today's configurations."""
        if not keys or self.overrides is None:
            return {}  # composing takes half a second
        try:
            found = {key: OmegaConf.select(self._composed, key, default=MISSING) for key in keys}
        except (HydraException, OmegaConfBaseException):  # an option that is gone, or lies in a folder not given here
            return {}
        plain = {
            key: OmegaConf.to_container(each) if OmegaConf.is_config(each) else each for key, each in found.items()
        }
        return {key: value for key, value in plain.items() if value != MISSING}

    @cached_property
    def _composed(self) -> DictConfig:
        return _composed(self.overrides or ())


def _same(there: Any, here: Any) -> bool:
    """Whether they are one value; a single one stands for a list of one, as runs had it before there was a schema."""
    return bool(there == here or [there] == here or there == [here])


def _compared(config: DictConfig) -> dict[str, Any]:
    leaves = identity(config).items()
    return {key: value for key, value in leaves if not _stands_for(MEASURED, key) and not key.endswith(HANDED_OVER)}


def _composed(overrides: Iterable[str]) -> DictConfig:
    """``python -m tti.train overrides`` as it is composed today, by the search path of the present command if any."""
    if not GlobalHydra.instance().is_initialized():
        with initialize_config_dir(conf_dir(), version_base=None):
            return compose("train", list(overrides))
    given = [] if HydraConfig.instance().cfg is None else HydraConfig.get().overrides.hydra
    searched = [override for override in given if override.startswith("hydra.searchpath=")]
    return compose("train", [*searched, *overrides])


def without_repetitions(config: DictConfig) -> DictConfig:
    """The configuration of a run, without what those up to 0.1 said twice."""
    kept = config.copy()
    if "task" in kept:
        kept.task = {key: value for key, value in kept.task.items() if key not in REPEATED}
    regularizers = (kept.get("regularizer") or {}).values()
    for owner in (kept, *filter(OmegaConf.is_dict, regularizers)):
        if OmegaConf.select(owner, "weighting.baseline.like") is not None:
            del owner.weighting.baseline.like
    return kept


def spell(overrides: Iterable[str]) -> str:
    """A readable folder name from command-line overrides, those without effect on the result left out.

    ``model=mini trainer.max_steps=9 regularizer=[l1,orthogonality]`` -> ``mini+trainer.max_steps-9+l1+orthogonality``:
    nothing that a shell or Hydra's own grammar (``run=FOLDER``) would want quoted. A very long one is cut and ended
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
    """The default ``variant`` of a run: all its overrides, or the method's where ``name`` stands for the others.

    Those that are ``swept`` are spelled in any case: they tell the jobs of a sweep apart.
    """
    said = [each for each in overrides if not named or each in swept or each.lstrip("+~").startswith(METHOD)]
    return spell(said) or "baseline"


def quoted(arguments: Sequence[str], keys: Iterable[str] = (), lists: Iterable[str] = ()) -> list[str]:
    """Command-line arguments as Hydra's grammar takes them.

    What that grammar cannot read is taken as it stands: names of files with parentheses, ``=``, ``~`` or accents, say.
    The values of ``keys`` always are, but in a sweep, and but lists of those that are ``lists``.
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
    """The keys that there are where an override named one that there is not; empty for other errors."""
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
    """The extra that a configuration comes with that there is not: that of a launcher's plugin."""
    launcher = missing.removeprefix("hydra/launcher/").partition("_")[0]
    return LAUNCHERS.get(launcher, "") if missing.startswith("hydra/launcher/") else ""


def identity_digest(config: DictConfig) -> str:
    """Twelve characters that stand for what identifies a run."""
    return digest(json.dumps(identity(config), sort_keys=True))


def without_folders(override: str) -> str:
    """Without the folders of one machine: an absolute path keeps its last two parts."""
    return re.sub(r"(?<=[=\[,'\"])/[^,\]'\"]+", lambda path: "/".join(["...", *path[0].split("/")[1:][-2:]]), override)


def digest(text: str) -> str:
    """Twelve characters that stand for a text."""
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def _has_effect(key: str) -> bool:
    return not _stands_for(WITHOUT_EFFECT, key)


def _stands_for(keys: Iterable[str], key: str) -> bool:
    return any(key == each or key.startswith(f"{each}.") for each in keys)


_assumed_cuda: ContextVar[bool | None] = ContextVar("_assumed_cuda", default=None)


@contextmanager
def as_on_a_gpu() -> Iterator[None]:
    """Compose and check here as a machine with GPUs does of the same overrides."""
    token = _assumed_cuda.set(True)
    try:
        yield
    finally:
        _assumed_cuda.reset(token)


def is_for_elsewhere() -> bool:
    """Whether what is checked here is to run on another machine, by :func:`as_on_a_gpu`."""
    return _assumed_cuda.get() is not None


def _if_cuda(there: Any, elsewhere: Any) -> Any:
    assumed = _assumed_cuda.get()
    return there if (_has_cuda() if assumed is None else assumed) else elsewhere


def _has_cuda() -> bool:
    """Whether torch has a GPU; without a driver it is not asked, whose import takes seconds."""
    if not _may_have_cuda():
        return False
    import torch

    return torch.cuda.is_available()


@cache
def _may_have_cuda() -> bool:
    if sys.platform != "linux" or Path("/dev/kfd").exists():  # which AMD's driver has
        return True
    try:
        ctypes.CDLL("libcuda.so.1")
    except OSError:
        return False
    return True


def every(fraction: float, steps: int, times: int = 1, least: int = 1, most: int | None = None) -> int:
    """``times`` an interval of steps: a fraction of all, but no less than ``least``, and no more than ``most``."""
    return max(1, min(max(least, round(fraction * steps)), steps, most or steps)) * times


def _knobs(name: str) -> str:
    """A command's YAML with its comments, less its first line, its defaults and Hydra's settings."""
    text = Path(conf_dir(), f"{name}.yaml").read_text(encoding="utf-8").partition("\n")[2]
    own = re.sub(r"(?m)^(defaults|hydra):\n(?:(?:[ ].*)?\n)*", "", text + "\n").strip()
    return f"{own}\n".replace("$", "$$")  # Hydra fills in a template with it


def _folder(start: Any, *names: Any) -> str:
    """``start/name/name``, where names cannot lead elsewhere."""
    for name in map(str, names):
        if not name.strip(".") or set("/\\\0") & set(name) or len(name.encode()) > LONGEST_FILE:
            raise ValueError(
                f"{name!r} cannot name a folder: experiment, name and variant are names of at most {LONGEST_FILE} "
                "bytes, without / and \\. Another place for all runs is runs=FOLDER"
            )
    return "/".join(map(str, (Path(str(start)).expanduser(), *names)))


def register_resolvers() -> None:
    """Make the resolvers that ``conf/`` uses known to OmegaConf; again is harmless."""
    resolvers = {
        "every": every,
        "folder": _folder,
        "if_cuda": _if_cuda,
        "knobs": _knobs,
        "join": lambda *words: "-".join(str(word) for word in words if word),
        "times": lambda a, b: a * b,
        "variant": lambda name: spell_variant(HydraConfig.get().overrides.task, named=bool(name)),
    }
    for name, resolver in resolvers.items():
        OmegaConf.register_new_resolver(name, resolver, replace=True)  # type: ignore[arg-type]


register_resolvers()


def root_cause(error: BaseException) -> BaseException:
    """The error itself, where Hydra wraps one that came from instantiating something.

    Of a class that cannot be imported, a ValueError with a way out.
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
