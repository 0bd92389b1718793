"""How configurations are found, spelled into folder names, and told apart."""

import hashlib
import json
import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from importlib.resources import files
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException, MissingConfigException
from omegaconf import DictConfig, OmegaConf

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
    "task.metrics",  # these say again what stands at the top
    "task.net",
    "task.optimizer",
    "task.regularizers",
    "task.schedule",
    "task.seed",
    "task.weighting",
    "threads",
    "trainer.accelerator",
    "trainer.enable_model_summary",
    "trainer.log_every_n_steps",
    "trainer.strategy",
    "trainer.plugins",
    "variant",
    "weighting.baseline.like",
)
# Overrides that say which method is trained, rather than on what and how long.
METHOD = ("regularizer", "weighting", "model/mlp", "model.mlp")
LONGEST_NAME = 120
# What brings launchers that do not come with the package: the beginning of their names -> the distribution.
PLUGINS = {"submitit_": "hydra-submitit-launcher", "ray": "hydra-ray-launcher", "joblib": "hydra-joblib-launcher"}


def conf_dir() -> str:
    """The folder of the YAML files: $TTI_CONF, else inside an installed package, else beside a checkout's package."""
    package = Path(str(files("tti")))
    candidates = (
        [Path(os.environ["TTI_CONF"])] if "TTI_CONF" in os.environ else [package / "conf", package.parent / "conf"]
    )
    for candidate in candidates:
        if (candidate / "train.yaml").is_file():
            return str(candidate.resolve())
    raise SystemExit(f"no train.yaml in {' or '.join(map(str, candidates))}: set TTI_CONF to the folder conf/")


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
    resolved = OmegaConf.to_container(config, resolve=True)
    assert isinstance(resolved, dict)
    return {key: value for key, value in flat(resolved).items() if _has_effect(key)}  # type: ignore[arg-type]


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


def spell_variant(overrides: Iterable[str], named: bool) -> str:
    """The default ``variant`` of a run: all its overrides, or the method's where ``name`` stands for the others."""
    method = [override for override in overrides if not named or override.lstrip("+~").startswith(METHOD)]
    return spell(method) or "baseline"


def quoted(arguments: Sequence[str], keys: Iterable[str] = ()) -> list[str]:
    """Command-line arguments as Hydra's grammar takes them.

    What that grammar cannot read is taken as it stands: names of files with parentheses, ``=``, ``~`` or accents, say.
    The values of ``keys`` always are, unless they are swept over.
    """
    sweeping = bool({"-m", "--multirun"} & set(arguments))
    free = () if sweeping else tuple(f"{key}=" for key in keys)
    return [
        f"{key}={_literal(value)}" if argument.startswith(free) else _readable(argument, sweeping)
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
    """What there is where an override named what there is not: the keys, the package of a plugin; or nothing."""
    if isinstance(error, MissingConfigException):
        wanted = str(error.missing_cfg_file).removeprefix("hydra/launcher/")
        return "".join(f"pip install {package}\n" for plugin, package in PLUGINS.items() if wanted.startswith(plugin))
    cause = error.__cause__ if error else None
    parent = getattr(cause, "parent_node", None)
    if not isinstance(parent, DictConfig) or getattr(cause, "key", None) in parent:
        return ""
    where = parent._get_full_key(None) or "the configuration"
    return f"{where} has: {', '.join(sorted(map(str, parent)))}\n"


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
    return not any(key == without or key.startswith(f"{without}.") for without in WITHOUT_EFFECT)


_assumed_cuda: ContextVar[bool | None] = ContextVar("_assumed_cuda", default=None)


@contextmanager
def as_on_a_gpu() -> Iterator[None]:
    """Compose here what a machine with a GPU composes of the same overrides."""
    token = _assumed_cuda.set(True)
    try:
        yield
    finally:
        _assumed_cuda.reset(token)


def _if_cuda(there: Any, elsewhere: Any) -> Any:
    import torch  # seconds that `--help` need not wait for

    assumed = _assumed_cuda.get()
    return there if (torch.cuda.is_available() if assumed is None else assumed) else elsewhere


def _threads() -> int:
    import torch

    return torch.get_num_threads()


def register_resolvers() -> None:
    """Make the resolvers that ``conf/`` uses known to OmegaConf; again is harmless."""
    resolvers = {
        "every": lambda fraction, steps, times=1: max(1, round(fraction * steps)) * times,
        "home": lambda path: str(Path(path).expanduser()),
        "if_cuda": _if_cuda,
        "join": lambda *words: "-".join(str(word) for word in words if word),
        "threads": _threads,
        "times": lambda a, b: a * b,
        "variant": lambda name: spell_variant(HydraConfig.get().overrides.task, named=bool(name)),
    }
    for name, resolver in resolvers.items():
        OmegaConf.register_new_resolver(name, resolver, replace=True)  # type: ignore[arg-type]


register_resolvers()
