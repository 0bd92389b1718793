"""The contract of a constraint: it names parameters, and projects them after each optimizer step."""

from abc import ABC, abstractmethod
from collections.abc import Iterable

import torch
from torch import Tensor, nn

from tti.models.taps import choose


class Constraint(nn.Module, ABC):
    """A set in which some of the network's weights must lie.

    The projection depends only on the weights and on the progress of training, so a resumed run reproduces it exactly.
    A constraint with state keeps it in buffers, which are checkpointed with the run.

    Args:
        parameters: glob, or several, for names of the network's parameters (``blocks.*.mlp.*.weight``).
        warmup: fraction of training over which the constraint tightens linearly; 0 for full strength from the start.

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
            ValueError: a glob matches no parameter; the message lists the available ones.
        """
        parameters = dict(net.named_parameters())
        self._constrained = {name: parameters[name] for name in choose(self.patterns, parameters, "parameter")}

    @torch.no_grad()
    def project(self, progress: float) -> None:
        """Project the weights after a fraction ``progress`` (0 to 1) of the optimizer steps."""
        tightness = min(1.0, progress / self.warmup if self.warmup else 1.0)
        for parameter in self._constrained.values():
            parameter.copy_(self.projected(parameter, tightness))

    @abstractmethod
    def projected(self, weight: Tensor, tightness: float) -> Tensor:
        """The nearest allowed weights, computed without waiting for the device.

        Args:
            weight: one parameter.
            tightness: 0 if everything is allowed, 1 for the full constraint.
        """
