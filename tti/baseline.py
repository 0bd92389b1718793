"""What a run is compared with while it trains: the cross-entropy of a finished baseline, or a number."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from omegaconf import OmegaConf

from tti.configuration import identity
from tti.runs import Run

Curve = Callable[[int, int], float]


def training_curve(of: str | float | None, like: Mapping[str, Any]) -> Curve:
    """The mean training cross-entropy in nats of a baseline between two logged steps.

    Args:
        of: the folder of a finished run; or a number, which then holds at every step.
        like: parts of the present run's configuration, which the baseline must share.

    Raises:
        ValueError: there is no baseline, it has not finished, or it differs; the message names the keys.
    """
    if of is None:
        raise ValueError(
            "a budget needs a baseline to be counted from: weighting.baseline.of=FOLDER of a finished run with the "
            "same data, model and seed, or a number of nats"
        )
    if not isinstance(of, str):
        return lambda first, last: of
    run = Run(Path(of))
    _require_finished(run)
    _require_alike(run, like)
    steps, tokens, nats = _logged(run)

    def between(first: int, last: int) -> float:
        rows = (steps > first) & (steps <= last)
        return float(np.average(nats[rows], weights=tokens[rows]))

    return between


def _require_finished(run: Run) -> None:
    run.config  # noqa: B018  (says what runs there are, if this is none)
    run.summary  # noqa: B018  (says how far the run is, if it has not finished)


def _require_alike(run: Run, like: Mapping[str, Any]) -> None:
    here, there = _training(like), _training({key: run.config[key] for key in like})
    differing = [key for key in sorted(here.keys() | there.keys()) if here.get(key) != there.get(key)]
    if differing:
        shown = "; ".join(f"{key} ({there.get(key)} there, {here.get(key)} here)" for key in differing)
        raise ValueError(f"{run.folder} is no baseline of this run, for they differ in: {shown}")


def _training(config: Mapping[str, Any]) -> dict[str, Any]:
    """What two trainings must share for their logged cross-entropies to be compared window by window."""
    keys = identity(OmegaConf.create(dict(config)))
    keys.pop("model.vocab_size", None)  # the tokenizer's, and by now filled in here
    return keys | {"trainer.log_every_n_steps": config["trainer"]["log_every_n_steps"]}


def _logged(run: Run) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rows = [entry for entry in run.metrics() if "train/ce" in entry]
    steps, seen, nats = (np.array([row[key] for row in rows]) for key in ("step", "train/tokens", "train/ce"))
    return steps, np.diff(seen, prepend=0), nats
