"""Everything that is computed from the runs of a comparison; Markdown, page and browser only show it."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd
from omegaconf import DictConfig

from tti.reporting import audit, comparison, losses, matched, pareto, tables
from tti.reporting.aggregate import Unit, aggregate, units, without_one, z_scores
from tti.reporting.cells import Found
from tti.reporting.selection import Selection
from tti.reporting.tables import Evaluated

SPLIT_OF = {"val": "validation", "test": "test"}  # the metrics of a training, by their prefix
AGGREGATE = "aggregate"
SIGNS = {"more": 1, "less": -1}


@dataclass(frozen=True)
class Front:
    """Means over seeds of one metric against the loss, and which variants no other dominates."""

    metric: str
    label: str
    less_is_better: bool
    variants: list[str]
    on_front: list[bool]
    reference: tuple[float, float] | None
    hypervolume: float
    baseline_alone: float


class Analysis:
    """The comparison of selected runs.

    Args:
        config: of the report.
        selection: the runs.

    Attributes:
        table: the tidy table. logged: the history of the trainings. controls: variant -> what it is compared with.
        losses: :func:`losses.changes` of every variant that has a control. remarks: what one must know of the runs.

    Raises:
        ValueError: no run has the loss that decides.
    """

    def __init__(self, config: DictConfig, selection: Selection) -> None:
        self.config, self.selection = config, selection
        self.found: Evaluated = tables.evaluated(selection.finished, config.split)
        self.remarks = [f"not finished: `{run.folder.name}` of `{run.folder.parent.name}` ({run.status}) {run.failure}"
                        for run in selection.unfinished]  # fmt: skip
        self.remarks += [*selection.remarks, *self.found.remarks]
        self.table = tables.tidy(selection.finished, self.found.metrics)
        self.logged = tables.history(selection.finished)
        self.variants = [str(variant) for variant in self.table["variant"].unique()]
        self.controls = self._controls()
        self.units = self._units()
        self.scores = z_scores(self.table, self.units)
        if any(unit.weight for unit in self.units.values()):
            self.table[AGGREGATE] = aggregate(self.scores, self.units)
        self.metrics: dict[str, Any] = {str(n): m for n, m in config.metrics.items() if n in self.table}
        self.remarks += self._undefined()
        self.losses = self._losses()

    @property
    def labels(self) -> dict[str, str]:
        """Metric -> heading, of those that there are."""
        return {name: metric.label for name, metric in self.metrics.items()}

    @cached_property
    def headings(self) -> dict[str, str]:
        """Metric -> label with what is better, and ``‡`` where the gaming audit makes it display only."""
        arrows = {"less": " ↓", "more": " ↑"}
        return {name: metric.label + arrows.get(metric.get("better"), "") + " ‡" * (name in self.display_only)
                for name, metric in self.metrics.items()}  # fmt: skip

    @cached_property
    def display_only(self) -> set[str]:
        """The compared metrics that moved in the gaming audit, and an aggregate in which one of them has a voice."""
        moved = audit.display_only(audit.movements(self.found.audits))
        names = {name for name in {**self.metrics, **self.units} if self.audited(name) in moved}
        return names | {AGGREGATE for name, unit in self.units.items() if unit.weight and name in names}

    def sign(self, name: str) -> int:
        """1 where more of a compared metric is better, -1 where less is, 0 where neither is said."""
        return SIGNS.get(self.metrics[name].get("better"), 0)

    def audited(self, name: str) -> str:
        """What a compared metric is called in the gaming audit."""
        return str(self.metrics.get(name, {}).get("audited", name.removesuffix("/mean")))

    @property
    def audit(self) -> list[Found]:
        """The gaming audits of all runs."""
        return audit.finding(self.found.audits, {self.audited(name): label for name, label in self.labels.items()})

    @property
    def digits(self) -> dict[str, int]:
        """Metric -> digits to show."""
        return {name: metric.digits for name, metric in self.metrics.items()}

    @cached_property
    def primary(self) -> str:
        """The column of the loss that decides.

        Raises:
            ValueError: no run has it.
        """
        if self.config.primary not in self.table:
            known = ", ".join(name for name in self.table if name.endswith("/loss"))
            raise ValueError(f"no run has primary={self.config.primary}; losses that there are: {known or 'none'}")
        return str(self.config.primary)

    @cached_property
    def changes(self) -> pd.DataFrame:
        """:func:`comparison.against` for all metrics but the loss that decides and the speed.

        Runs share machines: side by side, their speeds do not compare.
        """
        names = [name for name in self.metrics if name not in (self.primary, "tokens_per_second")]
        return comparison.against(self.table, names, self.controls)

    @cached_property
    def matched(self) -> pd.DataFrame:
        """The change of the logged metrics at matched loss, over seeds; empty where validations do not reach."""
        loss = str(self.config.matched)
        names = [name for name in self.metrics if name.startswith("val/") and name in self.logged and name != loss]
        names = [name for name in names if not name.startswith(("val/perplexity", "val/bits_per_byte"))]
        if loss not in self.logged or not names:
            return pd.DataFrame()
        at = matched.differences(self.logged, loss, names, self.controls).set_index("variant")
        samples = {(v, m): at.loc[[v], m] for v in at.index.unique() for m in names}
        return comparison.tested(samples) if samples else pd.DataFrame()

    @cached_property
    def means(self) -> pd.DataFrame:
        """A row a variant: the mean over seeds of every number."""
        return self.table.groupby("variant", sort=False).mean(numeric_only=True)

    @cached_property
    def without_one(self) -> pd.DataFrame:
        """The mean over seeds of the lowest and highest aggregate when one of its metrics is left out, by variant."""
        return without_one(self.scores, self.units).groupby(self.table["variant"], sort=False).mean()

    @cached_property
    def fronts(self) -> list[Front]:
        """One a metric that is asked for and there, and of the aggregate."""
        wanted = [str(name) for name in self.config.figures.front if name in self.metrics and self._some(name)]
        return [self._front(name) for name in ([AGGREGATE] if AGGREGATE in self.metrics else []) + wanted]

    @cached_property
    def untrained(self) -> pd.DataFrame:
        """A row a random-init network of the baseline, as far as they were evaluated."""
        rows = [
            metrics | {"val/loss": metrics.get("performance/loss", np.nan)}
            for (variant, _), metrics in self.found.untrained.items()
            if variant == self.config.baseline
        ]
        return pd.DataFrame(rows)

    def _controls(self) -> dict[str, str]:
        if self.config.baseline not in self.variants:
            self.remarks.append(
                f"no finished run of the baseline `{self.config.baseline}`, so nothing is compared with it; there is "
                f"{', '.join(f'`{v}`' for v in self.variants)} (baseline=...)"
            )
            return {}
        others = {glob: control for control, glob in self.config.controls.items()}
        controls = comparison.controls_of(self.variants, self.config.baseline, others)
        if not controls:
            self.remarks.append(f"`{self.config.baseline}` is the only variant: there is nothing to compare it with")
        if controls and self.table.groupby("variant").size().max() < 2:
            self.remarks.append(
                "one seed only: no intervals over seeds and no tests. One seed shows nothing of a method"
            )
        return controls

    def _units(self) -> dict[str, Unit]:
        baseline = self.table[self.table["variant"] == self.config.baseline]
        declared, metrics = self.config.aggregate, self.config.metrics
        signs = {str(name): SIGNS[metric.get("better")] for name, metric in metrics.items() if "better" in metric}
        return units(declared.metrics, declared.floor, signs, baseline, self.untrained)

    def _losses(self) -> pd.DataFrame:
        same_split = SPLIT_OF.get(self.primary.partition("/")[0]) == self.config.split
        stories = tables.story_losses(self.found, self.remarks) if same_split else {}
        return losses.changes(self.table, self.primary, self.config.margin, self.controls, stories)

    def _undefined(self) -> list[str]:
        remarks = []
        for name, metric in self.metrics.items():
            values = self.table[name]
            missing = self.table.loc[~np.isfinite(values.astype(float)), ["variant", "seed"]]
            keys = [(str(variant), int(seed)) for variant, seed in missing.itertuples(index=False)]
            if name == AGGREGATE or any(name in metrics for metrics in self.found.metrics.values()):
                keys = [key for key in keys if key in self.found.metrics]  # of the others it is said already
            if keys and len(keys) < len(values):
                remarks.append(f"*{metric.label}* is undefined (not a number) or not there: {tables.named(keys)}")
        return remarks

    def _some(self, metric: str) -> bool:
        return bool(self.table[metric].notna().any())

    def _front(self, metric: str) -> Front:
        less = self.metrics[metric].get("better") == "less"
        sign = -1 if less else 1
        means = self.means[[self.primary, metric]]
        loss, score = means[self.primary].to_numpy(float), sign * means[metric].to_numpy(float)
        reference = self._reference(metric, sign, means)
        alone = means.index == self.config.baseline
        return Front(
            metric=metric,
            label=self.labels[metric],
            less_is_better=less,
            variants=self.variants,
            on_front=pareto.front(loss, score).tolist(),
            reference=None if reference is None else (reference[0], sign * reference[1]),
            hypervolume=np.nan if reference is None else pareto.hypervolume(loss, score, reference),
            baseline_alone=np.nan if reference is None else pareto.hypervolume(loss[alone], score[alone], reference),
        )

    def _reference(self, metric: str, sign: int, means: pd.DataFrame) -> tuple[float, float] | None:
        """Loss of the untrained networks, and the worse of theirs and the baseline's figures; none without them."""
        untrained = self.untrained
        if metric == AGGREGATE:
            untrained = pd.DataFrame({AGGREGATE: aggregate(z_scores(untrained, self.units), self.units)})
        if self.config.baseline not in means.index or "val/loss" not in self.untrained or metric not in untrained:
            return None
        worst = min(sign * untrained[metric].mean(), sign * means.loc[self.config.baseline, metric])
        reference = float(self.untrained["val/loss"].mean()), float(worst)
        return reference if np.isfinite(reference).all() else None


def spearman(table: pd.DataFrame, metrics: Mapping[str, str]) -> pd.DataFrame:
    """Rank correlation between metrics over runs; those that are the same in all runs are left out."""
    varied = [name for name in metrics if table[name].nunique() > 1]
    return table[varied].astype(float).corr(method="spearman")
