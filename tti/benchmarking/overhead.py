"""``table=overhead``: milliseconds per step that Lightning, callbacks, loggers and our own bookkeeping add."""

import json
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from hydra.utils import instantiate
from lightning import Callback, LightningModule, Trainer

from tti.benchmarking.clocks import Clock
from tti.benchmarking.ours import Ours
from tti.benchmarking.pairing import CONFIDENCE, estimate, take_turns
from tti.benchmarking.section import Section
from tti.benchmarking.setting import Setting
from tti.modules.assembly import assembled


class Overhead:
    """Blocks of steps that take turns: bare, with the module's bookkeeping, and under Lightning.

    Args:
        overrides: of a separate training, so small that milliseconds show. The command line's overrides do not apply.
        steps: timed steps of a block.
        settle: steps of a block before the timed ones.
        rounds: number of rounds in which the blocks take turns.
    """

    def __init__(self, overrides: Iterable[str], steps: int, settle: int, rounds: int) -> None:
        self.overrides, self.steps, self.settle, self.rounds = tuple(overrides), steps, settle, rounds

    def __call__(self, setting: Setting, clock: Clock) -> Iterator[Section]:
        """Yield the table."""
        with TemporaryDirectory() as folder:
            setting = replace(setting, overrides=self.overrides).having(
                f"trainer.max_steps={self.settle + self.steps}", f"run_dir='{folder}'"
            )
            setting.seed()
            blocks: dict[str, Callable[[Setting, Clock, int], float]] = {
                "bare loop": partial(_by_hand, loop=_Bare),
                "the module's step": partial(_by_hand, loop=Ours),
                "Lightning, callbacks, loggers": _under_lightning,
            }
            turns = {name: partial(self._block, block, setting, clock) for name, block in blocks.items()}
            milliseconds = take_turns(turns, self.rounds, "Overhead: rounds")
            logged = _logged(Path(folder))
        bare = milliseconds["bare loop"]
        rows = [
            [name, f"{np.median(each):.2f}", estimate(each - bare).spelled(2, sign="+")]
            for name, each in milliseconds.items()
        ]
        notes = (
            f"{self.rounds} rounds of {self.steps} steps of each loop over the same batches, loading included. "
            f"Differences are taken within a round; shown are their median and its {CONFIDENCE:.0%} bootstrap "
            "interval.",
            f"Under Lightning, {logged} metrics are logged every {setting.config.trainer.log_every_n_steps} steps; "
            "there is no validation and no checkpoint.",
            "The bare loop is the module's step without its bookkeeping.",
        )
        yield Section("Overhead of a step", ["loop", "ms per step", "more than the bare loop, ms"], rows, notes)

    def _block(self, block: Callable[[Setting, Clock, int], float], setting: Setting, clock: Clock, turn: int) -> float:
        return 1e3 * block(setting, clock, self.settle) / self.steps


class _Bare(Ours):
    """The module's step without its bookkeeping."""

    def __init__(self, setting: Setting) -> None:
        super().__init__(setting)
        self.net.means.update = _nothing  # type: ignore[assignment, method-assign]


def _nothing(*noted: object) -> None:
    pass


def _by_hand(setting: Setting, clock: Clock, settle: int, loop: Callable[[Setting], Ours]) -> float:
    ours, began = loop(setting), 0.0
    for number, batch in enumerate(setting.loader()):
        if number == settle:
            began = clock()
        ours.train_on(batch.to(ours.fabric.device))
    return clock() - began


def _under_lightning(setting: Setting, clock: Clock, settle: int) -> float:
    config, stopwatch = setting.config, _Stopwatch(clock, settle)
    trainer: Trainer = instantiate(
        config.trainer,
        limit_val_batches=0,
        callbacks=[*instantiate(config.callbacks).values(), stopwatch],
        logger=list(instantiate(config.logger).values()),
        default_root_dir=config.run_dir,
    )
    trainer.fit(assembled(config), datamodule=setting.data)
    return stopwatch.seconds


class _Stopwatch(Callback):
    """Measures the seconds from the start of step ``settle`` to the end of the training."""

    def __init__(self, clock: Clock, settle: int) -> None:
        self.clock, self.settle, self.seconds = clock, settle, 0.0

    def on_train_batch_start(self, trainer: Trainer, module: LightningModule, batch: Any, batch_idx: int) -> None:
        if batch_idx == self.settle:
            self.began = self.clock()

    def on_train_end(self, trainer: Trainer, module: LightningModule) -> None:
        self.seconds = self.clock() - self.began


def _logged(folder: Path) -> int:
    """The number of metrics in the last line of the run's log, not counting the step."""
    last = (folder / "metrics.jsonl").read_text().splitlines()[-1]
    return len(json.loads(last)) - 1
