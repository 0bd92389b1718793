"""The interface of all compared loops, and the plain training step that the references share."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from hydra.utils import instantiate
from lightning.fabric import Fabric
from torch import Tensor, nn
from torch.autograd.profiler import record_function
from torch.nn.utils import clip_grad_norm_

from tti.benchmarking.clocks import Clock
from tti.benchmarking.sample import Sample
from tti.benchmarking.setting import Setting

TURN = "one untimed step followed by the same step timed"


class Loop(ABC):
    """A way to train: each optimizer step takes one sample."""

    net: nn.Module
    fabric: Fabric

    @property
    def dtype(self) -> torch.dtype:
        """The dtype of the step's matrix products."""
        factor = torch.ones(1, 1, device=self.fabric.device)
        with self.fabric.autocast():
            return (factor @ factor).dtype

    @abstractmethod
    def loss(self, sample: Sample) -> Tensor:
        """The scalar that is differentiated: the mean cross-entropy in nats, plus any penalties."""

    @abstractmethod
    def step(self, sample: Sample) -> None:
        """Take one optimizer step."""

    @abstractmethod
    def tokens(self, sample: Sample) -> int:
        """The number of tokens of a step that enter the loss; speeds are per such token."""


def warm_up(loop: Loop, samples: Sequence[Sample]) -> None:
    """Take a step on each sample, which creates the optimizer's state and compiles code for all shapes."""
    for sample in samples:
        loop.step(sample)


def seconds_a_token(loop: Loop, samples: Sequence[Sample], clock: Clock, turn: int) -> float:
    """Seconds per token of one step, on the sample whose turn it is."""
    sample = samples[turn % len(samples)]
    return second_of_two(partial(loop.step, sample), clock) / loop.tokens(sample)


def second_of_two(work: Callable[[], object], clock: Clock) -> float:
    """Run some work twice, and return the seconds of the second run.

    In a training a step follows another of its kind. The first step after another loop's step finds that loop's data in
    the caches, and may have to fetch memory that the host of a virtual machine has meanwhile taken back.
    """
    work()
    start = clock()
    work()
    return clock() - start


class Reference(Loop):
    """A plain loop: forward pass, backward pass, clipping, AdamW, at the training's precision, learning rate and sizes.

    Args:
        setting: the training.
        net: the network to train.
        optimizer: settings of the optimizer that differ from the training's.
    """

    def __init__(self, setting: Setting, net: nn.Module, **optimizer: Any) -> None:
        self.fabric, self.clip = setting.fabric, setting.config.trainer.gradient_clip_val
        self.net = net.to(self.fabric.device).train()
        self.optimizer = instantiate(setting.config.optimizer, **optimizer)(self.net.parameters())

    def step(self, sample: Sample) -> None:
        """Take one optimizer step, without waiting for the device."""
        self.take(sample)

    def take(self, sample: Sample) -> Tensor:
        """Take one optimizer step and return its loss."""
        with self.fabric.autocast():
            loss = self.loss(sample)
        with part("backward, other"):
            loss.backward()
        with part("clipping"):
            clip_grad_norm_(self.net.parameters(), self.clip)
        with part("optimizer"):
            self.optimizer.step()
            self.optimizer.zero_grad()
        return loss.detach()


@contextmanager
def part(name: str) -> Iterator[None]:
    """Name a part of a step for the profiler."""
    with record_function(f"part: {name}"):
        yield
