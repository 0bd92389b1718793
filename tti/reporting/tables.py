"""Run folders as tidy tables. The variant column holds the variant's name in this report (``Selection.name``)."""

import fnmatch
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from tti.evaluation_folder import RANDOM_INIT, ROTATION, TRAINED, AbsentArraysError, Evaluation, Part
from tti.markdown import escaped
from tti.reporting import ceilings
from tti.reporting.given import Given, Key
from tti.reporting.selection import Selection, named

Metrics = Mapping[Key, Mapping[str, float]]


@dataclass(frozen=True)
class Evaluated:
    """The evaluations of the runs on one split, as far as they can be read.

    Attributes:
        metrics, untrained, rotated: ``<part>/<metric>`` of the trained model and of its two controls, by run, with
            shares of ceilings (:mod:`ceilings`).
        audits: metrics of the gaming audit, by run.
        evaluations: folders of the trained models' evaluations, by run.
        references: metrics of the references (``Selection.references``), by run.
        remarks: what could not be read, and why.
    """

    metrics: Metrics
    untrained: Metrics
    rotated: Metrics
    audits: Metrics
    evaluations: Mapping[Key, Evaluation]
    references: Metrics
    remarks: tuple[str, ...] = ()


def evaluated(selection: Selection, split: str, audit: str) -> Evaluated:
    """Read the existing evaluations; a part that is damaged or has another schema version is skipped with a remark.

    Args:
        selection: the selection whose finished runs are read.
        split: split of the corpus.
        audit: the part that measures metrics instead of runs.
    """
    metrics: dict[str, dict[Key, dict[str, float]]] = {TRAINED: {}, RANDOM_INIT: {}, ROTATION: {}}
    audits: dict[Key, dict[str, float]] = {}
    evaluations: dict[Key, Evaluation] = {}
    remarks: list[str] = []
    for run in selection.finished:
        for subject, into in metrics.items():
            evaluation = Evaluation(run.folder, split, subject)
            parts = _readable(evaluation, remarks)
            if subject == TRAINED and parts:
                evaluations[run.key] = evaluation
            if audited := parts.pop(audit, None):
                audits[run.key] = audited
            if parts:
                into[run.key] = into.get(run.key, {}) | _flat(parts)
            if subject == TRAINED and (own := ceilings.rotated(into.get(run.key, {}))):
                metrics[ROTATION][run.key] = own
    references = {
        run.key: _flat(_readable(Evaluation(run.folder, split, TRAINED), remarks)) for run in selection.references
    }
    without = [run.key for run in selection.finished if run.key not in metrics[TRAINED]]
    if without and metrics[TRAINED]:
        missing = named((selection.name(key), key.seed) for key in without)
        remarks.append(f"not evaluated on {split}: {missing} (`python -m tti.evaluate run=...`)")
    elif without:
        remarks.append(
            f"no run was evaluated on {split}, so only figures of the training are available: "
            "`python -m tti.evaluate run=...` measures the rest"
        )
    trained, untrained, rotated = (metrics[subject] for subject in (TRAINED, RANDOM_INIT, ROTATION))
    return Evaluated(trained, untrained, rotated, audits, evaluations, references, tuple(remarks))


def records(selection: Selection, measured: Metrics) -> list[dict[str, Any]]:
    """One record per finished run: its labels, every final figure of training, and every metric of its evaluation.

    ``method``, ``knob`` and ``strength`` come from :func:`strengths`.
    """
    rows = []
    knobs = {
        e: strengths([run for run in selection.finished if run.key.experiment == e]) for e in selection.experiments
    }
    for run in selection.finished:
        summary = run.summary
        figures = {name: summary[name] for name in ("steps", "tokens", "seconds", "tokens_per_second")}
        metrics = {name: math.nan if value is None else value for name, value in summary["metrics"].items()}
        gap = {"gap": metrics["val/loss"] - metrics["train/ce"]} if {"val/loss", "train/ce"} <= set(metrics) else {}
        strength = knobs[run.key.experiment][run.key.variant]
        method = selection.name(run.key._replace(variant=strength.method))
        knob = {"method": method, "knob": strength.key.rpartition(".")[2], "strength": strength.value}
        rows.append({**labels(selection, run), **knob, **figures, "flops": operations(run), **gap, **metrics,
                     **measured.get(run.key, {})})  # fmt: skip
    return rows


def lengths(selection: Selection, rows: Sequence[Mapping[str, Any]], split: str) -> tuple[pd.DataFrame, list[str]]:
    """Final figures of all runs, with shorter runs under the variant of their full run; and remarks."""
    remarks: list[str] = []
    short = []
    for run, full in selection.shorter:
        parts = _readable(Evaluation(run.folder, split, TRAINED), remarks)
        metrics = {name: math.nan if value is None else value for name, value in run.summary["metrics"].items()}
        short.append({**labels(selection, full), "steps": run.summary["steps"], **metrics, **_flat(parts)})
    return pd.DataFrame([*rows, *short]), remarks


def figures(rows: Sequence[Mapping[str, Any]]) -> dict[str, pd.Series]:
    """Column of records -> its values by ``variant, seed``, for the runs in which it was measured.

    A metric that a run lacks is absent; one that is undefined is NaN. The first is a smaller sample, the second a
    result.
    """
    names = dict.fromkeys(name for row in rows for name in row)
    return {name: _series({(row["variant"], row["seed"]): row[name] for row in rows if name in row}) for name in names}


