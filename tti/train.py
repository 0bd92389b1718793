"""``python -m tti.train``: compose, instantiate, fit, leave a run folder behind; the result is the validation loss."""

import errno
import logging
import sys
import warnings
from pathlib import Path
from typing import Any, cast

import hydra
import torch
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from hydra.utils import instantiate
from lightning import LightningDataModule, LightningModule, Trainer, seed_everything
from lightning.fabric.utilities.rank_zero import rank_zero_only
from omegaconf import DictConfig, OmegaConf

from tti.configuration import conf_dir
from tti.runs import Run

log = logging.getLogger("tti.train")
# Lightning 2.6 against newer torch: nothing a user could do about it.
warnings.filterwarnings("ignore", message=".*LeafSpec.*")


def train(config: DictConfig) -> float:
    """Train one composed configuration, or go on with it, or do nothing if it has finished.

    Returns:
        The final validation loss in nats.

    Raises:
        ValueError: something in the configuration, the data or the run folder is wrong; nothing was lost.
        TrainingDiverged: a term was not a finite number; the last checkpoint is good.
    """
    run = Run(Path(config.run_dir))
    if rank_zero_only.rank != 0:  # processes that Lightning started beside the first, which holds the folder
        return _fit(config, run)
    with run.claimed():
        run.begin(config, list(HydraConfig.get().overrides.task), config.overwrite)
        if run.status == "finished":
            log.info("%s has finished already; overwrite=true starts it again", run.folder)
            return float(run.summary["metrics"]["val/loss"])
        try:
            return _fit(config, run)
        except BaseException as error:
            run.fail(error)
            raise


def _fit(config: DictConfig, run: Run) -> float:
    torch.set_num_threads(run.config.threads)
    torch.set_float32_matmul_precision("high")
    _check(config)
    data: LightningDataModule = instantiate(config.data)
    data.prepare_data()
    config = _with_vocabulary(config, data)
    seed_everything(config.seed, verbose=False)
    module: LightningModule = instantiate(config.task)
    trainer: Trainer = instantiate(
        config.trainer,
        callbacks=list(instantiate(config.callbacks).values()),
        logger=list(instantiate(config.logger).values()),
        default_root_dir=config.run_dir,
    )
    if trainer.is_global_zero:
        data.tokenizer.save(str(run.folder / "tokenizer.json"))  # type: ignore[attr-defined]
    for logger in trainer.loggers:
        logger.log_hyperparams(cast(dict[str, Any], OmegaConf.to_container(config, resolve=True)))
    # Parameters of regularizers are drawn after the network's: from here all variants draw the same again.
    seed_everything(config.seed, verbose=False)
    checkpoint = run.last_checkpoint
    if checkpoint:
        log.info("going on from %s", checkpoint)
    trainer.fit(module, datamodule=data, ckpt_path=checkpoint, weights_only=True)
    return _finish(run, trainer, module, data)


def _check(config: DictConfig) -> None:
    """Find out what is wrong with the model, the sites or the regularizers before the corpus is touched."""
    config = config.copy()
    config.model.vocab_size = config.model.vocab_size or 1
    with torch.device("meta"):
        instantiate(config.task)


def _with_vocabulary(config: DictConfig, data: Any) -> DictConfig:
    needed = data.tokenizer.get_vocab_size()
    given = config.model.vocab_size or needed
    if given < needed:
        raise ValueError(
            f"model.vocab_size={given}, but the tokenizer has {needed} tokens; leave it null to take the tokenizer's"
        )
    if config.data.max_length > config.model.context:
        raise ValueError(f"data.max_length={config.data.max_length} exceeds model.context={config.model.context}")
    config = config.copy()
    config.model.vocab_size = given
    return config


def _finish(run: Run, trainer: Trainer, module: Any, data: Any) -> float:
    steps = trainer.global_step
    if steps < trainer.max_steps:
        raise RuntimeError(f"stopped after {steps} of {trainer.max_steps} steps; start it again to go on")
    seconds = module.clock.seconds
    if module.validated_step != steps:
        trainer.validate(module, datamodule=data, verbose=False)
    if "test" in data.corpus.splits:  # once, at the end: nothing is chosen on it
        trainer.test(module, datamodule=data, verbose=False)
    if trainer.is_global_zero:
        run.finish(
            {
                "steps": steps,
                "tokens": module.tokens_seen,
                "seconds": seconds,
                "tokens_per_second": module.tokens_seen / max(seconds, 1e-9),
                "metrics": module.latest,
            }
        )
    return float(module.latest["val/loss"])


def _explained(error: BaseException) -> str | None:
    """What to tell a user of an error that is theirs to mend; None for one that is ours."""
    if isinstance(error, OSError) and error.errno == errno.ENOSPC:
        return f"no space left on the device ({error.filename or 'while writing'}). Free some and start again: the run goes on."
    root: BaseException = error
    while root.__cause__ is not None and type(root).__name__ == "InstantiationException":
        root = root.__cause__
    return str(root) if isinstance(root, ValueError | RuntimeError) else None


@hydra.main(version_base="1.3", config_path=conf_dir(), config_name="train")
def main(config: DictConfig) -> float:
    """The command line."""
    try:
        return train(config)
    except Exception as error:
        message = _explained(error)
        if message is None:
            raise
        log.error("error: %s", message)
        if HydraConfig.get().mode == RunMode.RUN:
            sys.exit(1)
        raise


if __name__ == "__main__":
    main()
