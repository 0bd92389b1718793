"""Weights & Biases, one run of theirs for each of ours."""

import json
import secrets
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import wandb
from lightning.fabric.utilities.rank_zero import rank_zero_only
from lightning.pytorch.loggers import WandbLogger

from tti.durable import write_atomically

LONGEST_TAG = 64  # W&B's bound


def tags(config: Mapping[str, Any]) -> tuple[str, ...]:
    """What runs are filtered by: the regularizers, the class of the MLP, layers x width."""
    model = config["model"]
    mlp = str(model["mlp"]["_target_"]).rpartition(".")[2]
    names = [*config["regularizer"], mlp, f"{model['n_layers']}x{model['d_model']}"]
    return tuple(name[:LONGEST_TAG] for name in names)


class WandbRun(WandbLogger):
    """Lightning's logger with an id that lies in the run folder.

    So a resumed run continues its curves, and one that is started again, or elsewhere, has curves of its own.

    W&B keeps what it is told in memory for a while, and a process that is killed takes it along. So the next start
    tells it again what the local ``metrics.jsonl`` has from the killed one; steps that it had after all are there
    twice, with equal values.

    Lightning's own would write into the run that an earlier job of a sweep left open in this process.
    """

    def __init__(self, save_dir: str, **arguments: Any) -> None:
        wandb.finish()
        self._folder = Path(save_dir)
        self._unsure = self._folder / "wandb_unsure"  # holds the lines of metrics.jsonl that W&B has for certain
        path = self._folder / "wandb_id"
        if not _said(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            write_atomically(path, secrets.token_hex(4))
        super().__init__(save_dir=save_dir, id=_said(path), **arguments)

    @rank_zero_only
    def log_hyperparams(self, params: Any) -> None:
        """Open the run, tell it the configuration, and what an earlier process could not.

        Raises:
            ValueError: there is no account on this machine, or W&B cannot be reached.
        """
        try:
            super().log_hyperparams(params)
        except wandb.Error as error:
            raise ValueError(
                f"W&B does not take the run: {error}. `wandb login` once, or set WANDB_API_KEY; without account or "
                "network: logger=wandb_offline, which `wandb sync` uploads later"
            ) from error
        self.experiment.tags = tags(params)
        self._repeat()

    @rank_zero_only
    def log_summary(self, summary: Mapping[str, Any]) -> None:
        """Make a finished run's figures the run's summary, which otherwise holds the last line of the log; and end."""
        metrics = summary["metrics"]
        self.experiment.summary.update({**metrics, **{key: summary[key] for key in summary.keys() - {"metrics"}}})
        self._close(exit_code=0)

    @rank_zero_only
    def finalize(self, status: str) -> None:
        """End an interrupted or failed process's part of the run; after a success, tests and the summary follow."""
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
                continue  # cut short by the kill
            step = row.pop("step")
            self.log_metrics(row, step)

    def _close(self, exit_code: int) -> None:
        wandb.finish(exit_code=exit_code)
        self._unsure.unlink(missing_ok=True)


def _said(path: Path) -> str:
    """The content of a small file; nothing where there is none, or a full disk left it empty."""
    return path.read_text().strip() if path.exists() else ""
