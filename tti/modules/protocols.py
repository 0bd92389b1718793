"""Optional protocols of modules, beyond the forward pass; the task finds modules that implement them."""

from typing import Any, Protocol, runtime_checkable

import torch


@runtime_checkable
class Drawing(Protocol):
    """A module that needs random numbers, drawn once per optimizer step.

    The generator is on the CPU and a pure function of the run's seed, the module's name and the step. No two modules
    share one, and a resumed run, every process and every micro-batch draw the same numbers.
    """

    def draw(self, generator: torch.Generator) -> None:
        """Draw the random numbers of one step."""


@runtime_checkable
class Tuned(Protocol):
    """A module whose parameters have their own optimizer settings, and are clipped separately.

    ``optimizer_settings`` holds the settings that differ, such as ``{"lr": 0.05, "weight_decay": 0.0}``; the schedule's
    factor applies to them too.
    """

    optimizer_settings: dict[str, Any]
