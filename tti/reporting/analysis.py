"""Everything that a report computes from its runs; Markdown, page and browser only display it."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from omegaconf import DictConfig

from tti.markdown import code, escaped
from tti.reporting import (
    audit,
    collapse,
    comparison,
    experts,
    floors,
    gains,
    losses,
    matched,
    pareto,
    similarity,
    tables,
)
from tti.reporting.believed import Believed
from tti.reporting.comparison import SIGNS
from tti.reporting.gains import Declared
from tti.reporting.given import Given, Key
from tti.reporting.hues import Hue, hues
from tti.reporting.moves import Moves, moves
from tti.reporting.selection import Selection, is_baseline, named
from tti.reporting.tables import Evaluated, StoryLosses

SPLIT_OF = {"val": "validation", "test": "test"}  # prefix of training's metrics -> split


@dataclass(frozen=True)
class Analysis:
    """The comparison of selected runs.

    Attributes:
        figures: compared metric -> its values by ``variant, seed``, as in :func:`tables.figures`.
        every, rotated, untrained: the same for all metrics of the trained models, of their rotations and of the
            untrained networks.
        table: one row per run, with every figure.
        logged: the training history.
        controls: variant -> its control.
        baselines: the variants with which all others are ultimately compared.
        sequences: the variants of each method, weakest first.
        hues: how each variant is drawn.
        display_only: compared metrics that may be displayed but must not decide.
        declared: variant -> the gain that is tested.
        floors, losses, gains, changes, beyond, matched, falls, fronts, similarity: results of the functions of the
            modules with these or similar names.
        maps: matrices of experts and tasks.
        collapsed: variant -> in how many seeds its code collapsed; its scores are not in ``figures``.
        moves: what moving a latent changes.
        believed: the verdict of the court that was named, if any.
        remarks: what a reader must know about the runs, as Markdown.
    """

    config: DictConfig
    selection: Selection
    found: Evaluated
    table: pd.DataFrame
    logged: pd.DataFrame
    metrics: Mapping[str, Any]
    figures: Mapping[str, pd.Series]
    every: Mapping[str, pd.Series]
    rotated: Mapping[str, pd.Series]
    untrained: Mapping[str, pd.Series]
    baselines: tuple[str, ...]
    controls: Mapping[str, str]
    sequences: Sequence[Sequence[str]]
    hues: Mapping[str, Hue]
    display_only: frozenset[str]
    declared: Mapping[str, Declared]
    floors: pd.DataFrame
    losses: pd.DataFrame
    gains: pd.DataFrame
    changes: pd.DataFrame
    beyond: pd.DataFrame
    matched: pd.DataFrame
    falls: pd.Series
    fronts: Sequence[pareto.Front]
    similarity: pd.DataFrame
    maps: Sequence[experts.Map]
    collapsed: Mapping[str, str]
    moves: Sequence[Moves]
    believed: Believed | None
    remarks: tuple[str, ...]

    @property
    def loss(self) -> str:
        """Key of the loss that verdicts are based on."""
        return str(self.config.loss)

    @property
    def variants(self) -> list[str]:
        """Variants in display order."""
        return [str(variant) for variant in self.table["variant"].unique()]

    @property
    def labels(self) -> dict[str, str]:
        """Metric -> heading."""
        return {name: str(metric.label) for name, metric in self.metrics.items()}

    @property
    def headings(self) -> dict[str, str]:
        """Metric -> label with an arrow for what is better, and ``‡`` if it is display only."""
        arrows = {"less": " ↓", "more": " ↑"}
        return {name: metric.label + arrows.get(metric.get("better"), "") + " ‡" * (name in self.display_only)
                for name, metric in self.metrics.items()}  # fmt: skip

    @property
    def digits(self) -> dict[str, int]:
        """Metric -> number of digits to display."""
        return {name: int(metric.digits) for name, metric in self.metrics.items()}

    def sign(self, name: str) -> int:
        """1 if more of a compared metric is better, -1 if less is, 0 if neither is declared."""
        return SIGNS.get(self.metrics[name].get("better"), 0)

    def means(self, name: str) -> pd.DataFrame:
        """:func:`comparison.over_seeds` of a compared metric, one row per variant."""
        return comparison.over_seeds(self.figures[name]).reindex(self.variants)


def analyse(config: DictConfig, selection: Selection) -> Analysis:
    """Compare the selected runs.

    Raises:
        ValueError: no run has the loss that decides, the configuration's declarations are invalid, or the named court
            has left no verdict.
    """
    believed = Believed.read(Path(config.court)) if config.court else None
    found = tables.evaluated(selection, config.split, config.audit)
    records = tables.records(selection, found.metrics)
    baselines, controls, said = _controls(config, selection)
    collapsed = collapse.collapsed(tables.figures(records), controls, config.collapsed)
    records = collapse.without(records, collapsed)
    every = tables.figures(records)
    metrics = {str(name): metric for name, metric in config.metrics.items() if name in every}
    loss = _loss(config, every)
    figures = {name: every[name] for name in metrics} | {str(config.loss): loss}
    rotated, untrained = (tables.by_name(selection, each) for each in (found.rotated, found.untrained))
    table, logged = pd.DataFrame(records), tables.history(selection)
    lengths, damaged = tables.lengths(selection, records, config.split)
    sequences = _sequences(table, controls, config.weaker_is_more)
    stories, unread = _stories(config, selection, found)
    counted = floors.table(selection, loss, config.split, config.understood, every.get(config.entropy_floor))
    declared = {selection.name(run.key): _declared(config, run) for run in selection.finished}
    display_only = _display_only(config, metrics, found)
    silent = {v: "display only" for v, gain in declared.items() if gain.metric in display_only}
    silent |= floors.silent(counted) | collapsed
    compared = [name for name in figures if name not in (config.loss, "tokens_per_second")]  # runs share machines
    pairs, unlike = similarity.between_runs(found.evaluations, selection, baselines, config.figures.similarity)
    maps, unseen = experts.maps(found.evaluations, selection)
    moved, unmoved = moves(found.evaluations, selection)
    remarks = [f"not finished: {code(run.folder.name)} of {code(run.folder.parent.name)} ({run.status}) "
               f"{escaped(run.run.failure)}" for run in selection.found if run.status != "finished"]  # fmt: skip
    remarks += [*selection.remarks, *found.remarks, *said, *unread, *unlike, *unseen, *unmoved, *damaged]
    remarks += [
        f"{code(variant)}: the code {reason}, so its scores are not shown" for variant, reason in collapsed.items()
    ]
    remarks += _undefined(metrics, figures)
    return Analysis(
        config=config,
        selection=selection,
        found=found,
        table=table,
        logged=logged,
        metrics=metrics,
        figures=figures,
        every=every,
        rotated=rotated,
        untrained=untrained,
        baselines=baselines,
        controls=controls,
        sequences=sequences,
        hues=hues(table, baselines, config.weaker_is_more),
        display_only=display_only,
        declared=declared,
        floors=counted,
        losses=losses.changes(loss, _margins(config, selection, controls), controls, sequences, stories),
        gains=gains.gains(declared, every, rotated, controls, sequences, silent),
        changes=comparison.against({name: figures[name] for name in compared}, controls),
        beyond=gains.beyond({name: figures[name] for name in compared}, rotated, controls),
        matched=_matched(config, compared, lengths, controls),
        falls=matched.falls(lengths, str(config.loss), config.converged.share),
        fronts=_fronts(config, selection, metrics, figures, untrained, baselines),
        similarity=pairs,
        maps=maps,
        collapsed=collapsed,
        moves=moved,
        believed=believed,
        remarks=tuple(remarks),
    )


def spearman(table: pd.DataFrame, metrics: Iterable[str]) -> pd.DataFrame:
    """Rank correlation between metrics over runs, without metrics that are equal in all runs."""
    varied = [name for name in metrics if table[name].nunique() > 1]
    return table[varied].astype(float).corr(method="spearman")


def _loss(config: DictConfig, figures: Mapping[str, pd.Series]) -> pd.Series:
    if config.loss not in figures:
        known = ", ".join(name for name in figures if name.endswith("/loss"))
        raise ValueError(f"no run has loss={config.loss}; available losses: {known or 'none'}")
    return figures[config.loss].astype(float)


def _controls(config: DictConfig, selection: Selection) -> tuple[tuple[str, ...], dict[str, str], list[str]]:
    """The baselines, each variant's control, and remarks on what is not compared."""
    keys = list(dict.fromkeys(run.key._replace(seed=0) for run in selection.finished))
    baselines = tuple(selection.name(key) for key in keys if is_baseline(key, config.baseline))
    remarks: list[str] = []
    controls: dict[str, str] = {}
    others = {str(glob): str(control) for control, glob in config.controls.items()}
    _require_controls(others, keys)
    for experiment in selection.experiments:
        own = [key for key in keys if key.experiment == experiment]
        variants = {key.variant: selection.name(key) for key in own}
        inside = [key.variant for key in own if is_baseline(key, config.baseline)]
        one = baselines[0] if "/" in config.baseline and baselines else None
        if not inside and one is None:
            known = ", ".join(map(code, variants))
            where = f" in {code(experiment)}" if len(selection.experiments) > 1 else ""
            remarks.append(
                f"no finished run of the baseline {code(config.baseline)}{where}, so nothing is compared with it; "
                f"there are {known} (baseline=...)"
            )
            continue
        baseline = inside[0] if inside else str(one)
        here = {glob: control for glob, control in others.items() if control in variants}
        chosen = comparison.controls_of([*dict.fromkeys([baseline, *variants])], baseline, here)
        controls |= {variants[v]: variants.get(control, str(one)) for v, control in chosen.items()}
    if baselines and not controls:
        remarks.append(f"{code(baselines[0])} is the only variant: there is nothing to compare it with")
    if controls and len({run.key.seed for run in selection.finished}) < 2:
        remarks.append("one seed only: no intervals over seeds and no tests. One seed says nothing about a method")
    return baselines, controls, remarks


