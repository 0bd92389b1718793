"""The contract of a regularizer: it names sites, sees a ``Step``, gives one unweighted scalar."""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping

from jaxtyping import Float
from torch import Tensor, nn

from tti.models.taps import choose
from tti.step import Step


class Regularizer(nn.Module, ABC):
    """One term of the objective, ``coefficient(progress) * forward(step)``.

    A regularizer may have parameters: they are optimised, clipped (apart from the model's) and checkpointed with the
    run. One that draws random numbers must draw them from a generator of its own, so that adding it shifts nothing
    else.

    Args:
        sites: glob, or several, of the sites it acts on.
        weight: the coefficient lambda after the warm-up.
        warmup: the fraction of training over which the coefficient rises linearly from 0.

    Raises:
        ValueError: ``warmup`` is not in [0, 1].
    """

    def __init__(self, sites: str | Iterable[str], weight: float, warmup: float) -> None:
        super().__init__()
        if not 0 <= warmup <= 1:
            raise ValueError(f"warmup={warmup} must be a fraction of training in [0, 1]")
        self.patterns = sites
        self.weight = weight
        self.warmup = warmup
        self.sites: tuple[str, ...] = ()

    def attach(self, widths: Mapping[str, int]) -> None:
        """Choose the sites in a model that has these ones (site -> width).

        Raises:
            ValueError: a glob matches no site; the message lists those there are.
        """
        self.sites = choose(self.patterns, widths)

    def coefficient(self, progress: float) -> float:
        """The factor on the penalty when ``progress`` (0 to 1) of the optimiser steps are done."""
        return self.weight * min(1.0, progress / self.warmup if self.warmup else 1.0)

    @abstractmethod
    def forward(self, step: Step) -> Float[Tensor, ""]:
        """The unweighted penalty, differentiable with respect to the activations."""


class ActivationRegularizer(Regularizer):
    """A penalty on the activations of single sites, averaged over the sites. Heads are laid side by side."""

    def forward(self, step: Step) -> Float[Tensor, ""]:
        penalties = [self.penalty(step.activations[site].flatten(1), step) for site in self.sites]
        return sum(penalties[1:], penalties[0]) / len(penalties)

    @abstractmethod
    def penalty(self, acts: Float[Tensor, "token width"], step: Step) -> Float[Tensor, ""]:
        """The penalty of one site's activations; every token of the step is scored."""
