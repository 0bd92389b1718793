"""Run folders as tidy tables."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from omegaconf import OmegaConf

from tti import flops
from tti.data.tokenizers import vocabulary_size
from tti.evaluation_folder import RANDOM_INIT, ROTATION, TRAINED, Evaluation
from tti.runs import Run

AUDIT = "gaming"  # the part that measures metrics, not the run


def tidy(runs: Iterable[Run], evaluated: Mapping[tuple[str, int], Mapping[str, float]]) -> pd.DataFrame:
    """A row a finished run: who it is, every final figure of the training, and every metric of its evaluation.

    Args:
        runs: finished runs.
        evaluated: ``<part>/<metric>`` of each variant and seed.
    """
    runs = list(runs)
    rows = []
    knobs = strengths(runs)
    for run in runs:
        summary = run.summary
        figures = {name: summary[name] for name in ("steps", "tokens", "seconds", "tokens_per_second")}
        metrics = {name: math.nan if value is None else value for name, value in summary["metrics"].items()}
        gap = {"gap": metrics["val/loss"] - metrics["train/ce"]} if {"val/loss", "train/ce"} <= set(metrics) else {}
        evaluation = evaluated.get((run.config.variant, run.config.seed), {})
        strength = knobs[run.config.variant]
        knob = {"method": strength.method, "knob": strength.key.rpartition(".")[2], "strength": strength.value}
        rows.append({**labels(run), **knob, **figures, "flops": operations(run), **gap, **metrics, **evaluation})
    return pd.DataFrame(rows)


def history(runs: Iterable[Run]) -> pd.DataFrame:
    """A row a logged step of every run."""
    return pd.DataFrame([{**labels(run), **entry} for run in runs for entry in run.metrics()])


def labels(run: Run) -> dict[str, Any]:
    """Experiment, variant and seed."""
    config = run.config
    return {"experiment": config.experiment, "variant": config.variant, "seed": config.seed}


@dataclass(frozen=True)
class Strength:
    """The one number in which a variant differs from others of its method: its key and value."""

    method: str
    key: str
    value: float


def strengths(runs: Iterable[Run]) -> dict[str, Strength]:
    """Method and strength of each variant, from the overrides that not all runs share.

    A method is what two variants share when the one number among these overrides is set aside; a variant with none, or
    with several, is a method of its own, of no strength.
    """
    overrides = {
        run.config.variant: dict(str(o).lstrip("+").replace("\\", "").partition("=")[::2]
                                 for o in OmegaConf.load(run.folder / "overrides.yaml"))
        for run in runs
    }  # fmt: skip
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


def operations(run: Run) -> float:
    """Floating-point operations of the training (``flops.per_token``); NaN for another kind of model."""
    model: Any = run.config.get("model") or {}
    if not {"n_layers", "d_model"} <= set(model) or "d_ff" not in (model.get("mlp") or {}):
        return math.nan
    vocabulary = model.get("vocab_size") or vocabulary_size(run.tokenizer)
    return float(flops.per_token(model, vocabulary) * run.summary["tokens"])


@dataclass(frozen=True)
class Evaluated:
    """The evaluations of the runs on one split, as far as they can be read.

    ``metrics``, ``untrained`` and ``rotated``: ``<part>/<metric>`` by variant and seed, of the trained model and of its
    two controls; ``audits`` the metrics of the gaming audit; ``evaluations`` the trained models' folders; ``remarks``
    says what could not be read and why.
    """

    metrics: dict[tuple[str, int], dict[str, float]]
    untrained: dict[tuple[str, int], dict[str, float]]
    rotated: dict[tuple[str, int], dict[str, float]]
    audits: dict[tuple[str, int], dict[str, float]]
    evaluations: dict[tuple[str, int], Evaluation]
    remarks: list[str]


def evaluated(runs: Sequence[Run], split: str) -> Evaluated:
    """Read what there is; a part that is damaged or of another schema version is left out and named."""
    found = Evaluated({}, {}, {}, {}, {}, [])
    subjects = ((TRAINED, found.metrics), (RANDOM_INIT, found.untrained), (ROTATION, found.rotated))
    without = []
    for run in runs:
        key = (run.config.variant, run.config.seed)
        for subject, into in subjects:
            evaluation = Evaluation(run.folder, split, subject)
            parts = _readable(evaluation, found.remarks)
            if subject == TRAINED and parts:
                found.evaluations[key] = evaluation
            if audit := parts.pop(AUDIT, None):
                found.audits[key] = audit
            if parts:
                into[key] = {
                    f"{part}/{name}": value for part, metrics in parts.items() for name, value in metrics.items()
                }
        if key not in found.metrics:
            without.append(key)
    if without and found.metrics:
        found.remarks.append(f"not evaluated on {split}: {named(without)} (`python -m tti.evaluate run=...`)")
    elif without:
        found.remarks.append(
            f"no run was evaluated on {split}, so figures of the training are all there is: "
            "`python -m tti.evaluate run=...` measures the rest"
        )
    return found


def named(runs: Sequence[tuple[str, int]]) -> str:
    """Variants and seeds, briefly: those that lack the same seeds together."""
    seeds: dict[str, list[str]] = {}
    for variant, seed in runs:
        seeds.setdefault(variant, []).append(str(seed))
    groups: dict[str, list[str]] = {}
    for variant, numbers in seeds.items():
        groups.setdefault(", ".join(numbers), []).append(f"`{variant}`")
    return "; ".join(
        f"{', '.join(variants)} seed{'s' * (',' in numbers)} {numbers}" for numbers, variants in groups.items()
    )


def _readable(evaluation: Evaluation, remarks: list[str]) -> dict[str, dict[str, float]]:
    """The metrics of each part."""
    parts: dict[str, dict[str, float]] = {}
    for name in evaluation.parts():
        try:
            parts[name] = evaluation.part(name).metrics
        except (ValueError, LookupError, TypeError) as error:
            remarks.append(f"left out: {shortened(str(error), evaluation)}")
    return parts


def shortened(message: str, evaluation: Evaluation) -> str:
    """Without the folders of this machine."""
    return message.replace(str(evaluation.run.parent.parent) + "/", "")


@dataclass(frozen=True)
class StoryLosses:
    """Nats and scored tokens of each story of a split."""

    nll: np.ndarray
    tokens: np.ndarray


def story_losses(found: Evaluated, remarks: list[str]) -> dict[tuple[str, int], StoryLosses]:
    """By variant and seed, where the evaluation has them; what cannot be read is added to ``remarks``."""
    losses = {}
    for key, evaluation in found.evaluations.items():
        try:
            arrays = evaluation.part("performance").arrays
            losses[key] = StoryLosses(arrays["story/nll"], arrays["story/tokens"].astype(float))
        except (ValueError, LookupError) as error:
            remarks.append(f"no losses of stories: {shortened(str(error), evaluation)}")
    return losses
