"""This project's own step: the task that ``conf/`` composes, without Lightning around it."""

from collections.abc import Sequence

from torch import Tensor

from tti.benchmarking.loop import Loop, part
from tti.benchmarking.sample import Sample
from tti.benchmarking.setting import Clockwork, Setting
from tti.modules.assembly import assembled
from tti.modules.task import Task
from tti.step import Batch


class Ours(Loop):
    """Network, regularizers, optimizer, schedule, clipping and running means of a training, without Lightning.

    The step is in the middle of the training, where all coefficients have reached their full values. It does not
    measure
    gradient ratios, which a training does every ``task.grad_ratio_every`` steps.

    Args:
        setting: the training.
        overrides: of the training.
    """

    net: Task

    def __init__(self, setting: Setting, overrides: Sequence[str] = ()) -> None:
        setting = setting.having("task.grad_ratio_every=1_000_000_000", *overrides)
        self.fabric, self.clip = setting.fabric, setting.config.trainer.gradient_clip_val
        self.net = assembled(setting.config).to(self.fabric.device).train()
        steps = setting.config.trainer.max_steps
        self.clockwork = Clockwork(steps, setting.data, global_step=steps // 2 + 1)
        self.net.trainer = self.clockwork  # type: ignore[assignment]
        self.net.setup("fit")
        configured = self.net.configure_optimizers()
        self.optimizer, self.schedule = configured["optimizer"], configured["lr_scheduler"]["scheduler"]
        self._name_parts()

    def _name_parts(self) -> None:
        """Name the parts of a step for the profiler."""
        self.net.backward = part("backward, other")(self.net.backward)  # type: ignore[method-assign]
        self.net.clip = part("clipping")(self.net.clip)  # type: ignore[method-assign]
        self.optimizer.step = part("optimizer")(self.optimizer.step)

    def loss(self, sample: Sample) -> Tensor:
        return self.net.training_step(sample.batch, 0)

    def step(self, sample: Sample) -> None:
        self.train_on(sample.batch)

    def train_on(self, batch: Batch) -> None:
        """Take one optimizer step."""
        self.net.take([batch], self.optimizer, self.schedule, self.clip, self.fabric.autocast)
        self.clockwork.global_step += 1

    def tokens(self, sample: Sample) -> int:
        return len(sample.batch)
