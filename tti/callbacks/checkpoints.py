"""When and how checkpoints are written, so that a run killed at any moment can resume exactly."""

import logging
import signal
import threading
import time
from pathlib import Path
from types import FrameType
from typing import Any

import torch
from lightning import LightningModule, Trainer
from lightning.fabric.plugins import TorchCheckpointIO
from lightning.pytorch.callbacks import ModelCheckpoint

from tti.durable import read_checkpoint, replacing

log = logging.getLogger("tti.train")


class LastCheckpoint(ModelCheckpoint):
    """Saves every ``every_n_train_steps``; if a validation follows the step, after the validation.

    Resuming from a checkpoint of such a step, Lightning skips the validation, so it must be done by then.

    Interrupted by SIGINT (Ctrl-C, Modal's preemption) or SIGTERM (Slurm), a single-process run finishes its step, saves
    and stops; a second SIGINT stops it at once. With several processes, each would stop at a different step; such runs
    resume from the previous checkpoint.

    Args:
        max_hours: stop this start after so many hours, with a checkpoint; None for no limit. (Lightning's own timer is
            saved and restored, so a run that it stopped would stop again immediately.)
        arguments: arguments of Lightning's ``ModelCheckpoint``.
    """

    def __init__(self, max_hours: float | None, **arguments: Any) -> None:
        super().__init__(**arguments)
        self.max_hours = max_hours
        self._began = time.monotonic()
        self._interrupted = False
        self._handler_before: Any = None

    def on_train_start(self, trainer: Trainer, module: LightningModule) -> None:
        """From here on, an interruption waits for the end of the step."""
        super().on_train_start(trainer, module)
        if trainer.world_size == 1 and threading.current_thread() is threading.main_thread():
            self._handler_before = signal.signal(signal.SIGINT, self._interrupt)

    def on_train_end(self, trainer: Trainer, module: LightningModule) -> None:
        """Restore the previous signal handler."""
        super().on_train_end(trainer, module)
        self._restore_handler()

    def on_exception(self, trainer: Trainer, module: LightningModule, exception: BaseException) -> None:
        """Restore the previous signal handler."""
        super().on_exception(trainer, module, exception)
        self._restore_handler()

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Nothing to restore: there is one file, wherever the folder is now."""

    def _interrupt(self, number: int, frame: FrameType | None) -> None:
        self._restore_handler()
        self._interrupted = True
        log.info("stopping with a checkpoint at the end of this step; interrupt again to stop at once")

    def _restore_handler(self) -> None:
        if self._handler_before is not None:
            signal.signal(signal.SIGINT, self._handler_before)
            self._handler_before = None

    def on_train_batch_end(self, trainer: Trainer, module: LightningModule, *args: Any) -> None:
        """Save if due, unless a validation follows."""
        loop = trainer.fit_loop
        if not loop.epoch_loop._should_check_val_fx(loop._data_fetcher):  # type: ignore[arg-type]
            super().on_train_batch_end(trainer, module, *args)
            self._stop_if_due(trainer)

    def on_validation_end(self, trainer: Trainer, module: LightningModule) -> None:
        """Save if due."""
        super().on_train_batch_end(trainer, module, None, None, trainer.fit_loop.batch_idx)
        self._stop_if_due(trainer)

    def _stop_if_due(self, trainer: Trainer) -> None:
        if trainer.world_size == 1 and (self._interrupted or trainer.received_sigterm):
            self._save(trainer)
            raise KeyboardInterrupt
        if self.max_hours is None or trainer.global_step == trainer.max_steps:
            return
        late = time.monotonic() - self._began > 3600 * self.max_hours
        if trainer.strategy.reduce_boolean_decision(late, all=False):  # processes' clocks differ
            self._save(trainer)
            raise TimeoutError(
                f"stopped at step {trainer.global_step} of {trainer.max_steps} after callbacks.last.max_hours="
                f"{self.max_hours}; repeat the command to resume from there"
            )

    def _save(self, trainer: Trainer) -> None:
        assert self.dirpath is not None
        trainer.save_checkpoint(Path(self.dirpath) / f"{self.filename}{self.FILE_EXTENSION}")


class BestCheckpoint(ModelCheckpoint):
    """Keeps the checkpoint of the best validation so far.

    A resumed run reads the score to beat from the file itself. Lightning reads it from the resumed checkpoint, and
    loses it if the folder has been moved.
    """

    @property
    def state_key(self) -> str:
        """The key of Lightning's class, under which earlier checkpoints hold the score."""
        return super().state_key.replace(type(self).__qualname__, ModelCheckpoint.__qualname__, 1)

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore the score to beat.

        Raises:
            ValueError: the file is damaged.
        """
        assert self.dirpath is not None
        path = Path(self.dirpath) / f"{self.filename}{self.FILE_EXTENSION}"
        if path.exists():
            saved = read_checkpoint(path)["callbacks"][self.state_key]
            here = {name: str(path) for name in ("best_model_path", "kth_best_model_path")}
            models = {str(path): saved["best_model_score"]}
            super().load_state_dict({**saved, **here, "dirpath": self.dirpath, "best_k_models": models})


class DurableCheckpoints(TorchCheckpointIO):
    """Writes checkpoints to a temporary file next to the target, flushes it to disk, and renames it into place.

    Lightning writes to the system's temporary folder and moves the file; across file systems a move is a copy over the
    previous checkpoint, and a kill during the copy loses both.
    """

    def save_checkpoint(self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any = None) -> None:
        """Save ``checkpoint`` atomically."""
        target = Path(path)
        target.parent.mkdir(parents=True, exist_ok=True)
        with replacing(target) as file:
            torch.save(checkpoint, file)
