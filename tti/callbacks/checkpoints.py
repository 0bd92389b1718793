"""When and how checkpoints are written: a run killed at any moment goes on from one as if nothing had happened."""

import os
from pathlib import Path
from typing import Any

import torch
from lightning import LightningModule, Trainer
from lightning.fabric.plugins import TorchCheckpointIO
from lightning.pytorch.callbacks import ModelCheckpoint


class LastCheckpoint(ModelCheckpoint):
    """Saves every ``every_n_train_steps``; where a validation follows the step, after it.

    Resumed from a checkpoint of a step that a validation follows, Lightning takes the validation for done.
    """

    def on_train_batch_end(self, trainer: Trainer, module: LightningModule, *args: Any) -> None:
        """Save, if it is time and no validation follows."""
        loop = trainer.fit_loop
        if not loop.epoch_loop._should_check_val_fx(loop._data_fetcher):  # type: ignore[arg-type]
            super().on_train_batch_end(trainer, module, *args)

    def on_validation_end(self, trainer: Trainer, module: LightningModule) -> None:
        """Save, if it is time."""
        super().on_train_batch_end(trainer, module, None, None, trainer.fit_loop.batch_idx)


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
