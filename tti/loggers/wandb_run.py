"""Weights & Biases: one W&B run for each of ours."""

import json
import secrets
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import wandb
from lightning.fabric.utilities.rank_zero import rank_zero_only
from lightning.pytorch.loggers import WandbLogger

from tti.durable import write_atomically

LONGEST_TAG = 64  # W&B's limit


def tags(config: Mapping[str, Any]) -> tuple[str, ...]:
    """Tags to filter runs by: the regularizers, the class of the MLP, layers x width."""
    model = config["model"]
    mlp = str(model["mlp"]["_target_"]).rpartition(".")[2]
    names = [*config["regularizer"], mlp, f"{model['n_layers']}x{model['d_model']}"]
    return tuple(name[:LONGEST_TAG] for name in names)


class WandbRun(WandbLogger):
    """Lightning's W&B logger, with a run id that is stored in the run folder.

    A resumed run continues its curves, and a run that is restarted, or started elsewhere, gets its own.

    W&B buffers what is logged, and a killed process loses its buffer. The next start re-logs the lines of
    ``metrics.jsonl`` since the last clean exit; duplicates are identical.

    Lightning's logger would write into a W&B run that an earlier job of a sweep left open in this process, so any open
    run is finished first.
    """

    def __init__(self, save_dir: str, **arguments: Any) -> None:
        wandb.finish()
        self._folder = Path(save_dir)
        self._unsure = self._folder / "wandb_unsure"  # number of lines of metrics.jsonl that W&B certainly has
        path = self._folder / "wandb_id"
        if not _said(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            write_atomically(path, secrets.token_hex(4))
        super().__init__(save_dir=save_dir, id=_said(path), **arguments)

    @rank_zero_only
    def log_hyperparams(self, params: Any) -> None:
        """Open the W&B run, log the configuration, and re-log lines that an earlier process may have lost.

        Raises:
            ValueError: this machine has no W&B account, or W&B cannot be reached.
        """
        try:
            super().log_hyperparams(params)
        except wandb.Error as error:
            raise ValueError(
                f"W&B refused the run: {error}. Run `wandb login` once, or set WANDB_API_KEY. Without an account or "
                "network, use logger=wandb_offline; `wandb sync` uploads it later"
            ) from error
        self.experiment.tags = tags(params)
        self._repeat()

    @rank_zero_only
    def log_summary(self, summary: Mapping[str, Any]) -> None:
        """Set the W&B summary (otherwise the last line of the log) to the run's summary, and close."""
        metrics = summary["metrics"]
        self.experiment.summary.update({**metrics, **{key: summary[key] for key in summary.keys() - {"metrics"}}})
        self._close(exit_code=0)

    @rank_zero_only
    def finalize(self, status: str) -> None:
        """Close the W&B run of an interrupted or failed process; after a success, test and summary follow."""
        super().finalize(status)
        if status != "success" and self._experiment is not None:
            self._close(exit_code=1)

    def _repeat(self) -> None:
        path = self._folder / "metrics.jsonl"
        lines = path.read_text().splitlines() if path.exists() else []
        if not _said(self._unsure).isdecimal():
            write_atomically(self._unsure, str(len(lines)))
        for line in lines[int(_said(self._unsure)) :]:
            try:
                row = json.loads(line)
            except json.JSONDecodeError:
                continue  # cut short by a kill
            step = row.pop("step")
            self.log_metrics(row, step)

    def _close(self, exit_code: int) -> None:
        wandb.finish(exit_code=exit_code)
        self._unsure.unlink(missing_ok=True)


def _said(path: Path) -> str:
    """Content of a small file; empty if the file is missing, or was left empty by a full disk."""
    return path.read_text().strip() if path.exists() else ""
