"""What all loops that are compared have in common, and the plain training step that the references share."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

from hydra.utils import instantiate
from torch import Tensor, nn
from torch.autograd.profiler import record_function
from torch.nn.utils import clip_grad_norm_

from tti.benchmarking.clocks import Clock
from tti.benchmarking.sample import Sample
from tti.benchmarking.setting import Setting

TURN = "a step that is not timed and the same again, timed"


class Loop(ABC):
    """A way to train: takes optimiser steps, one sample each."""

    net: nn.Module

    @abstractmethod
    def loss(self, sample: Sample) -> Tensor:
        """The scalar that is differentiated: the mean cross-entropy in nats, and penalties if there are any."""

    @abstractmethod
    def step(self, sample: Sample) -> None:
        """One optimiser step."""

    @abstractmethod
    def tokens(self, sample: Sample) -> int:
        """The scored tokens of a step: what a speed is a speed of."""


def warm_up(loop: Loop, samples: Sequence[Sample]) -> None:
    """A step on each sample: the optimiser's state is there then, and code is compiled for all their shapes."""
    for sample in samples:
        loop.step(sample)


def seconds_a_token(loop: Loop, samples: Sequence[Sample], clock: Clock, turn: int) -> float:
    """The seconds of one step, on the sample whose turn it is, over its scored tokens."""
    sample = samples[turn % len(samples)]
    return second_of_two(partial(loop.step, sample), clock) / loop.tokens(sample)


def second_of_two(work: Callable[[], object], clock: Clock) -> float:
    """The seconds of some work that is done twice, the second time.

    In a training a step follows another of its kind. The first step after another loop's finds that one's data in the
    caches, and memory to be fetched again that a virtual machine's host has meanwhile taken back.
    """
    work()
    start = clock()
    work()
    return clock() - start


class Reference(Loop):
    """Forward pass, backward pass, clipping, AdamW; precision, learning rate and sizes are the training's.

    Args:
        setting: the training.
        net: what is trained.
        optimizer: settings of the optimiser that differ from the training's.
    """

    def __init__(self, setting: Setting, net: nn.Module, **optimizer: Any) -> None:
        self.fabric, self.clip = setting.fabric, setting.config.trainer.gradient_clip_val
        self.net = net.to(self.fabric.device).train()
        self.optimizer = instantiate(setting.config.optimizer, **optimizer)(self.net.parameters())

    def step(self, sample: Sample) -> None:
        """One optimiser step, after which nobody waits for the device."""
        self.take(sample)

    def take(self, sample: Sample) -> Tensor:
        """One optimiser step; its loss."""
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
    """Names a part of a step to the profiler."""
    with record_function(f"part: {name}"):
        yield
