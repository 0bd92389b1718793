"""``python -m tti.train``: compose, instantiate, fit, write a run folder; returns the validation loss."""

import logging
import os
import signal
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from hydra.utils import instantiate
from omegaconf import DictConfig, ListConfig

from tti.command import INTERRUPTED, command, end_with_parent, explained, handling, is_interruption
from tti.configuration import identity_digest, is_for_elsewhere, plain
from tti.data.corpora import OTHERWISE, require_same_tokens
from tti.data.tokenizers import vocabulary_size
from tti.durable import read_checkpoint
from tti.loggers.protocols import Summarizing
from tti.runs import Run, require_same
from tti.trainer_options import require_taken

if TYPE_CHECKING:
    from lightning import Trainer

    from tti.data.module import StoryData
    from tti.modules.task import Task

# torch and Lightning are imported on use: `--help` and a finished run need not wait seconds for them.
log = logging.getLogger("tti.train")
# Environment variable that gives the run folder to further processes that Lightning starts.
JOINED = "TTI_JOINED_RUN"


def train(config: DictConfig) -> float:
    """Train one composed configuration, resume it, or do nothing if it has finished.

    Returns:
        The final validation loss in nats.

    Raises:
        ValueError: the configuration, the data or the run folder is wrong; nothing was lost.
        TrainingDivergedError: a term was not finite; the last checkpoint is good.
    """
    _check_variant(config)
    _check_beginning(config)
    run = Run(Path(config.run_dir))
    if run.status == "finished" and not config.overwrite:  # works in a read-only folder, too
        require_same(str(run.folder), run.recorded, run.recorded.continued(config))
        _require_same_data(run, config)
        log.info("%s has finished already; overwrite=true starts it again", run.folder)
        return float(run.summary["metrics"]["val/loss"])
    end_with_parent()
    config.threads = config.threads or _threads()  # a resumed run keeps its threads, which affect the last digits
    with run.claimed():
        config = run.begin(config, list(HydraConfig.get().overrides.task), config.overwrite, _sweep())
        try:
            # SIGTERM is Lightning's here: the step is finished and saved first.
            with _processes_of_its_own(run), handling(signal.SIGTERM, signal.SIG_DFL):
                return _fit(config, run)
        except Exception as error:
            if not is_interruption(error):
                run.fail(error)
            raise


def _sweep() -> Path | None:
    """The folder of the sweep that this job belongs to."""
    job = HydraConfig.get()
    return Path(job.sweep.dir) if job.mode == RunMode.MULTIRUN else None


def _require_same_data(run: Run, config: DictConfig) -> None:
    """Check that a finished run was trained on the data that now have these names."""
    try:
        now = run.digests_now(instantiate(config.data.corpus))
    except (ValueError, OSError) as error:  # a finished run may be requested where its data are not available
        log.warning("its data are not compared: %s", error)
        return
    require_same_tokens(
        run.digests, now, str(run.folder), f"{OTHERWISE}, or overwrite=true to start again in its place"
    )


def _threads() -> int:
    """Torch's default number of CPU threads."""
    import torch

    return torch.get_num_threads()


@contextmanager
def _processes_of_its_own(run: Run) -> Iterator[None]:
    """Pass the run folder to further processes through the environment, and restore it for a sweep's next job."""
    import torch

    before = dict(os.environ)
    os.environ[JOINED] = str(run.folder.absolute())
    try:
        yield
    finally:
        if torch.distributed.is_initialized():
            torch.distributed.destroy_process_group()
        os.environ.clear()
        os.environ.update(before)


def join(run: Run) -> None:
    """Train in a run that the process of rank 0 has begun, as one of Lightning's further processes.

    These processes read the run's own configuration and bypass Hydra, whose multirun they would start again.
    """
    _fit(run.start_config, run)


