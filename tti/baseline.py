"""The baseline of a loss budget: the validation losses of a finished run, or a number."""

from collections.abc import Callable
from pathlib import Path

from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf

from tti.configuration import Recorded, is_for_elsewhere
from tti.data.corpora import Corpus, require_same_tokens
from tti.runs import Run

FEWEST_VALIDATIONS = 10
SHARED = ("seed", "data", "model", "optimizer", "schedule", "trainer")  # parts of a configuration


def validation_curve(config: DictConfig, of: str | float | None) -> Callable[[int], float]:
    """The baseline's validation loss in nats, as a function of the step.

    Args:
        config: the current run's configuration, whose parts in ``SHARED`` the baseline must share.
        of: folder of a finished run; or a number, which then holds at every step.

    Raises:
        ValueError: there is no baseline, it has not finished, or its configuration or data differ (the message names
            the keys); or the run has too few validations to adapt by.
    """
    if of is None:
        raise ValueError(
            "a budget needs a baseline: set weighting.baseline.of=FOLDER to a finished run with the "
            "same data, model and seed, or to a number of nats"
        )
    _require_validations(config.trainer)
    if not isinstance(of, str):
        return lambda step: of
    run = Run(Path(of))
    _require_finished(run)
    _require_alike(run, config)
    if run.digests and not is_for_elsewhere():  # on the machine that has the data
        _require_same_data(run, instantiate(config.data.corpus))
    losses = {int(entry["step"]): entry["val/loss"] for entry in run.metrics() if "val/loss" in entry}
    return losses.__getitem__


def _require_validations(trainer: DictConfig) -> None:
    count = trainer.max_steps * trainer.accumulate_grad_batches // trainer.val_check_interval
    if count < FEWEST_VALIDATIONS:
        raise ValueError(
            f"a budget adapts at validations, and this run has {count}; it needs {FEWEST_VALIDATIONS} or more, "
            "better 20 to 50: lower trainer.val_check_interval (in the baseline too)"
        )


def _require_finished(run: Run) -> None:
    run.config  # noqa: B018  (raises if there is no run, and lists those nearby)
    run.summary  # noqa: B018  (raises if it has not finished, with its status)


def _require_same_data(run: Run, corpus: Corpus) -> None:
    whose, otherwise = f"the baseline {run.folder}", "train the baseline again (overwrite=true)"
    require_same_tokens(run.digests, run.digests_now(corpus), whose, otherwise)


def _require_alike(run: Run, config: DictConfig) -> None:
    there, here = (OmegaConf.create({key: each[key] for key in SHARED}) for each in (run.config, config))
    differences = Recorded(there, run.recorded.overrides).differences(here)
    differences.pop("model.vocab_size", None)  # depends on the tokenizer, and is already filled in here
    if differences:
        shown = "; ".join(f"{key} ({there} there, {here} here)" for key, (there, here) in differences.items())
        raise ValueError(f"{run.folder} cannot be the baseline of this run, because they differ in: {shown}")
