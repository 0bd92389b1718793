"""`hydra/sweeper=tuning`: the same small grid of one key for every variant, on seeds that no result uses.

The tuning mode of an experiment's sweeper: `python -m tti.tune experiment=expt2 …` takes the experiment's variants and
all other overrides, and runs each variant at `factors` times the key's value. If the best is at an edge of the grid, it
extends the grid on that side. It writes `tuning.csv`, all trials, and `tuning.yaml`, each variant's best value, which
`hydra.sweeper.tuned=<that file>` passes to the experiment itself. Every trial is an ordinary run folder: repeating the
command resumes, and a finished tuning only rewrites its tables.
"""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hydra.core.config_store import ConfigStore
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.errors import ConfigCompositionException
from omegaconf import OmegaConf

from hydra_plugins.tti_variants.variants_sweeper import VariantsConf, VariantsSweeper


@dataclass
class TuningConf(VariantsConf):
    """The sweeper's configuration."""

    _target_: str = "hydra_plugins.tti_variants.tuning_sweeper.TuningSweeper"
    knob: str = "optimizer.lr"
    factors: list[float] = field(default_factory=lambda: [0.5, 1.0, 2.0])  # factors of the key's value, at least two
    tuning_seeds: list[int] = field(default_factory=lambda: [41])  # the loss that decides is a mean over them
    widenings: int = 3  # maximum extensions of a variant's grid, one value at a time


ConfigStore.instance().store(group="hydra/sweeper", name="tuning", node=TuningConf, provider="tti")


class TuningSweeper(VariantsSweeper):
    """Trains every variant at every value of the grid, and extends the grid if the best is at its edge."""

    def __init__(
        self,
        params: dict[str, str] | None,
        variants: dict[str, list[str]],
        tuned: str | None,
        knob: str,
        factors: list[float],
        tuning_seeds: list[int],
        widenings: int,
    ) -> None:
        super().__init__(params, variants, tuned)
        if len(factors) < 2 or min(factors) <= 0:
            raise ConfigCompositionException(f"factors={list(factors)} of tuning must be two or more, all above 0")
        if not tuning_seeds:
            raise ConfigCompositionException("tuning_seeds=[] of tuning must be one or more seeds")
        self.knob, self.factors, self.seeds, self.widenings = knob, sorted(factors), list(tuning_seeds), widenings

    def sweep(self, arguments: list[str]) -> Any:
        """Run the trials, round by round; exit with 1 if any was cut short, after its round is complete."""
        from hydra_plugins.tti_variants._trials import Trial, best, shown, wider, write

        chosen, rest = self._parsed(arguments)
        grids = {name: [self._value(name, rest, factor) for factor in self.factors] for name in chosen}
        for _ in range(self.widenings + 1):
            jobs = {(name, value): self._trial(name, value, rest) for name, grid in grids.items() for value in grid}
            self._run([job for of_seeds in jobs.values() for job in of_seeds])
            trials = [
                Trial(name, self.knob, value, tuple(Path(self._folder(job)) for job in of_seeds))
                for (name, value), of_seeds in jobs.items()
            ]
            write(trials, self._table(rest))
            added = {name: wider([trial for trial in trials if trial.variant == name]) for name in grids}
            if not any(added.values()):
                break
            grids = {name: sorted(grid + added[name]) for name, grid in grids.items()}
        shown(trials, best(trials), self._table(rest))
        return [trial.loss for trial in trials]

    def _parsed(self, arguments: list[str]) -> tuple[list[str], list[str]]:
        """The variants to tune, and the overrides common to all trials."""
        assert self.hydra_context is not None
        parser = OverridesParser.create(config_loader=self.hydra_context.config_loader)
        latest = {each.get_key_element(): each for each in parser.parse_overrides([*self._parse_config(), *arguments])}
        seeds = latest.pop("seed", None)
        if both := [each for each in self.seeds if seeds is not None and str(each) in _texts(seeds)]:
            raise ConfigCompositionException(
                f"seed {both[0]} is one of the experiment's: tune on others, hydra.sweeper.tuning_seeds=[N]"
            )
        chosen = self._chosen(latest.pop("variant", None))
        if chosen == [None]:
            chosen, self.variants = ["baseline"], {"baseline": []}
        for key, override in latest.items():
            if override.is_sweep_override():
                raise ConfigCompositionException(f"tuning sweeps over {self.knob} alone, not over {key}")
        return [str(name) for name in chosen], [f"{key}={_texts(each)[0]}" for key, each in latest.items()]

    def _value(self, variant: str, rest: list[str], factor: float) -> float:
        """A value of the grid: a factor of the variant's own value."""
        assert self.hydra_context is not None
        assert self.config is not None
        job = [*self.variants[variant], *rest, f"variant={variant}"]
        config = self.hydra_context.config_loader.load_sweep_config(self.config, job)
        return float(f"{OmegaConf.select(config, self.knob) * factor:.6g}")

    def _trial(self, variant: str, value: float, rest: list[str]) -> list[list[str]]:
        """The overrides of one trial, for each seed, in a folder for tuning."""
        names = [override.partition("=")[2] for override in rest if override.startswith("name=")]
        others = [override for override in rest if not override.startswith("name=")]
        name = "-".join([*(each.strip("'") for each in names if each != "null"), "tuning"])
        named = f"variant={variant}+{self.knob.rpartition('.')[2]}-{value:g}"
        own = [*self.variants[variant], *others, f"{self.knob}={value}"]
        return [[*own, f"seed={seed}", named, f"name={name}"] for seed in self.seeds]

    def _run(self, jobs: list[list[str]]) -> None:
        """Train what is missing; end the command with the table of runs if a trial was cut short."""
        from hydra_plugins.tti_variants._outcome import report
        from hydra_plugins.tti_variants._trials import settled

        assert self.launcher is not None
        self.validate_batch_is_legal(jobs)
        failure: Exception | None = None
        try:
            for done in self.launcher.launch(jobs, initial_job_idx=0):
                _ = done.return_value
        except Exception as error:  # of a trial, or of a launcher that lost a worker
            failure = error
        folders = [self._folder(job) for job in jobs]
        if not all(settled(Path(folder)) for folder in folders):
            report(folders, failure)

    def _folder(self, job: list[str]) -> str:
        assert self.hydra_context is not None
        assert self.config is not None
        return str(self.hydra_context.config_loader.load_sweep_config(self.config, job).run_dir)

    def _table(self, rest: list[str]) -> Path:
        """Path of `tuning.csv`, in the folder of the tuned experiment."""
        assert self.hydra_context is not None
        assert self.config is not None
        config = self.hydra_context.config_loader.load_sweep_config(self.config, [*rest, "variant=baseline"])
        return Path(config.run_dir).parent.parent / "tuning.csv"


def _texts(override: Override) -> list[str]:
    if override.is_sweep_override():
        return list(override.sweep_string_iterator())
    return [override.get_value_element_as_str()]
