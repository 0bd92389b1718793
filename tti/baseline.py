"""What a run is compared with while it trains: the validation losses of a finished baseline, or a number."""

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
    """The validation loss in nats of a baseline after a number of steps.

    Args:
        config: of the present run, of which the baseline must share ``SHARED``.
        of: the folder of a finished run; or a number, which then holds at every step.

    Raises:
        ValueError: there is no baseline, it has not finished, or it differs (the message names the keys), be it in the
            content of its data; or the run has too few validations to steer by.
    """
    if of is None:
        raise ValueError(
            "a budget needs a baseline to be counted from: weighting.baseline.of=FOLDER of a finished run with the "
            "same data, model and seed, or a number of nats"
        )
    _require_validations(config.trainer)
    if not isinstance(of, str):
        return lambda step: of
    run = Run(Path(of))
    _require_finished(run)
    _require_alike(run, config)
    if run.digests and not is_for_elsewhere():  # where the data are
        _require_same_data(run, instantiate(config.data.corpus))
    losses = {int(entry["step"]): entry["val/loss"] for entry in run.metrics() if "val/loss" in entry}
    return losses.__getitem__


def _require_validations(trainer: DictConfig) -> None:
    count = trainer.max_steps * trainer.accumulate_grad_batches // trainer.val_check_interval
    if count < FEWEST_VALIDATIONS:
        raise ValueError(
            f"a budget is steered by validations, and this run has {count}; give it {FEWEST_VALIDATIONS} or more, "
            "better 20 to 50, by a smaller trainer.val_check_interval (in the baseline too)"
        )


def _require_finished(run: Run) -> None:
    run.config  # noqa: B018  (says what runs there are, if this is none)
    run.summary  # noqa: B018  (says how far the run is, if it has not finished)


def _require_same_data(run: Run, corpus: Corpus) -> None:
    whose, otherwise = f"the baseline {run.folder}", "train the baseline again (overwrite=true)"
    require_same_tokens(run.digests, run.digests_now(corpus), whose, otherwise)


def _require_alike(run: Run, config: DictConfig) -> None:
    there, here = (OmegaConf.create({key: each[key] for key in SHARED}) for each in (run.config, config))
    differences = Recorded(there, run.recorded.overrides).differences(here)
    differences.pop("model.vocab_size", None)  # the tokenizer's, and by now filled in here
    if differences:
        shown = "; ".join(f"{key} ({there} there, {here} here)" for key, (there, here) in differences.items())
        raise ValueError(f"{run.folder} is no baseline of this run, for they differ in: {shown}")
