"""What trained networks say of a metric: V, whether it follows the truth, and G, whether the truth survives it."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import PurePosixPath

import numpy as np
import pandas as pd
from jaxtyping import Float
from omegaconf import DictConfig
from scipy.stats import mannwhitneyu, rankdata

from tti.court.bench import BEYOND, PLACE, SPLIT
from tti.court.scores import Metric
from tti.reporting import comparison, selection, tables
from tti.reporting.statistics import CONFIDENCE

AUDIT = "gaming"
RESAMPLES = 1000  # of the variants, for an interval
Values = Float[np.ndarray, "run"]


@dataclass(frozen=True)
class Validity:
    """V of a metric.

    Attributes:
        correlation: its partial rank correlation with the truth, positive if better goes with more truth.
        low, high: ends of the bootstrap interval of that, in which whole variants are drawn.
        auc: the probability that an honest run looks better than a decoy; NaN without either.
        met: whether both exceed their thresholds.
    """

    correlation: float
    low: float
    high: float
    auc: float
    met: bool


@dataclass(frozen=True)
class Survival:
    """G of a metric: what became of it, and of the truth, when networks were trained for it.

    Attributes:
        variant: the variant that was trained for it.
        metric, truth, loss: mean change from the baseline over seeds with the half width of its t interval; positive is
            better for the metric.
        seeds: number of seeds.
    """

    variant: str
    metric: tuple[float, float]
    truth: tuple[float, float]
    loss: tuple[float, float]
    seeds: int

    @property
    def moved(self) -> bool:
        """Whether training for the metric is shown to have improved it; otherwise nothing was tried."""
        mean, margin = self.metric
        return mean - margin > 0

    @property
    def met(self) -> bool:
        """Whether the metric was improved and the truth is not shown to have fallen."""
        mean, margin = self.truth
        return self.moved and mean + margin >= 0


class Trained:
    """The evaluated runs of some folders, all on the same data.

    Args:
        patterns: folders and globs of the runs.
        baseline: the variant without any objective, which the runs of ``goodhart`` are compared with.
        declared: ``trial.trained`` of the frozen file.

    Raises:
        ValueError: there are no such runs, they differ in data, or none has the truth.
    """

    def __init__(self, patterns: Sequence[str], baseline: str, declared: DictConfig) -> None:
        chosen = selection.select(patterns, baseline, compare_anyway=False)
        found = tables.evaluated(chosen, SPLIT, AUDIT)
        rows = [
            {
                "variant": f"{key.experiment}/{key.variant}",
                "seed": key.seed,
                **_named(metrics, found.rotated.get(key, {})),
            }
            for key, metrics in found.metrics.items()
        ]
        figures = pd.DataFrame(rows)
        if absent := [name for name in (declared.truth, *declared.given) if name not in figures]:
            raise ValueError(
                f"no run in {', '.join(patterns)} has {', '.join(absent)}: evaluate them "
                "(python -m tti.evaluate run=...) or declare another truth (trial.trained.truth)"
            )
        self.declared, self.baseline = declared, baseline
        self._validity: dict[Metric, Validity | None] = {}
        self.figures = figures.set_index(["variant", "seed"]).sort_index()

    def __str__(self) -> str:
        seeds = self.figures.index.get_level_values("seed").nunique()
        return f"{len(self.figures)} runs of {len(self._variants)} variants, {seeds} seeds"

    # -- V ------------------------------------------------------------------------------------------------------------

    def validity(self, metric: Metric) -> Validity | None:
        """V; None if not all runs were evaluated for it, or it is undefined in one."""
        if metric not in self._validity:
            self._validity[metric] = self._found(metric)
        return self._validity[metric]

    def _found(self, metric: Metric) -> Validity | None:
        values = self._known(metric.name)
        if values is None:
            return None
        better, truth = metric.sign * values, self._truth
        correlation = partial(better, truth, self._given)
        low, high = self._interval(better, truth)
        auc = self._auc(better)
        return Validity(correlation, low, high, auc, low > self.declared.validity and auc > self.declared.auc)

    @property
    def truth_auc(self) -> float:
        """The probability that an honest run has more truth than a decoy; NaN without either."""
        return self._auc(self._truth)

    @property
    def _truth(self) -> Values:
        return self.figures[self.declared.truth].to_numpy(float)

    def _auc(self, values: Values) -> float:
        return beats(values[~self._decoys], values[self._decoys])

    def _interval(self, values: Values, truth: Values) -> tuple[float, float]:
        draw = np.random.default_rng(0)
        rows = self.figures.reset_index().groupby("variant").indices
        found = []
        for _ in range(RESAMPLES):
            drawn = np.concatenate([rows[name] for name in draw.choice(self._variants, len(self._variants))])
            found.append(partial(values[drawn], truth[drawn], self._given[drawn]))
        if np.isnan(found).all():
            return math.nan, math.nan
        low, high = np.nanquantile(found, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
        return float(low), float(high)

    @cached_property
    def _given(self) -> Float[np.ndarray, "run given"]:
        return self.figures[list(self.declared.given)].to_numpy(float)

    @cached_property
    def _variants(self) -> list[str]:
        return [str(name) for name in self.figures.index.get_level_values("variant").unique()]

    @cached_property
    def _decoys(self) -> np.ndarray:
        names = self.figures.index.get_level_values("variant").map(PurePosixPath)
        return np.array([any(name.match(glob) for glob in self.declared.decoys) for name in names])

    def _known(self, name: str) -> Values | None:
        values = self.figures[name].to_numpy(float) if name in self.figures else np.array([math.nan])
        return values if np.isfinite(values).all() else None

    # -- G ------------------------------------------------------------------------------------------------------------

    def survival(self, metric: Metric) -> Survival | None:
        """G; None if no variant was trained for the metric."""
        name = metric.name.removesuffix(BEYOND)
        made_for = {variant for variant, of in self.declared.goodhart.items() if of == name}
        variant = next((each for each in self._variants if PurePosixPath(each).name in made_for), None)
        if variant is None or metric.name not in self.figures:
            return None
        control = {variant: str(PurePosixPath(variant).with_name(self.baseline))}
        names = [metric.name, self.declared.truth, self.declared.given[0]]
        found = comparison.against({each: self.figures[each].dropna() for each in names}, control).loc[variant]
        metrics, truth, loss = ((float(found[each, "mean"]), float(found[each, "margin"])) for each in names)
        better = (metric.sign * metrics[0], metrics[1])
        return Survival(variant, better, truth, loss, int(found[self.declared.truth, "n"]))


def partial(one: Values, other: Values, given: Float[np.ndarray, "run given"]) -> float:
    """Partial rank correlation: Pearson's, of what is left of the ranks after a linear fit on the ranks of ``given``.

    NaN if nothing is left of either. (Conover & Iman 1981, "Rank transformations".)
    """
    ranks = np.column_stack([rankdata(one), rankdata(other)])
    known = np.column_stack([np.ones(len(one)), *(rankdata(each) for each in given.T)])
    left = ranks - known @ np.linalg.lstsq(known, ranks, rcond=None)[0]
    sizes = np.sqrt((left**2).sum(0))
    return float(left[:, 0] @ left[:, 1] / sizes.prod()) if (sizes > 1e-9 * len(one)).all() else math.nan


def beats(ones: Values, others: Values) -> float:
    """The probability that one of ``ones`` exceeds one of ``others``, ties counted half; NaN if either is empty."""
    if not len(ones) or not len(others):
        return math.nan
    return float(mannwhitneyu(ones, others).statistic / (len(ones) * len(others)))


def _named(metrics: Mapping[str, float], rotated: Mapping[str, float]) -> dict[str, float]:
    """Figures of a run by the names of the court, and those minus the rotation's."""
    own = {name.removesuffix(PLACE): value for name, value in metrics.items()}
    beyond = {
        name.removesuffix(PLACE) + BEYOND: value - rotated[name] for name, value in metrics.items() if name in rotated
    }
    return own | beyond
