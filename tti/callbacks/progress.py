"""Progress of a training run: a live bar in a terminal, occasional lines elsewhere, and a file for observers."""

import json
import time
from pathlib import Path
from typing import Any, cast

from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import ProgressBar
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from tti.durable import write_atomically
from tti.modules.task import Task

SHOWN = {
    "loss": "train/loss",
    "ppl": "train/perplexity",
    "val loss": "val/loss",
    "reg/CE": "train/reg_to_ce_ratio",
    "tok/s": "train/tokens_per_second",
}


class TrainingProgress(ProgressBar):
    """Shows loss, perplexity, reg/CE ratio, tokens per second and the time left.

    Args:
        name: name of the run.
        line_every: seconds between lines if the output is not a terminal (a log file, a job of a sweep), and between
            updates of the file.
        file: a file with the progress (``step``, ``max_steps``, ``seconds_left``, figures), for displays of many runs.
    """

    def __init__(self, name: str, line_every: float, file: str) -> None:
        super().__init__()
        self.file = Path(file)
        self.name = name
        self.line_every = line_every
        self._console = Console(stderr=True)
        self._bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=20),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
            TextColumn("{task.fields[figures]}"),
            console=self._console,
        )
        self._shown_at = 0.0
        self._started_at = 0.0
        self._started_step = 0

    def disable(self) -> None:
        """Called by Lightning on every process but the first."""
        self._bar.disable = True
        self.line_every = float("inf")

    def on_train_start(self, trainer: Trainer, module: LightningModule) -> None:
        """Show the bar."""
        self._started_step, self._started_at = trainer.global_step, time.perf_counter()
        self._task = self._bar.add_task(self.name, total=trainer.max_steps, completed=trainer.global_step, figures="")
        if self._console.is_terminal:
            self._bar.start()

    def on_train_batch_end(self, trainer: Trainer, module: LightningModule, *_: Any) -> None:
        """Advance the bar; the figures are those last logged, so that the step waits for nothing."""
        figures = self._figures(module)
        self._bar.update(self._task, completed=trainer.global_step, figures=figures)
        now = time.perf_counter()
        if figures and now - self._shown_at > self.line_every:
            self._shown_at = now
            left = self._seconds_left(trainer, now)
            self._write(trainer, module, left)
            if not self._console.is_terminal:
                step = f"{trainer.global_step}/{trainer.max_steps}"
                self._console.print(
                    f"{self.name}: step {step}, {left:.0f} s left, {figures}", soft_wrap=True, highlight=False
                )

    def on_train_end(self, trainer: Trainer, module: LightningModule) -> None:
        """Stop the bar, leaving its last state visible."""
        self._bar.stop()

    def on_exception(self, trainer: Trainer, module: LightningModule, exception: BaseException) -> None:
        """Release the terminal."""
        self._bar.stop()

    def _seconds_left(self, trainer: Trainer, now: float) -> float:
        done = max(1, trainer.global_step - self._started_step)
        return (now - self._started_at) / done * (trainer.max_steps - trainer.global_step)

    def _write(self, trainer: Trainer, module: LightningModule, left: float) -> None:
        far = {"step": trainer.global_step, "max_steps": trainer.max_steps, "seconds_left": left}
        latest = cast(Task, module).journal.latest
        figures = {key: latest[key] for key in SHOWN.values() if key in latest}
        write_atomically(self.file, json.dumps(far | figures))

    def _figures(self, module: LightningModule) -> str:
        latest = cast(Task, module).journal.latest
        shown = {label: latest[key] for label, key in SHOWN.items() if key in latest}
        return "  ".join(f"{label} {value:,.4g}" for label, value in shown.items())
