"""``python -m tti.benchmark table=loops``: the cost of training, as paired ratios, in the terminal and as Markdown."""

import logging
import re
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from hydra.core.hydra_config import HydraConfig
from hydra.utils import instantiate
from omegaconf import DictConfig, ListConfig
from rich.console import Console

from tti.benchmarking.section import Section
from tti.command import command
from tti.configuration import without_folders
from tti.durable import write_atomically
from tti.runs import commit

if TYPE_CHECKING:
    from tti.benchmarking.setting import Setting

# torch and everything built on it are imported on use: `--help` need not wait seconds for them.


def benchmark(config: DictConfig) -> Iterator[tuple[Path, list[Section]]]:
    """Measure the requested tables; yields the file and the sections of each table when it is done.

    The file is rewritten after every section, so that a failure does not lose what was measured before.

    Raises:
        ValueError: there is no such table; the message lists the available ones.
    """
    import torch

    from tti.benchmarking.setting import Setting

    names = list(config.table) if isinstance(config.table, ListConfig) else [config.table]
    unknown = [name for name in names if name not in config.tables]
    if unknown:
        raise ValueError(f"no table {', '.join(map(str, unknown))}; there are: {', '.join(map(str, config.tables))}")
    overrides = list(HydraConfig.get().overrides.task)
    setting = Setting(_of_training(overrides), config.stories, config.steps, config.threads or torch.get_num_threads())
    clock = instantiate(config.clock_function)
    for name in names:
        path = Path(config.to) / f"{name}.md"
        path.parent.mkdir(parents=True, exist_ok=True)
        head = _head(name, setting, overrides)
        sections: dict[str, Section] = {}
        for section in instantiate(config.tables[name])(setting, clock):
            sections[section.title] = section  # a growing section comes again
            text = [head, *(each.markdown() for each in sections.values())]
            write_atomically(path, "\n\n".join(text) + "\n")
        yield path, list(sections.values())


def _of_training(overrides: list[str]) -> tuple[str, ...]:
    """The overrides that ``python -m tti.train`` accepts too."""
    from tti.benchmarking.setting import composed

    known = set(composed(()))
    return tuple(override for override in overrides if re.split(r"[./@=]", override.lstrip("+~"))[0] in known)


def _head(name: str, setting: "Setting", overrides: list[str]) -> str:
    from tti.benchmarking import machine

    lines = [
        machine.described(setting.threads),
        f"commit {commit()}",
        f"written by `python -m tti.benchmark {' '.join(map(without_folders, overrides))}`",
    ]
    return "\n\n".join([f"# Benchmark: {name}", "\n".join(f"- {line}" for line in lines)])


@command("benchmark")
def main(config: DictConfig) -> None:
    """Entry point of the command."""
    import torch

    logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)
    warnings.filterwarnings("ignore", message=".*LeafSpec.*")  # as in tti.train
    console = Console()
    try:
        for path, sections in benchmark(config):
            for section in sections:
                console.print(section.terminal())
            console.print(f"written to {path}", soft_wrap=True, highlight=False)
    except (MemoryError, torch.OutOfMemoryError) as error:
        raise ValueError(f"{error}. Lower stories={config.stories}, the stories of a benchmarked step") from error


if __name__ == "__main__":
    main()
