"""The verdict of a court: the scores of every metric on the open and, once opened, on the sealed seeds."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from typing import Any

import numpy as np
import pandas as pd
from omegaconf import DictConfig

from tti.court.bench import BEYOND, HALVES, Layer, Measured
from tti.court.plan import Level, Plan
from tti.court.recipe import Recipe
from tti.court.scores import Metric, Score, Values, judged
from tti.court.trained import Trained

CRITERIA = {
    "S": "sensitivity",
    "N": "nuisance",
    "C": "calibration",
    "R": "resolution",
    "V": "validity on trained models",
    "G": "Goodhart",
    "K": "cost",
}
NOT_IN = "not in"


@dataclass(frozen=True)
class Sitting:
    """The scores on one set of seeds.

    Attributes:
        name: ``open seeds`` or ``sealed seeds``.
        seeds: the seeds.
        scores: the scores, those that meet most criteria first.
    """

    name: str
    seeds: Sequence[int]
    scores: Sequence[Score]

    @property
    def reportable(self) -> list[Score]:
        """The metrics that meet all criteria that planted layers can test."""
        return [score for score in self.scores if not score.failed]


@dataclass(frozen=True)
class Verdict:
    """What the court has found.

    Attributes:
        plan: the layers.
        trial: the frozen file.
        frozen: its digest, with all overrides.
        settings: a digest of the parts' settings and the stories.
        opened: when the sealed seeds were opened; None if they are sealed.
        metrics: the metrics on trial.
        find: a measurement.
        trained: the trained networks that V and G are from; None without any.
    """

    plan: Plan
    trial: DictConfig
    frozen: str
    settings: str
    opened: str | None
    metrics: Sequence[Metric]
    find: Callable[[Layer, str], Measured | None]
    trained: Trained | None = None

    @cached_property
    def sittings(self) -> list[Sitting]:
        """The open seeds, and the sealed ones if they are open."""
        sets = {"open seeds": list(self.trial.seeds.open)}
        if self.opened:
            sets["sealed seeds"] = list(self.trial.seeds.sealed)
        return [Sitting(name, seeds, self._scores(seeds)) for name, seeds in sets.items()]

    def _scores(self, seeds: Sequence[int]) -> list[Score]:
        first = {metric.part: self._measured(Layer(self.plan.base, seeds[0], 0), metric) for metric in self.metrics}
        metrics = [
            each for metric in self.metrics for each in (metric, metric.beyond) if each.name in first[each.part].metrics
        ]
        values = {metric.name: self._lookup(metric, seeds) for metric in metrics}
        passes = {part: found.passes for part, found in first.items()}
        return judged(metrics, self.plan, values, self.trial.thresholds, passes)

    def _lookup(self, metric: Metric, seeds: Sequence[int]) -> Callable[[Recipe], Values]:
        @cache
        def values(recipe: Recipe) -> Values:
            found = [self._measured(Layer(recipe, seed, half), metric) for seed in seeds for half in HALVES]
            return np.array([each.metrics[metric.name] for each in found])

        return values

    def _measured(self, layer: Layer, metric: Metric) -> Measured:
        found = self.find(layer, metric.part)
        assert found is not None, (layer, metric.part)
        return found

    # -- in words -----------------------------------------------------------------------------------------------------

    def sentences(self) -> list[str]:
        """What the table says, in sentences."""
        last = self.sittings[-1]
        passed = [score.metric.name for score in last.reportable]
        counts = {name: sum(name in score.failed for score in last.scores) for name in last.scores[0].passed}
        failed = "; ".join(f"{name} ({CRITERIA[name]}): {count}" for name, count in counts.items())
        return [
            f"{len(passed)} of {len(last.scores)} metrics meet the four criteria that planted layers can test, on the "
            f"{last.name}{': ' + ', '.join(passed) if passed else ''}.",
            f"Metrics that fail each criterion: {failed}.",
            *self._of_trained(last),
            f"The sealed seeds were opened on {self.opened}: the verdict is that on them."
            if self.opened
            else "The sealed seeds have not been opened: this is not yet the final figure.",
        ]

    def _of_trained(self, last: Sitting) -> list[str]:
        if self.trained is None:
            return [
                "V and G are not in: they need trained networks (`runs=[...]`). Until they are, no metric has a voice "
                "in an aggregate of scores, whatever this table says."
            ]
        metrics = [score.metric for score in last.scores]
        valid = [each for each in map(self.trained.validity, metrics) if each]
        follow, above, auc = self.trial.trained.validity, self.trial.trained.auc, self.trained.truth_auc
        survived = [each for each in map(self.trained.survival, metrics) if each]
        voices = [score.metric.name for score in last.scores if self.has_a_voice(score)]
        return [
            f"On trained networks ({self.trained}), {sum(each.met for each in valid)} of {len(valid)} metrics meet V: "
            f"{sum(each.low > follow for each in valid)} have a correlation whose interval lies above {follow:g}, and "
            f"{sum(each.auc > above for each in valid)} an AUC above {above:g}. The truth's own AUC is {auc:.2f}"
            f"{'' if auc > above else ': what follows it does not tell these decoys from honest runs either'}.",
            f"Networks were trained for {len(survived)} of them: {sum(each.moved for each in survived)} rose, and in "
            f"{sum(each.moved and not each.met for each in survived)} of these cases the truth fell.",
            f"A voice in an aggregate of scores, which takes S, N, C, R, V and G: {', '.join(voices) or 'none'}.",
        ]

    def has_a_voice(self, score: Score) -> bool:
        """Whether a metric meets all criteria, those on trained networks included."""
        if score.failed or self.trained is None:
            return False
        validity, survival = self.trained.validity(score.metric), self.trained.survival(score.metric)
        return validity is not None and validity.met and survival is not None and survival.met

    @property
    def provenance(self) -> list[str]:
        """Where the figures come from."""
        trial, recipe = self.trial, self.plan.base
        used = ", ".join(f"{sitting.name} {', '.join(map(str, sitting.seeds))}" for sitting in self.sittings)
        layers = len(self.plan.recipes())
        return [
            f"Frozen file: `conf/trial/{trial.name}.yaml`, digest `{self.frozen}` (overrides included). It holds the "
            "dials, the seeds, the thresholds and the metrics.",
            f"Settings of the evaluation's parts, and stories: digest `{self.settings}`.",
            f"{layers} layers of {recipe.values} neurons, {used}, each on both halves of {trial.stories.validation} "
            "stories of the built-in grammar.",
        ]

    def verdicts(self) -> pd.DataFrame:
        """The verdicts of the last sitting, which :mod:`tti.reporting.believed` reads: one row per metric."""
        return pd.DataFrame(
            {
                "metric": score.metric.name,
                "measured": score.metric.name.removesuffix(BEYOND),
                "better": score.metric.better,
                "unit": score.unit,
                "verdict": "display only" if score.failed else "reportable",
                "failed": " ".join(score.failed),
                "voice": self.has_a_voice(score),
            }
            for score in self.sittings[-1].scores
        )

    def figures(self) -> pd.DataFrame:
        """Every value of every metric: one row per metric, layer, seed and half."""
        return pd.DataFrame(self._figures())

    def _figures(self) -> Iterator[dict[str, Any]]:
        for sitting in self.sittings:
            replicates = [(seed, half) for seed in sitting.seeds for half in HALVES]
            for score in sitting.scores:
                for level in levels(self.plan):
                    for (seed, half), value in zip(replicates, score.values(level.recipe), strict=True):
                        yield {
                            "metric": score.metric.name, "seeds": sitting.name, "layer": str(level), "dose": level.dose,
                            "seed": seed, "half": half, "value": value,
                        }  # fmt: skip


def levels(plan: Plan) -> list[Level]:
    """Every level of every dial, the base first."""
    groups = (*plan.doses.values(), *plan.nuisances.values(), plan.nulls, *plan.shown.values())
    base = Level("control", "base", plan.base)
    return [base, *(level for group in groups for level in group)]