def _series(values: Mapping[tuple[str, int], Any]) -> pd.Series:
    index = pd.MultiIndex.from_tuples(list(values), names=["variant", "seed"])
    return pd.Series(list(values.values()), index=index)


def history(selection: Selection) -> pd.DataFrame:
    """One row per logged step of every finished run."""
    return pd.DataFrame([labels(selection, run) | entry for run in selection.finished for entry in run.run.metrics()])


def by_name(selection: Selection, metrics: Metrics) -> dict[str, pd.Series]:
    """:func:`figures` of metrics given by key."""
    return figures([{"variant": selection.name(key), "seed": key.seed, **found} for key, found in metrics.items()])


def labels(selection: Selection, run: Given) -> dict[str, Any]:
    """Experiment, variant and seed."""
    return {"experiment": run.key.experiment, "variant": selection.name(run.key), "seed": run.key.seed}


@dataclass(frozen=True)
class Strength:
    """The one number in which a variant differs from others of its method: its key and value."""

    method: str
    key: str
    value: float


def strengths(runs: Iterable[Given]) -> dict[str, Strength]:
    """Method and strength of each variant of an experiment, from the overrides that its runs do not all share.

    If the variant's name ends with one of the numbers among these overrides, that is the strength, and the method is
    the name without it (``kl_20``). Otherwise the single number is the strength, and the method is the other overrides;
    of several numbers none is, so the name's number is all that is known (``supervised_10``). A variant without any of
    these is a method of its own without strength.
    """
    overrides = {run.key.variant: dict(o.lstrip("+").partition("=")[::2] for o in run.overrides) for run in runs}
    own = {variant: _uncommon(values, overrides.values()) for variant, values in overrides.items()}
    return {variant: _strength(variant, values) for variant, values in own.items()}


def _uncommon(values: Mapping[str, str], all_values: Iterable[Mapping[str, str]]) -> dict[str, str]:
    others = list(all_values)
    return {
        key: value
        for key, value in values.items()
        if key not in ("variant", "seed") and any(other.get(key) != value for other in others)
    }


def _strength(variant: str, overrides: Mapping[str, str]) -> Strength:
    numbers = {key: float(value) for key, value in overrides.items() if _is_number(value)}
    words = [value for key, value in overrides.items() if key not in numbers]
    stem, _, end = variant.rpartition("_")
    named = float(end) if stem and _is_number(end) else math.nan
    key = next((key for key, number in numbers.items() if number == named), "")
    if key or (len(numbers) > 1 and not math.isnan(named)):
        return Strength(stem, key, named)
    if len(numbers) != 1:
        return Strength(variant, "", math.nan)
    ((key, number),) = numbers.items()
    return Strength(" ".join(words) or key, key, number)


def _is_number(value: str) -> bool:
    try:
        float(value)
    except ValueError:
        return False
    return True


def operations(run: Given) -> float:
    """Floating-point operations of the training; NaN for runs whose summary does not have them yet."""
    return float(run.summary.get("operations_per_token", math.nan) * run.summary["tokens"])


def _readable(evaluation: Evaluation, remarks: list[str]) -> dict[str, dict[str, float]]:
    """The metrics of each part."""
    parts: dict[str, dict[str, float]] = {}
    for name in evaluation.parts():
        try:
            parts[name] = evaluation.part(name).metrics
        except (ValueError, LookupError, TypeError) as error:
            remarks.append(f"left out: {shortened(error, evaluation)}")
    return parts


def _flat(parts: Mapping[str, Mapping[str, float]]) -> dict[str, float]:
    """``<part>/<metric>`` of all parts, and shares of ceilings."""
    flat = {f"{part}/{name}": value for part, found in parts.items() for name, value in found.items()}
    return flat | ceilings.shares(flat)


def shortened(error: Exception, evaluation: Evaluation) -> str:
    """The error message without folders of this machine and without markup."""
    return escaped(str(error).replace(str(evaluation.run.parent.parent) + "/", ""))


def arrays(
    evaluations: Mapping[Key, Evaluation], pattern: str, remarks: list[str], why: str
) -> Iterator[tuple[Key, str, np.ndarray, Part]]:
    """Key, name, values and part of every array whose name matches a glob, one at a time.

    Args:
        evaluations: the evaluations to search.
        pattern: glob of array names.
        remarks: receives a line, starting with ``why``, for each part that cannot be read, and one for all parts
            whose arrays are absent.
        why: what is missing in that case.
    """
    absent: dict[Key, None] = {}
    for key, evaluation in evaluations.items():
        for name in evaluation.parts():
            try:
                part = evaluation.part(name)
                for array in fnmatch.filter(part.arrays, pattern):
                    yield key, array, part.arrays[array], part
            except AbsentArraysError:
                absent[key] = None
            except (ValueError, LookupError, TypeError) as error:
                remark = f"{why}: {shortened(error, evaluation)}"
                remarks.extend([remark] * (remark not in remarks))
    if absent:
        runs = named((key.variant, key.seed) for key in absent)
        remarks.append(f"{why}: the arrays (.npz) are missing beside the figures of {runs}")


@dataclass(frozen=True)
class StoryLosses:
    """Nats and number of tokens in the loss of each story of a split."""

    nll: np.ndarray
    tokens: np.ndarray
