"""`hydra/sweeper=variants`: a sweep as a list of named variants, combined with other swept values.

Hydra's own sweeper makes grids; experiments compare methods that do not share their parameters. A variant is a name and
a list of overrides:

    hydra:
      sweeper:
        params: {seed: "42,43"}
        variants:
          baseline: []
          sparse: [regularizer=l1, regularizer.l1.weight=1e-2]

Every variant is combined with every value in `params` and on the command line. `variant=sparse` on the command line
restricts the list. The sweep ends with a table of what finished, what failed, and why.
"""

import itertools
import sys
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.config_store import ConfigStore
from hydra.core.override_parser.types import Glob, Override
from hydra.errors import ConfigCompositionException

from tti.configuration import NAMING


@dataclass
class VariantsConf:
    """The sweeper's configuration."""

    _target_: str = "hydra_plugins.tti_variants.variants_sweeper.VariantsSweeper"
    params: dict[str, str] | None = None
    variants: dict[str, list[str]] = field(default_factory=dict)
    tuned: str | None = None  # `tuning.yaml` of `python -m tti.tune`: overrides for each variant


ConfigStore.instance().store(group="hydra/sweeper", name="variants", node=VariantsConf, provider="tti")


class VariantsSweeper(BasicSweeper):
    """Composes variants x values, runs every job whatever happens to the others, and prints a table."""

    def __init__(self, params: dict[str, str] | None, variants: dict[str, list[str]], tuned: str | None = None) -> None:
        super().__init__(max_batch_size=None, params=params)  # a single batch: Hydra stops after a batch with a failure
        self.variants = variants
        self.folders: list[str] = []  # folders of the started jobs
        self.tuned = tuned

    def split_arguments(  # type: ignore[override]  # a static method there, called on the instance
        self, overrides: list[Override], max_batch_size: int | None
    ) -> list[list[list[str]]]:
        """Batches of jobs, each a list of overrides."""
        latest = {override.get_key_element(): override for override in overrides}
        chosen = self._chosen(latest.pop("variant", None))
        self._take_tuned([name for name in chosen if name is not None], latest)
        values = [_values(override) for override in latest.values()]
        swept = {value for several in values if len(several) > 1 for value in several}
        jobs = [self._job(name, list(rest), swept) for name in chosen for rest in itertools.product(*values)]
        return [list(batch) for batch in self.split_overrides_to_chunks(_apart(jobs), max_batch_size)]

    def validate_batch_is_legal(self, batch: Sequence[Sequence[str]]) -> None:
        """Compose and check every job, and the launcher, before the first starts.

        Raises:
            ConfigCompositionException: two jobs have the same folder, where they would overwrite each other.
        """
        job_of: dict[str, Sequence[str]] = {}
        for job, folder in zip(batch, self._folders_of(batch), strict=True):
            if folder in job_of:
                raise ConfigCompositionException(
                    f"two jobs of this sweep have the folder {folder}:\n  {' '.join(job_of[folder])}\n  {' '.join(job)}"
                )
            job_of[folder] = job
        self.folders += job_of

    def sweep(self, arguments: list[str]) -> Any:
        """Run the sweep; exit with 1 if any job failed, after all have run, or at once if interrupted."""
        from hydra_plugins.tti_variants._outcome import report
        from tti.launchers.leave import Leave

        self.folders, returned, failure = [], None, None
        try:
            returned = super().sweep(arguments)
        except Leave:  # the launcher has printed its message
            raise
        except (Exception, KeyboardInterrupt, SystemExit) as error:  # of composing, a job, or the launcher
            failure = error
        if self.folders and not report(self.folders, failure) and isinstance(failure, Exception | None):
            sys.exit(1)
        if failure is not None:
            raise failure
        return returned

    def _chosen(self, override: Override | None) -> list[str | None]:
        if not self.variants:
            return [None] if override is None else [value.partition("=")[2] for value in _values(override)]
        if override is None:
            return list(self.variants)
        wanted = override.value()
        if isinstance(wanted, Glob):
            return list(_matching(override, wanted.filter(list(self.variants))))
        names = [value.partition("=")[2] for value in _values(override)]
        if unknown := [name for name in names if name not in self.variants]:
            raise ConfigCompositionException(
                f"no variant {', '.join(unknown)} in this experiment; it has {', '.join(self.variants)}"
            )
        return list(names)

    def _take_tuned(self, chosen: list[str], given: Collection[str]) -> None:
        """Add the tuned overrides to the chosen variants; an option cannot be both given and tuned."""
        if self.tuned is None:
            return
        from hydra_plugins.tti_variants._trials import tuned_overrides

        try:
            tuned = tuned_overrides(Path(self.tuned), dict(self.variants), chosen)
        except ValueError as error:
            raise ConfigCompositionException(str(error)) from error
        keys = {override.partition("=")[0] for overrides in tuned.values() for override in overrides}
        if twice := sorted(keys & set(given)):
            raise ConfigCompositionException(
                f"{', '.join(twice)} is given and tuned: leave it out, or leave out hydra.sweeper.tuned={self.tuned}"
            )
        self.variants = {name: [*own, *tuned.get(name, ())] for name, own in self.variants.items()}

    def _job(self, variant: str | None, rest: list[str], swept: Collection[str]) -> list[str]:
        from tti.configuration import spell, spell_variant

        named = any(override.startswith("name=") for override in rest)
        if variant is None:
            return [*rest, f"variant={_quoted(spell_variant(rest, named, swept))}"]
        if named and (told_apart := spell(override for override in rest if override in swept)):
            return [*self.variants.get(variant, []), *rest, f"variant={_quoted(f'{variant}+{told_apart}')}"]
        name = [] if named or not self.variants else [f"name={_quoted(spell(rest))}"]
        return [*self.variants.get(variant, []), *rest, f"variant={variant}", *name]

    def _folders_of(self, batch: Iterable[Sequence[str]]) -> Iterator[str]:
        from tti.schema import check

        assert self.hydra_context is not None
        assert self.config is not None
        for job in batch:
            config = self.hydra_context.config_loader.load_sweep_config(self.config, list(job))
            check(config)
            yield str(config.run_dir)


def _apart(jobs: list[list[str]]) -> list[list[str]]:
    """The jobs; those whose folder names would coincide get a digest of their overrides in the variant's name."""
    from tti.configuration import digest

    spelled = [tuple(override for override in job if override.startswith(NAMING)) for job in jobs]
    return [
        [_with_suffix(override, digest(" ".join(job))) for override in job] if spelled.count(names) > 1 else job
        for job, names in zip(jobs, spelled, strict=True)
    ]


def _with_suffix(override: str, suffix: str) -> str:
    key, _, value = override.partition("=")
    return f"variant={_quoted(value.strip(chr(39)) + '+' + suffix)}" if key == "variant" else override


def _values(override: Override) -> list[str]:
    key = override.get_key_element()
    if not override.is_sweep_override():
        return [f"{key}={override.get_value_element_as_str()}"]
    if not override.is_discrete_sweep():
        raise ConfigCompositionException(f"cannot sweep over {override.input_line}: write the values, as in {key}=a,b")
    return [f"{key}={value}" for value in _matching(override, list(override.sweep_string_iterator()))]


def _matching(override: Override, found: list[str]) -> list[str]:
    if not found:
        raise ConfigCompositionException(f"{override.input_line} matches nothing")
    return found


def _quoted(text: str) -> str:
    return f"'{text}'" if text else "null"
