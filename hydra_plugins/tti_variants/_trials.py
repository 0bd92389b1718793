"""The trials of tuning: their results, the best, where to search further, and their tables."""

import csv
import io
import math
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from statistics import fmean

from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException
from rich.console import Console
from rich.table import Table
from yaml import YAMLError

from tti.durable import write_atomically
from tti.runs import Run

DIVERGED = "TrainingDivergedError"


def settled(folder: Path) -> bool:
    """Whether a trial ended on its own: it finished, or it diverged, which is a result too."""
    run = Run(folder)
    return run.status == "finished" or run.failure.startswith(DIVERGED)


@dataclass(frozen=True)
class Trial:
    """A variant at one value of the tuned key: a run for each tuning seed."""

    variant: str
    knob: str
    value: float
    folders: tuple[Path, ...]

    @cached_property
    def losses(self) -> list[float]:
        """The final validation loss of each run in nats; infinite if it diverged."""
        runs = map(Run, self.folders)
        return [float(run.summary["metrics"]["val/loss"]) if run.status == "finished" else math.inf for run in runs]

    @property
    def loss(self) -> float:
        """The mean over runs."""
        return fmean(self.losses)

    @cached_property
    def seeds(self) -> list[int]:
        """The seed of each run."""
        return [int(Run(folder).config.seed) for folder in self.folders]

    @cached_property
    def steps(self) -> int:
        """The number of optimizer steps of a run."""
        return int(Run(self.folders[0]).config.trainer.max_steps)


def best(trials: Iterable[Trial]) -> dict[str, Trial]:
    """Each variant's trial with the lowest validation loss; ties go to the smallest value.

    Raises:
        ValueError: all trials of a variant diverged.
    """
    found: dict[str, Trial] = {}
    for trial in sorted(trials, key=lambda each: (each.loss, each.value)):
        found.setdefault(trial.variant, trial)
    if lost := [name for name, trial in found.items() if not math.isfinite(trial.loss)]:
        raise ValueError(f"every value of the grid made {', '.join(lost)} diverge; start from a smaller one")
    return found


def wider(trials: list[Trial]) -> list[float]:
    """The next value beyond the grid's edge if a variant's best is at that edge; otherwise none."""
    values = sorted(trial.value for trial in trials)
    at = min(trials, key=lambda each: (each.loss, each.value)).value
    if at == values[0]:
        return [float(f"{values[0] ** 2 / values[1]:.6g}")]
    return [float(f"{values[-1] ** 2 / values[-2]:.6g}")] if at == values[-1] else []


def write(trials: list[Trial], to: Path) -> None:
    """Write ``tuning.csv``, one line per trial, and ``tuning.yaml``, the overrides of each variant's best trial."""
    chosen = best(trials)
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow(["variant", "knob", "value", "val_loss", "steps", "chosen", "seeds", "losses", "runs"])
    for trial in trials:
        mark = "yes" if chosen[trial.variant] is trial else ""
        runs = "/".join(trial.folders[0].parts[-3:-1])
        each = [" ".join(map(str, of_runs)) for of_runs in (trial.seeds, trial.losses)]
        table.writerow([trial.variant, trial.knob, trial.value, trial.loss, trial.steps, mark, *each, runs])
    to.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(to, text.getvalue())
    values = {name: [f"{trial.knob}={trial.value}"] for name, trial in chosen.items()}
    write_atomically(to.with_suffix(".yaml"), OmegaConf.to_yaml(values))


def shown(trials: list[Trial], chosen: dict[str, Trial], table: Path) -> None:
    """Print each variant's curve over the grid with its best value, and the override that applies the result."""
    rows = Table("variant", "tuned", "val loss", "grid: val loss", box=None)
    for name, trial in chosen.items():
        grid = sorted((each for each in trials if each.variant == name), key=lambda each: each.value)
        curve = "  ".join(f"{each.value:g}: {each.loss:.4f}" for each in grid)
        rows.add_row(name, f"{trial.value:g}", f"{trial.loss:.4f}", curve)
    console = Console(stderr=True, soft_wrap=True, highlight=False)
    console.print(rows)
    console.print(f"Apply these to the experiment with hydra.sweeper.tuned={table.with_suffix('.yaml')}")


def of_method(overrides: Iterable[str]) -> frozenset[str]:
    """The identity of a method: its overrides, with numbers represented by their keys alone."""
    return frozenset(_method_part(override) for override in overrides)


def _method_part(override: str) -> str:
    key, _, value = override.partition("=")
    try:
        float(value)
    except ValueError:
        return override
    return key


def tuned_overrides(file: Path, variants: dict[str, list[str]], chosen: list[str]) -> dict[str, list[str]]:
    """Tuned overrides of the chosen variants: their own in the table, or those of the first with the same method.

    Raises:
        ValueError: the table cannot be read, or lacks a variant's method.
    """
    try:
        read = dict(OmegaConf.load(file))
        table = {str(name): [str(override) for override in overrides] for name, overrides in read.items()}
    except (OSError, YAMLError, OmegaConfBaseException, ValueError, TypeError) as error:
        raise ValueError(f"hydra.sweeper.tuned={file} is not a tuning table: {error}") from error
    by_method = {of_method(variants[name]): tuned for name, tuned in reversed(table.items()) if name in variants}
    tuned = {name: table.get(name, by_method.get(of_method(variants[name]), [])) for name in chosen}
    if missing := [name for name, overrides in tuned.items() if not overrides]:
        raise ValueError(
            f"{file} has no row for {', '.join(missing)}: tune one variant of each method "
            "(python -m tti.tune … variant=...)"
        )
    return tuned