def _fit(config: DictConfig, run: Run) -> float:
    import torch
    from lightning import seed_everything

    from tti.modules.assembly import assembled

    # Lightning 2.6 with a newer torch: the user can do nothing about it.
    warnings.filterwarnings("ignore", message=".*LeafSpec.*")
    torch.set_num_threads(run.config.threads)
    check(config)
    data: StoryData = instantiate(config.data)
    data.prepare_data()
    config = _with_vocabulary(config, data)
    seed_everything(config.seed, verbose=False)
    task = assembled(config)
    data.require_groups(task.net.groups)
    task.identity = identity_digest(run.config)
    checkpoint = run.last_checkpoint
    if checkpoint:
        data.require_same_tokens(read_checkpoint(checkpoint).get(type(data).__qualname__, {}))
    if config.init_from and not checkpoint:
        Run(Path(config.init_from)).give_weights(task.net, data.tokenizer)
    trainer: Trainer = instantiate(
        config.trainer,
        callbacks=list(instantiate(config.callbacks).values()),
        logger=list(instantiate(config.logger).values()),
        default_root_dir=config.run_dir,
    )
    if trainer.is_global_zero and not checkpoint:  # otherwise it exists, and must not be replaced
        data.tokenizer.save(str(run.folder / "tokenizer.json"))
    told = {**plain(config), "environment": run.environment}
    for logger in trainer.loggers:
        logger.log_hyperparams(told)
    # Parameters of regularizers are drawn after the network's: from here on, all variants draw the same numbers.
    seed_everything(config.seed, verbose=False)
    if checkpoint:
        log.info("resuming from %s", checkpoint)
    try:
        trainer.fit(task, datamodule=data, ckpt_path=checkpoint, weights_only=True)
    except SystemExit as error:  # Lightning's form of an interruption
        raise KeyboardInterrupt(f"interrupted after {trainer.global_step} steps") from error
    return _finish(run, trainer, task, data)


def _check_variant(config: DictConfig) -> None:
    """Reject a variant of a sweep that would only name the folder of a single run."""
    job = HydraConfig.get()
    given = set(job.overrides.task)
    if job.mode != RunMode.RUN or f"variant={config.variant}" not in given:
        return
    variants = job.sweeper.get("variants", {})
    if missing := [override for override in variants.get(config.variant, ()) if override not in given]:
        raise ValueError(
            f"variant={config.variant} only names a folder outside a sweep: leave out hydra.mode=RUN, or add the "
            f"variant's overrides: {' '.join(missing)}"
        )


def _check_beginning(config: DictConfig) -> None:
    """Reject an ``init_from`` that is not a run, or is the run itself."""
    if config.init_from:
        _ = Run(Path(config.init_from)).config  # raises if there is none
        if Path(config.init_from).resolve() == Path(config.run_dir).resolve():
            raise ValueError(f"init_from={config.init_from} is the folder of this run itself: give this one a name=...")


def check(config: DictConfig) -> None:
    """Check options, model, sites and regularizers before the corpus is touched.

    Raises:
        ValueError: something is wrong.
    """
    import torch

    from tti.modules.assembly import assembled

    require_taken(plain(config.trainer))
    if config.data.max_length > config.model.context:
        raise ValueError(f"data.max_length={config.data.max_length} exceeds model.context={config.model.context}")
    _check_processes(config)
    with torch.device("meta"):
        task = assembled(_with_vocab_size(config, config.model.vocab_size or 1))
    _check_labels(config, task)


def _check_labels(config: DictConfig, task: "Task") -> None:
    """Check that the data have what the model and its regularizers must know of the stories."""
    if task.net.groups and not config.data.get("group"):
        raise ValueError(
            "this model routes stories by their group, and data.group is not set: name an integer array of the corpus, "
            "such as data.group=task (set in data=grammar_tasks and data=multitask)"
        )
    given = list(config.data.get("labels") or ())
    for name, regularizer in task.objective.terms.items():
        if missing := [label for label in regularizer.labels if label not in given]:
            raise ValueError(
                f"regularizer={name} needs the label {', '.join(missing)} of each token, and data.labels={given} has "
                "none: name integer arrays of the corpus (data=grammar_tasks and data=multitask have task, "
                "data=grammar has factors, data=sentences has each of its factors)"
            )


