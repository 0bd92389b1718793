"""`hydra/sweeper=variants`: a sweep as a list of named variants, times whatever else is swept.

Hydra's own sweeper makes rectangles; experiments compare methods that do not share their parameters. A variant is a
name and a list of overrides:

    hydra:
      sweeper:
        params: {seed: "42,43"}
        variants:
          baseline: []
          sparse: [regularizer=l1, regularizer.l1.weight=1e-2]

Every variant is combined with every value of `params` and of the command line. `variant=sparse` on the command line
narrows the list. At the end comes a table of what finished and what failed, and why.
"""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.config_store import ConfigStore
from hydra.core.override_parser.types import Override
from hydra.errors import ConfigCompositionException


@dataclass
class VariantsConf:
    """The sweeper's configuration."""

    _target_: str = "hydra_plugins.tti_variants.variants_sweeper.VariantsSweeper"
    params: dict[str, str] | None = None
    variants: dict[str, list[str]] = field(default_factory=dict)


ConfigStore.instance().store(group="hydra/sweeper", name="variants", node=VariantsConf, provider="tti")


class VariantsSweeper(BasicSweeper):
    """Composes variants x values, runs every job whatever becomes of the others, and ends with a table."""

    def __init__(self, params: dict[str, str] | None, variants: dict[str, list[str]]) -> None:
        super().__init__(max_batch_size=None, params=params)  # all at once: Hydra stops after a batch with a failure
        self.variants = variants

    def split_arguments(  # type: ignore[override]  # a static method there, called on the instance
        self, overrides: list[Override], max_batch_size: int | None
    ) -> list[list[list[str]]]:
        """Batches of jobs, each a list of overrides."""
        latest = {override.get_key_element(): override for override in overrides}
        chosen = self._chosen(latest.pop("variant", None))
        values = [_values(override) for override in latest.values()]
        jobs = [self._job(name, list(rest)) for name in chosen for rest in itertools.product(*values)]
        return [list(batch) for batch in self.split_overrides_to_chunks(jobs, max_batch_size)]

    def sweep(self, arguments: list[str]) -> Any:
        """Run the sweep; exit with 1 if any job failed, once all have run."""
        from hydra_plugins.tti_variants._outcome import report
        from tti.launchers.leave import Leave

        failure: Exception | None = None
        try:
            return super().sweep(arguments)
        except Leave:
            self.overrides = None  # the launcher has said what there is to say
            raise
        except Exception as error:  # of composing, of a job, or of a launcher that lost a worker
            failure = error
        finally:
            if self.overrides is not None:
                report(self._folders(), failure)
        raise failure

    def validate_batch_is_legal(self, batch: Sequence[Sequence[str]]) -> None:
        """Compose and check every job, and the launcher, before the first starts."""
        from tti.schema import check

        assert self.hydra_context is not None
        assert self.config is not None
        for job in batch:
            try:
                check(self.hydra_context.config_loader.load_sweep_config(self.config, list(job)))
            except ValueError as error:
                self.overrides = None  # nothing has begun
                raise ConfigCompositionException(f"error: {error} (in the job {' '.join(job)})") from error

    def _chosen(self, override: Override | None) -> list[str | None]:
        if not self.variants:
            return [None] if override is None else [value.partition("=")[2] for value in _values(override)]
        if override is None:
            return list(self.variants)
        names = [value.partition("=")[2] for value in _values(override)]
        if unknown := [name for name in names if name not in self.variants]:
            raise ConfigCompositionException(
                f"no variant {', '.join(unknown)} in this experiment; it has {', '.join(self.variants)}"
            )
        return list(names)

    def _job(self, variant: str | None, rest: list[str]) -> list[str]:
        from tti.configuration import spell, spell_variant

        named = any(override.startswith("name=") for override in rest)
        if variant is None:
            return [*rest, f"variant={_quoted(spell_variant(rest, named))}"]
        name = [] if named or not self.variants else [f"name={_quoted(spell(rest))}"]
        return [*self.variants.get(variant, []), *rest, f"variant={variant}", *name]

    def _folders(self) -> list[str]:
        assert self.hydra_context is not None
        assert self.overrides is not None
        assert self.config is not None
        load = self.hydra_context.config_loader.load_sweep_config
        return [load(self.config, list(job)).run_dir for batch in self.overrides for job in batch]


def _values(override: Override) -> list[str]:
    key = override.get_key_element()
    if not override.is_sweep_override():
        return [f"{key}={override.get_value_element_as_str()}"]
    if not override.is_discrete_sweep():
        raise ConfigCompositionException(f"cannot sweep over {override.input_line}: write the values, as in {key}=a,b")
    return [f"{key}={value}" for value in override.sweep_string_iterator()]


def _quoted(text: str) -> str:
    return f"'{text}'" if text else "null"