def _require_controls(others: Mapping[str, str], keys: Sequence[Key]) -> None:
    variants = list(dict.fromkeys(key.variant for key in keys))
    for control in others.values():
        if control not in variants:
            raise ValueError(f"controls: no finished run of {control!r}; there are {', '.join(variants)}")


def _sequences(table: pd.DataFrame, controls: Mapping[str, str], weaker_is_more: Sequence[str]) -> list[list[str]]:
    """The variants of each method with the same control, weakest first."""
    chains: dict[tuple[str, str, str], list[tuple[float, str]]] = {}
    for row in table.drop_duplicates("variant").to_dict("records"):
        if control := controls.get(row["variant"]):
            strength = -row["strength"] if row["knob"] in weaker_is_more else row["strength"]
            chains.setdefault((row["method"], row["knob"], control), []).append((strength, row["variant"]))
    return [[variant for _, variant in sorted(chain)] for chain in chains.values()]


def _margins(config: DictConfig, selection: Selection, controls: Mapping[str, str]) -> dict[str, float]:
    """The margin of each variant in nats: an architecture's if its ``model`` differs from the control's."""
    if not isinstance(config.margin, Mapping):  # a single margin, the form before there were two
        return dict.fromkeys(controls, float(config.margin))
    models = {selection.name(run.key): run.config.get("model") for run in selection.finished}
    return {variant: float(config.margin["penalty" if models[variant] == models[control] else "architecture"])
            for variant, control in controls.items()}  # fmt: skip


