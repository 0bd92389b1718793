"""Weights & Biases, one run of theirs for each of ours."""

import secrets
from pathlib import Path
from typing import Any

import wandb
from lightning.pytorch.loggers import WandbLogger


class WandbRun(WandbLogger):
    """Lightning's logger with an id that lies in the run folder.

    So a resumed run continues its curves, and one that is started again, or elsewhere, has curves of its own.

    Lightning's own would write into the run that an earlier job of a sweep left open in this process.
    """

    def __init__(self, save_dir: str, **arguments: Any) -> None:
        wandb.finish()
        path = Path(save_dir) / "wandb_id"
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(secrets.token_hex(4))
        super().__init__(save_dir=save_dir, id=path.read_text(), **arguments)
