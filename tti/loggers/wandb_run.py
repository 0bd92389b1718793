"""Weights & Biases, one run of theirs for each of ours."""

from typing import Any

import wandb
from lightning.pytorch.loggers import WandbLogger


class WandbRun(WandbLogger):
    """Lightning's logger, which would write into the run that an earlier job of a sweep left open in this process."""

    def __init__(self, **arguments: Any) -> None:
        wandb.finish()
        super().__init__(**arguments)
