"""The trials of a tuning: what each came to, which is best, where to look further, and their tables."""

import csv
import io
import math
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException
from rich.console import Console
from rich.table import Table
from yaml import YAMLError

from tti.durable import write_atomically
from tti.runs import Run

DIVERGED = "TrainingDivergedError"


def settled(folder: Path) -> bool:
    """Whether a trial came to an end of its own: it finished, or it diverged, which is an answer too."""
    run = Run(folder)
    return run.status == "finished" or run.failure.startswith(DIVERGED)


@dataclass(frozen=True)
class Trial:
    """A variant at one value of the knob, on the tuning seed."""

    variant: str
    knob: str
    value: float
    folder: Path

    @cached_property
    def loss(self) -> float:
        """Its final validation loss in nats; infinite where it diverged."""
        run = Run(self.folder)
        return float(run.summary["metrics"]["val/loss"]) if run.status == "finished" else math.inf

    @cached_property
    def steps(self) -> int:
        """Optimiser steps that it was given."""
        return int(Run(self.folder).config.trainer.max_steps)


def best(trials: Iterable[Trial]) -> dict[str, Trial]:
    """Each variant's trial with the lowest validation loss; of equals the smallest value.

    Raises:
        ValueError: all trials of a variant diverged.
    """
    found: dict[str, Trial] = {}
    for trial in sorted(trials, key=lambda each: (each.loss, each.value)):
        found.setdefault(trial.variant, trial)
    if lost := [name for name, trial in found.items() if not math.isfinite(trial.loss)]:
        raise ValueError(f"every value of the grid made {', '.join(lost)} diverge; give a smaller one to begin with")
    return found


def wider(trials: list[Trial]) -> list[float]:
    """The next value beyond the edge of a variant's grid at which its best lies; none if it lies inside."""
    values = sorted(trial.value for trial in trials)
    at = min(trials, key=lambda each: (each.loss, each.value)).value
    if at == values[0]:
        return [float(f"{values[0] ** 2 / values[1]:.6g}")]
    return [float(f"{values[-1] ** 2 / values[-2]:.6g}")] if at == values[-1] else []


def write(trials: list[Trial], to: Path) -> None:
    """``tuning.csv``, a line a trial, and ``tuning.yaml``, the overrides that each variant's best stands for."""
    chosen = best(trials)
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow(["variant", "knob", "value", "val_loss", "steps", "chosen", "run"])
    for trial in trials:
        mark = "yes" if chosen[trial.variant] is trial else ""
        run = "/".join(trial.folder.parts[-3:])
        table.writerow([trial.variant, trial.knob, trial.value, trial.loss, trial.steps, mark, run])
    to.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(to, text.getvalue())
    values = {name: [f"{trial.knob}={trial.value}"] for name, trial in chosen.items()}
    write_atomically(to.with_suffix(".yaml"), OmegaConf.to_yaml(values))


def shown(trials: list[Trial], chosen: dict[str, Trial], table: Path) -> None:
    """Print each variant's curve over the grid, with its best, and the override that makes use of it."""
    rows = Table("variant", "tuned", "val loss", "grid: val loss", box=None)
    for name, trial in chosen.items():
        grid = sorted((each for each in trials if each.variant == name), key=lambda each: each.value)
        curve = "  ".join(f"{each.value:g}: {each.loss:.4f}" for each in grid)
        rows.add_row(name, f"{trial.value:g}", f"{trial.loss:.4f}", curve)
    console = Console(stderr=True, soft_wrap=True, highlight=False)
    console.print(rows)
    console.print(f"The experiment takes these with hydra.sweeper.tuned={table.with_suffix('.yaml')}")


def of_method(overrides: Iterable[str]) -> frozenset[str]:
    """What makes a method: its overrides, those that set a number by their key alone."""
    return frozenset(_method_part(override) for override in overrides)


def _method_part(override: str) -> str:
    key, _, value = override.partition("=")
    try:
        float(value)
    except ValueError:
        return override
    return key


def tuned_overrides(file: Path, variants: dict[str, list[str]], chosen: list[str]) -> dict[str, list[str]]:
    """The tuned overrides of the chosen variants: their own in the table, else those of the first of the same method.

    Raises:
        ValueError: the table cannot be read, or it has none of a variant's method.
    """
    try:
        read = dict(OmegaConf.load(file))
        table = {str(name): [str(override) for override in overrides] for name, overrides in read.items()}
    except (OSError, YAMLError, OmegaConfBaseException, ValueError, TypeError) as error:
        raise ValueError(f"hydra.sweeper.tuned={file} is no table of a tuning: {error}") from error
    by_method = {of_method(variants[name]): tuned for name, tuned in reversed(table.items()) if name in variants}
    tuned = {name: table.get(name, by_method.get(of_method(variants[name]), [])) for name in chosen}
    if missing := [name for name, overrides in tuned.items() if not overrides]:
        raise ValueError(
            f"{file} has nothing for {', '.join(missing)}: tune one of each method (python -m tti.tune … variant=...)"
        )
    return tuned
