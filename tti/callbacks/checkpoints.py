"""When and how checkpoints are written: a run killed at any moment goes on from one as if nothing had happened."""

import os
import time
from pathlib import Path
from typing import Any

import torch
from lightning import LightningModule, Trainer
from lightning.fabric.plugins import TorchCheckpointIO
from lightning.pytorch.callbacks import ModelCheckpoint


class LastCheckpoint(ModelCheckpoint):
    """Saves every ``every_n_train_steps``; where a validation follows the step, after it.

    Resumed from a checkpoint of a step that a validation follows, Lightning takes the validation for done.

    Args:
        max_hours: stop this start after so long, with a checkpoint; none for no limit. Lightning's own timer is saved
            and restored, so that a run it has stopped would stop again at once.
        arguments: of Lightning's ``ModelCheckpoint``.
    """

    def __init__(self, max_hours: float | None, **arguments: Any) -> None:
        super().__init__(**arguments)
        self.max_hours = max_hours
        self._began = time.monotonic()

    def on_train_batch_end(self, trainer: Trainer, module: LightningModule, *args: Any) -> None:
        """Save, if it is time and no validation follows."""
        loop = trainer.fit_loop
        if not loop.epoch_loop._should_check_val_fx(loop._data_fetcher):  # type: ignore[arg-type]
            super().on_train_batch_end(trainer, module, *args)
            self._stop_if_due(trainer)

    def on_validation_end(self, trainer: Trainer, module: LightningModule) -> None:
        """Save, if it is time."""
        super().on_train_batch_end(trainer, module, None, None, trainer.fit_loop.batch_idx)
        self._stop_if_due(trainer)

    def _stop_if_due(self, trainer: Trainer) -> None:
        if self.max_hours is None or trainer.global_step == trainer.max_steps:
            return
        late = time.monotonic() - self._began > 3600 * self.max_hours
        if trainer.strategy.reduce_boolean_decision(late, all=False):  # processes' clocks differ
            assert self.dirpath is not None
            trainer.save_checkpoint(Path(self.dirpath) / f"{self.filename}{self.FILE_EXTENSION}")
            raise TimeoutError(
                f"stopped at step {trainer.global_step} of {trainer.max_steps} after callbacks.last.max_hours="
                f"{self.max_hours}; the same command again goes on from there"
            )


class DurableCheckpoints(TorchCheckpointIO):
    """Writes beside the file, flushes to the disk, and renames into place.

    Lightning's own writes into the system's temporary folder and moves; where that is another file system, a move is
    a copy over the earlier checkpoint, and a kill in the middle of it loses both.
    """

    def save_checkpoint(self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any = None) -> None:
        """Save ``checkpoint`` whole or not at all."""
        target = Path(path)
        target.parent.mkdir(parents=True, exist_ok=True)
        partial = target.with_name(f".{target.name}.partial")
        try:
            with partial.open("wb") as file:
                torch.save(checkpoint, file)
                file.flush()
                os.fsync(file.fileno())
            partial.replace(target)
        except BaseException:
            partial.unlink(missing_ok=True)  # room for what is still to be written, such as the reason
            raise
