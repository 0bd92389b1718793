"""Commands as a user types them: in documents, and in the output of `--help`."""

import itertools
import re
import shlex
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

from hydra import compose, initialize_config_dir
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.utils import instantiate
from omegaconf import DictConfig

from tti.configuration import conf_dir, quoted

FREE = ("run", "to", "prompt", "hf")  # options whose values are used literally
PLUGINS = {"slurm": "hydra_plugins.hydra_submitit_launcher", "processes": "hydra_plugins.hydra_submitit_launcher",
           "ray_gpus": "hydra_plugins.hydra_ray_launcher"}  # fmt: skip


def commands(text: str) -> Iterator[tuple[str, list[str]]]:
    """Command and arguments of every line `python -m tti.COMMAND ...` that needs no shell to be parsed."""
    for line in text.replace("\\\n", " ").splitlines():
        if "$" not in line and (found := re.match(r"\s*(?:python -m tti\.|tti )([a-z]+)\b(.*)", line)):
            yield found[1], shlex.split(found[2], comments=True)


def in_documents(page: Path) -> list[tuple[str, list[str]]]:
    """The commands in the shell blocks of a page."""
    return [each for block in re.findall(r"```bash\n(.*?)```", page.read_text(), re.DOTALL) for each in commands(block)]


def composed(command: str, arguments: list[str]) -> list[DictConfig]:
    """The configuration that a command composes; for a sweep, those of its first and last jobs."""
    told = [
        each for each in arguments if not each.startswith(("-", "hydra.sweeper.tuned="))
    ]  # a configuration file of another command
    overrides = _without_absent_plugins(told)
    with initialize_config_dir(conf_dir(), version_base="1.3"):
        if "-m" not in arguments and command != "tune":
            return [_compose(command, quoted(overrides, FREE))]
        jobs = list(_jobs(command, overrides))
        return [_compose(command, job) for job in (jobs[0], jobs[-1])]


def _compose(command: str, overrides: list[str]) -> DictConfig:
    config = compose(command, overrides, return_hydra_config=True)
    HydraConfig.instance().set_config(config)  # names are derived from it
    return config


def _jobs(command: str, overrides: list[str]) -> Iterator[list[str]]:
    parsed = OverridesParser.create().parse_overrides(overrides)
    if command not in ("train", "tune"):  # Hydra's own sweeper, all combinations
        yield from map(list, itertools.product(*map(_values, parsed)))
        return
    fixed = [each.input_line for each in parsed if not each.is_sweep_override() and each.key_or_group != "variant"]
    config = compose(command, fixed, return_hydra_config=True)
    sweeper = instantiate(config.hydra.sweeper)
    given = [f"{key}={value}" for key, value in (config.hydra.sweeper.get("params") or {}).items()]
    wanted = [each.input_line for each in parsed if not each.key_or_group.startswith("hydra")]
    for batch in sweeper.split_arguments(OverridesParser.create().parse_overrides([*given, *wanted]), None):
        yield from batch


def _values(override: Override) -> list[str]:
    if not override.is_sweep_override():
        return [override.input_line]
    return [f"{override.key_or_group}={value}" for value in override.sweep_string_iterator()]


def _without_absent_plugins(overrides: list[str]) -> list[str]:
    """The arguments without a launcher that is not installed, and its settings."""
    launcher = next((each.partition("=")[2] for each in overrides if each.startswith("hydra/launcher=")), "")
    if launcher not in PLUGINS or (find_spec(PLUGINS[launcher].partition(".")[0]) and _found(PLUGINS[launcher])):
        return overrides
    return [each for each in overrides if not each.startswith(("hydra/launcher=", "hydra.launcher."))]


def _found(module: str) -> bool:
    try:
        return find_spec(module) is not None
    except ModuleNotFoundError:
        return False
