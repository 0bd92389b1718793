"""Regularizers and a callback as a user would bring them: from a file of their own on PYTHONPATH."""

import os
from pathlib import Path

import torch
from lightning import Callback, LightningModule, Trainer
from torch import Tensor, nn

from tti.regularizers.base import Regularizer
from tti.step import Step


class Linear(Regularizer):
    """With parameters: how badly one site is predicted from itself by a linear map that learns along."""

    def __init__(self, sites: str, weight: float, warmup: float, width: int) -> None:
        super().__init__(sites, weight, warmup)
        self.map = nn.Linear(width, width)

    def forward(self, step: Step) -> Tensor:
        acts = step.activations[self.sites[0]]
        return (self.map(acts) - acts).square().mean()


class Noisy(Regularizer):
    """With a generator of its own, whose state it puts into the checkpoint."""

    def __init__(self, sites: str, weight: float, warmup: float) -> None:
        super().__init__(sites, weight, warmup)
        self.generator = torch.Generator().manual_seed(0)

    def forward(self, step: Step) -> Tensor:
        return step.activations[self.sites[0]].square().mean() * torch.rand((), generator=self.generator)

    def get_extra_state(self) -> Tensor:
        return self.generator.get_state()

    def set_extra_state(self, state: Tensor) -> None:
        self.generator.set_state(state)


class Breaking(Regularizer):
    """Not a number from its `after`-th call on."""

    def __init__(self, sites: str, weight: float, warmup: float, after: int) -> None:
        super().__init__(sites, weight, warmup)
        self.after, self.calls = after, 0

    def forward(self, step: Step) -> Tensor:
        self.calls += 1
        return step.activations[self.sites[0]].mean() * (float("nan") if self.calls > self.after else 1.0)


class Signalled(Callback):
    """The process gets a signal in the middle of a step; once, for which a file stands, whatever is started again."""

    def __init__(self, number: int, step: int) -> None:
        self.once, self.number, self.step = Path(f"signalled-{number}"), number, step

    def on_before_backward(self, trainer: Trainer, module: LightningModule, loss: Tensor) -> None:
        if trainer.global_step == self.step and not self.once.exists():
            self.once.touch()
            os.kill(os.getpid(), self.number)
