"""The contract of a constraint: it names parameters, and projects them after each optimiser step."""

from abc import ABC, abstractmethod
from collections.abc import Iterable

import torch
from torch import Tensor, nn

from tti.models.taps import choose


class Constraint(nn.Module, ABC):
    """A set that some weights of the network must lie in.

    The projection is a function of the weights and of the progress of the training alone, so a resumed run keeps it
    exactly. A constraint that remembers something keeps it in buffers, which are checkpointed with the run.

    Args:
        parameters: glob, or several, of the names of the network's parameters (``blocks.*.mlp.*.weight``).
        warmup: the fraction of training over which the constraint tightens linearly; 0 for all of it from the start.

    Raises:
        ValueError: ``warmup`` is not in [0, 1].
    """

    def __init__(self, parameters: str | Iterable[str], warmup: float) -> None:
        super().__init__()
        if not 0 <= warmup <= 1:
            raise ValueError(f"warmup={warmup} must be a fraction of training in [0, 1]")
        self.patterns = parameters
        self.warmup = warmup
        self._constrained: dict[str, nn.Parameter] = {}

    def attach(self, net: nn.Module) -> None:
        """Choose the parameters of a network.

        Raises:
            ValueError: a glob matches none; the message lists those there are.
        """
        parameters = dict(net.named_parameters())
        self._constrained = {name: parameters[name] for name in choose(self.patterns, parameters, "parameter")}

    @torch.no_grad()
    def project(self, progress: float) -> None:
        """Project the weights when ``progress`` (0 to 1) of the optimiser steps are done."""
        tightness = min(1.0, progress / self.warmup if self.warmup else 1.0)
        for parameter in self._constrained.values():
            parameter.copy_(self.projected(parameter, tightness))

    @abstractmethod
    def projected(self, weight: Tensor, tightness: float) -> Tensor:
        """The nearest allowed weights, without waiting for the device.

        Args:
            weight: one parameter.
            tightness: 0 where anything is allowed, 1 where the constraint is as tight as it gets.
        """
