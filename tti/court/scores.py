"""The scores of a metric: whether it sees the dose, ignores nuisances, is 0 on nulls, and how fine it resolves."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from jaxtyping import Float
from omegaconf import DictConfig
from scipy.stats import rankdata

from tti.court.bench import BEYOND
from tti.court.plan import Level, Plan
from tti.court.recipe import Recipe
from tti.reporting.comparison import SIGNS

Values = Float[np.ndarray, "replicate"]
Lookup = Callable[[Recipe], Values]


@dataclass(frozen=True)
class Metric:
    """A metric on trial.

    Attributes:
        name: ``part/metric``.
        better: ``more`` or ``less``.
        says: what it says, for a reader.
    """

    name: str
    better: str
    says: str

    @property
    def part(self) -> str:
        """The part of the evaluation that measures it."""
        return self.name.partition("/")[0]

    @property
    def beyond(self) -> "Metric":
        """The same metric minus that of a random rotation of the layer."""
        return Metric(f"{self.name}{BEYOND}", self.better, f"{self.says}, minus that of a random rotation of the layer")

    @property
    def sign(self) -> int:
        """+1 if more is better, -1 if less is."""
        return SIGNS[self.better]


@dataclass(frozen=True)
class Score:
    """The scores of a metric, from its values on replicates of every layer: seeds times halves of the stories.

    Moves are in *doses*: divided by the metric's mean change from dose 0 to dose 1, and positive towards better.

    Attributes:
        metric: the metric.
        plan: the layers.
        values: the values on a recipe, one per replicate.
        thresholds: those of the frozen file.
        passes: cost in forward passes over the stories.
    """

    metric: Metric
    plan: Plan
    values: Lookup
    thresholds: DictConfig
    passes: float

    # -- S ------------------------------------------------------------------------------------------------------------

    @cached_property
    def sensitivities(self) -> dict[str, float]:
        """For each dial of doses, Spearman's correlation of truth with the metric, averaged over replicates."""
        return {
            dial: float(np.mean([spearman(truth, each) for each in self._levels(levels).T]))
            for dial, levels in self.plan.doses.items()
            for truth in [np.array([1.0, *(1 - level.dose for level in levels)])]
        }

    @property
    def sensitivity(self) -> float:
        """S: the lowest of them. 0 if the metric does not vary, NaN if it is undefined on a layer."""
        return min(self.sensitivities.values(), key=lambda found: -math.inf if math.isnan(found) else found)

    def _levels(self, levels: Sequence[Level]) -> Float[np.ndarray, "level replicate"]:
        recipes = [self.plan.base, *(level.recipe for level in levels)]
        return self.metric.sign * np.stack([self.values(recipe) for recipe in recipes])

    # -- N ------------------------------------------------------------------------------------------------------------

    @cached_property
    def unit(self) -> float:
        """The size of the metric's mean change from dose 0 to dose 1; NaN if there is none."""
        change = abs(float(np.mean(self.values(self.plan.base)) - np.mean(self.values(self.plan.unit.recipe))))
        return change if change > 0 else math.nan

    def move(self, level: Level, start: Recipe | None = None) -> float:
        """How far the mean at this level lies from that at ``start``, by default the base."""
        away = np.mean(self.values(level.recipe)) - np.mean(self.values(start or self.plan.base))
        return float(self.metric.sign * away / self.unit)

    @cached_property
    def moves(self) -> dict[Level, float]:
        """The move under every nuisance."""
        return {level: self.move(level) for levels in self.plan.nuisances.values() for level in levels}

    @property
    def worst(self) -> Level:
        """The nuisance that moves it most."""
        return max(self.moves, key=lambda level: math.inf if math.isnan(self.moves[level]) else abs(self.moves[level]))

    @property
    def nuisance(self) -> float:
        """N: the size of the largest move."""
        return abs(self.moves[self.worst])

    # -- C ------------------------------------------------------------------------------------------------------------

    @property
    def null(self) -> Level:
        """The null on which the metric is furthest from 0."""
        return max(self.plan.nulls, key=lambda level: abs(float(np.mean(self.values(level.recipe)))))

    @property
    def calibration(self) -> tuple[float, float]:
        """C: mean and standard deviation over replicates on that null, as the metric gives them."""
        values = self.values(self.null.recipe)
        return float(np.mean(values)), spread(values)

    @property
    def calibrated(self) -> bool:
        """Whether every null is within the allowed spreads of 0, or negligible."""
        allowed, negligible = self.thresholds.null_spreads, self.thresholds.negligible
        near = [
            abs(np.mean(values)) <= allowed * spread(values) or abs(np.mean(values)) <= negligible * self.unit
            for values in (self.values(level.recipe) for level in self.plan.nulls)
        ]
        return all(near) and math.isfinite(self.unit)

    # -- R ------------------------------------------------------------------------------------------------------------

    @property
    def resolution(self) -> float:
        """R: the smallest dose from which on all are told apart from dose 0; infinite if dose 1 is not."""
        found = math.inf
        for level in reversed(self.plan.resolving):
            if not self._apart(self.values(level.recipe), self.values(self.plan.base)):
                break
            found = level.dose
        return found

    def _apart(self, dosed: Values, without: Values) -> bool:
        """Whether the mean is worse than without a dose, by enough standard deviations of the difference."""
        difference = self.metric.sign * (np.mean(without) - np.mean(dosed))
        return bool(difference > 0 and difference >= self.thresholds.apart * math.hypot(spread(dosed), spread(without)))

    # -- the verdict --------------------------------------------------------------------------------------------------

    @property
    def passed(self) -> dict[str, bool]:
        """For each criterion, whether the metric meets it; an undefined score does not."""
        limits = self.thresholds
        return {
            "S": self.sensitivity >= limits.sensitivity,
            "N": self.nuisance <= limits.nuisance,
            "C": self.calibrated,
            "R": self.resolution <= limits.resolution,
        }

    @property
    def failed(self) -> list[str]:
        """The criteria that it does not meet."""
        return [name for name, passed in self.passed.items() if not passed]


def spearman(one: Float[np.ndarray, "n"], other: Float[np.ndarray, "n"]) -> float:
    """Spearman's rank correlation; 0 if either does not vary, NaN if a value is undefined."""
    if not np.isfinite(other).all():
        return math.nan
    ranks = np.stack([rankdata(one), rankdata(other)])
    ranks -= ranks.mean(1, keepdims=True)
    sizes = np.sqrt((ranks**2).sum(1))
    return float(ranks[0] @ ranks[1] / sizes.prod()) if sizes.all() else 0.0


def spread(values: Values) -> float:
    """Standard deviation over replicates."""
    return float(np.std(values, ddof=1)) if len(values) > 1 else 0.0


def judged(
    metrics: Sequence[Metric],
    plan: Plan,
    values: Mapping[str, Lookup],
    thresholds: DictConfig,
    passes: Mapping[str, float],
) -> list[Score]:
    """The scores of all metrics, those that meet most criteria first."""
    scores = [Score(metric, plan, values[metric.name], thresholds, passes[metric.part]) for metric in metrics]
    return sorted(scores, key=lambda score: len(score.failed))
