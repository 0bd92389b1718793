"""``table=start``: seconds from ``python -m tti.train`` to the first step of a training whose corpus is cached."""

import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from lightning import Callback, LightningModule, Trainer

from tti.benchmarking.clocks import Clock
from tti.benchmarking.progress import shown
from tti.benchmarking.section import Section
from tti.benchmarking.setting import Setting

POLL = 0.02  # seconds
MOMENTS = ("the first step begins", "the first step has ended")


class Start:
    """Starts trainings, and stops each after its first step.

    Args:
        starts: number of trainings.
        patience: seconds to wait for the first step of a training.
    """

    def __init__(self, starts: int, patience: float) -> None:
        self.starts, self.patience = starts, patience

    def __call__(self, setting: Setting, clock: Clock) -> Iterator[Section]:
        """Yield the table."""
        setting.data  # noqa: B018  # builds the cache
        seconds = np.array([self._seconds(setting) for _ in shown(range(self.starts), "Start: trainings")])
        rows = [
            [moment, *(f"{value:.1f}" for value in (np.median(wall), wall.min(), wall.max(), np.median(cpu)))]
            for moment, (wall, cpu) in zip(MOMENTS, seconds.transpose(1, 2, 0), strict=True)
        ]
        header = ["moment", "median s", "least", "most", "CPU s"]
        note = (
            f"{self.starts} fresh interpreters; the corpus and the files that are read are cached. Wall-clock seconds, "
            "and CPU seconds, which do not grow when other processes use the machine."
        )
        yield Section("From the command to the first step", header, rows, (note,))

    def _seconds(self, setting: Setting) -> list[list[float]]:
        with TemporaryDirectory() as folder:
            marks = Path(folder) / "marks"
            marker = f"+callbacks.marker={{_target_: {__name__}.Marker, path: '{marks}'}}"
            own = [f"run_dir='{folder}/run'", f"threads={setting.threads}", marker]
            started = time.time()
            process = subprocess.Popen(
                [sys.executable, "-m", "tti.train", *setting.overrides, *own],
                stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
            )  # fmt: skip
            try:
                moments = self._wait(process, marks)
            finally:
                process.kill()
                process.wait()
        return [[wall - started, cpu] for wall, cpu in moments]

    def _wait(self, process: "subprocess.Popen[str]", marks: Path) -> list[list[float]]:
        deadline = time.monotonic() + self.patience
        while True:
            moments = marks.read_text().split("\n")[:-1] if marks.exists() else []
            if len(moments) == len(MOMENTS):
                return [[float(seconds) for seconds in moment.split()] for moment in moments]
            if process.poll() is not None:
                assert process.stdout is not None
                raise ValueError(f"the training ended before its first step:\n{process.stdout.read().strip()}")
            if time.monotonic() > deadline:
                raise ValueError(f"no step within patience={self.patience} seconds")
            time.sleep(POLL)


class Marker(Callback):
    """Appends Unix time and CPU seconds to ``path`` when the first step begins and when it has ended."""

    def __init__(self, path: str) -> None:
        self.path = Path(path)

    def on_train_batch_start(self, trainer: Trainer, module: LightningModule, *args: Any) -> None:
        self._mark(trainer.global_step == 0)

    def on_train_batch_end(self, trainer: Trainer, module: LightningModule, *args: Any) -> None:
        self._mark(trainer.global_step == 1)

    def _mark(self, wanted: bool) -> None:
        if wanted:
            with self.path.open("a") as file:
                file.write(f"{time.time()} {time.process_time()}\n")