def _declared(config: DictConfig, run: Given) -> Declared:
    name = str(config.primary[run.corpus])
    metric: Any = config.metrics.get(name) or {}
    if metric.get("better") not in SIGNS:
        raise ValueError(f"primary.{run.corpus}={name}: it must be an entry of `metrics` that declares what is better")
    return Declared(name, str(metric.label), SIGNS[metric.better])


def _display_only(config: DictConfig, metrics: Mapping[str, Any], found: Evaluated) -> frozenset[str]:
    """The declared display-only metrics, and those that moved in an audit of one of these runs."""
    moved = audit.display_only(audit.movements(found.audits))
    return frozenset(
        name for name, metric in metrics.items()
        if audited(name, metric) in moved
        or any(fnmatchcase(each, glob) for each in (name, audited(name, metric)) for glob in config.display_only)
    )  # fmt: skip


def audited(name: str, metric: Mapping[str, Any]) -> str:
    """The name of a compared metric in the gaming audit."""
    return str(metric.get("audited", name.removesuffix("/mean")))


def _stories(
    config: DictConfig, selection: Selection, found: Evaluated
) -> tuple[dict[tuple[str, int], StoryLosses], list[str]]:
    """The losses per story of each run, if the loss that decides belongs to the evaluated split."""
    if SPLIT_OF.get(str(config.loss).partition("/")[0]) != config.split:
        return {}, []
    remarks: list[str] = []
    stories = {}
    for key, _, nll, part in tables.arrays(found.evaluations, "story/nll", remarks, "no losses of stories"):
        if "story/tokens" in part.arrays:
            stories[selection.name(key), key.seed] = StoryLosses(nll, part.arrays["story/tokens"].astype(float))
    return stories, remarks