def _check_processes(config: DictConfig) -> None:
    """Check, before processes are started, that they are not too many and can share a step."""
    import torch

    from tti.data.module import require_divisible

    devices, on_gpus = config.trainer.devices, config.trainer.accelerator == "gpu"
    there = torch.cuda.device_count() if on_gpus else os.cpu_count() or 1
    automatic = there if on_gpus else 1
    wanted = automatic if devices == "auto" else len(devices) if isinstance(devices, ListConfig) else devices
    if wanted > there and not is_for_elsewhere():
        raise ValueError(f"trainer.devices={devices}, but this machine has {there} {'GPUs' if on_gpus else 'cores'}")
    require_divisible(config.data.stories_per_step, wanted, config.trainer.accumulate_grad_batches)


def _with_vocabulary(config: DictConfig, data: "StoryData") -> DictConfig:
    needed = vocabulary_size(data.tokenizer)
    given = config.model.vocab_size or needed
    if given < needed:
        raise ValueError(
            f"model.vocab_size={given}, but the tokenizer has ids up to {needed - 1}; null uses the size that it needs"
        )
    return _with_vocab_size(config, given)


def _with_vocab_size(config: DictConfig, size: int) -> DictConfig:
    config = config.copy()
    config.model.vocab_size = size
    return config


def _finish(run: Run, trainer: "Trainer", task: "Task", data: "StoryData") -> float:
    steps, journal = trainer.global_step, task.journal
    seconds = journal.clock.seconds
    if run.checkpoint_step != steps:  # the number of steps is not a multiple of the checkpoint interval
        trainer.save_checkpoint(run.folder / "checkpoints" / "last.ckpt")
    if task.validated_step != steps:
        trainer.validate(task, datamodule=data, verbose=False)
    if "test" in data.corpus.splits:  # once, at the end: nothing is chosen on it
        trainer.test(task, datamodule=data, verbose=False)
    summary = {
        "steps": steps,
        "tokens": journal.tokens_seen,
        "data": data.digests,
        "caches": data.caches,
        "operations_per_token": task.net.operations_per_token,
        "unigram_entropy": data.unigram_entropy("validation"),
        "ngrams": _ngrams(data, steps) if trainer.is_global_zero else {},
        "seconds": seconds,
        "tokens_per_second": journal.tokens_seen / max(seconds, 1e-9),
        "metrics": journal.latest,
    }
    for logger in trainer.loggers:
        if isinstance(logger, Summarizing):
            logger.log_summary(summary)
    if trainer.is_global_zero:
        run.finish(summary)
        log.info("%s: finished with val loss %.4f", run.folder, journal.latest["val/loss"])
        log.info("evaluate it: python -m tti.evaluate run=%s", run.folder)
    return float(journal.latest["val/loss"])


def _ngrams(data: "StoryData", steps: int) -> dict[str, dict[str, list[float]]]:
    """Losses of n-gram models estimated from the same tokens, for each split except training."""
    log.info("counting n-grams of the training tokens")
    return {split: data.ngram_losses(split, steps) for split in data.corpus.splits if split != "train"}


def job(config: DictConfig) -> float:
    """Train one configuration as a command: user errors and interruptions give one line each."""
    try:
        return train(config)
    except (KeyboardInterrupt, Exception) as error:
        if is_interruption(error):
            how_far = str(error) if isinstance(error, KeyboardInterrupt) else ""
            log.error("%s; repeat the command to resume from the last checkpoint", how_far or "interrupted")
            sys.exit(INTERRUPTED)
        message = explained(error)
        if message is None:
            raise
        log.error("error: %s", message)
        if HydraConfig.get().mode == RunMode.RUN:
            sys.exit(1)
        raise


main = command("train")(job)


def command_line() -> None:
    """``python -m tti.train``, or one of the processes that Lightning starts."""
    if JOINED in os.environ and os.environ.get("LOCAL_RANK", "0") != "0":
        join(Run(Path(os.environ[JOINED])))
    else:
        main()


if __name__ == "__main__":
    command_line()
