"""What a part of the network or of a regularizer may offer beyond a forward pass; the LightningModule looks for it."""

from typing import Protocol, runtime_checkable

import torch


@runtime_checkable
class Drawing(Protocol):
    """Needs random numbers, one draw an optimiser step.

    The generator is on the CPU and a pure function of the run's seed, the part's name in the module and the step: no
    two parts share one, a resumed run draws what an uninterrupted one does, and so does every process and micro-batch.
    """

    def draw(self, generator: torch.Generator) -> None:
        """Take the random numbers of one step."""


@runtime_checkable
class Tuned(Protocol):
    """Its parameters are optimised with settings of their own, and clipped apart from all others.

    ``optimizer_settings`` are those that differ, such as ``{"lr": 0.05, "weight_decay": 0.0}``; the schedule's factor
    applies to them too.
    """

    optimizer_settings: dict[str, float]
