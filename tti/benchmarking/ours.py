"""This project's own step: the LightningModule that ``conf/`` composes, driven as Lightning drives it."""

from collections.abc import Sequence
from typing import cast

from hydra.utils import instantiate
from torch import Tensor

from tti.benchmarking.loop import Loop, part
from tti.benchmarking.sample import Sample
from tti.benchmarking.setting import Clockwork, Setting
from tti.modules.language_model import LanguageModel
from tti.step import Batch


class Ours(Loop):
    """Network, regularizers, optimiser, schedule, clipping and running means of a training, without Lightning.

    It is in the middle of the training, where all coefficients have risen, and never measures gradient ratios, which
    a training does every ``task.grad_ratio_every`` steps.

    Args:
        setting: the training.
        overrides: of it.
    """

    net: LanguageModel

    def __init__(self, setting: Setting, overrides: Sequence[str] = ()) -> None:
        setting = setting.having("task.grad_ratio_every=1_000_000_000", *overrides)
        self.fabric, self.clip = setting.fabric, setting.config.trainer.gradient_clip_val
        self.net = cast(LanguageModel, instantiate(setting.config.task)).to(self.fabric.device).train()
        steps = setting.config.trainer.max_steps
        self.clockwork = Clockwork(steps, setting.data, global_step=steps // 2 + 1)
        self.net.trainer = self.clockwork  # type: ignore[assignment]
        self.net.setup("fit")
        configured = self.net.configure_optimizers()
        self.optimizer, self.schedule = configured["optimizer"], configured["lr_scheduler"]["scheduler"]

    def loss(self, sample: Sample) -> Tensor:
        return self.net.training_step(sample.batch, 0)

    def step(self, sample: Sample) -> None:
        self.train_on(sample.batch)

    def train_on(self, batch: Batch) -> None:
        """One optimiser step."""
        self.net.on_train_batch_start(batch, 0)
        with self.fabric.autocast():
            loss = self.net.training_step(batch, 0)
        with part("backward, other"):
            loss.backward()
        self.net.on_before_optimizer_step(self.optimizer)
        with part("clipping"):
            self.net.configure_gradient_clipping(self.optimizer, self.clip)
        with part("optimizer"):
            self.optimizer.step()
            self.optimizer.zero_grad()
        self.clockwork.global_step += 1
        self.schedule.step()

    def tokens(self, sample: Sample) -> int:
        return len(sample.batch)