def _matched(
    config: DictConfig, names: Sequence[str], lengths: pd.DataFrame, controls: Mapping[str, str]
) -> pd.DataFrame:
    """Changes of figures at matched loss, over seeds; empty if no run has shorter ones."""
    there = [name for name in names if name in lengths]
    if not controls or not len(there) or not lengths.duplicated(["variant", "seed"]).any():
        return pd.DataFrame()
    at = matched.differences(lengths, str(config.loss), there, controls).set_index(["variant", "seed"])
    return pd.concat({name: comparison.summed_up(at[name].dropna(), controls) for name in there}, axis=1)


def _undefined(metrics: Mapping[str, Any], figures: Mapping[str, pd.Series]) -> list[str]:
    remarks = []
    for name, metric in metrics.items():
        values = figures[name].astype(float)
        undefined = [(str(variant), int(seed)) for variant, seed in values.index[~np.isfinite(values)]]
        if undefined:
            remarks.append(f"*{metric.label}* is undefined (NaN): {named(undefined)}; its mean with that seed is too")
    return remarks


def _fronts(
    config: DictConfig,
    selection: Selection,
    metrics: Mapping[str, Any],
    figures: Mapping[str, pd.Series],
    untrained: Mapping[str, pd.Series],
    baselines: Sequence[str],
) -> list[pareto.Front]:
    """One front per requested metric and experiment, since experiments may use different data."""
    fronts = []
    for experiment in selection.experiments:
        own = dict.fromkeys(selection.name(run.key) for run in selection.finished if run.key.experiment == experiment)
        where = f", {experiment}" if len(selection.experiments) > 1 else ""
        for name in (str(name) for name in config.figures.front if name in metrics):
            better = SIGNS.get(metrics[name].get("better"), 1)
            there = [v for v in own if v in figures[name].index.get_level_values("variant")]
            if there:
                fronts.append(pareto.of_seeds(
                    name, f"{metrics[name].label}{where}", better, figures[config.loss].loc[there],
                    figures[name].loc[there], [v for v in there if v in baselines],
                    _untrained(untrained, name, baselines),
                ))  # fmt: skip
    return fronts


def _untrained(untrained: Mapping[str, pd.Series], metric: str, baselines: Sequence[str]) -> tuple[float, float]:
    """Mean loss and score of the baselines' untrained networks; NaN if they were not evaluated."""
    found = [untrained.get(name, pd.Series(dtype=float)) for name in ("performance/loss", metric)]
    means = [each[[owner in baselines for owner, _ in each.index]].mean() if len(each) else math.nan for each in found]
    return float(means[0]), float(means[1])
