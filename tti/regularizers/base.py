"""The contract of a regularizer: it names sites, sees a ``Step``, gives one unweighted scalar."""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping

from jaxtyping import Float
from torch import Tensor, nn

from tti.models.network import Site
from tti.models.taps import choose
from tti.step import Step


class Regularizer(nn.Module, ABC):
    """One term of the objective, ``lambda * forward(step)``; ``tti.weightings`` sets lambda.

    A regularizer may have parameters: they are optimised, clipped (apart from the model's) and checkpointed with the
    run. One that needs random numbers takes them in a method ``draw(generator)`` (``tti.modules.protocols.Drawing``),
    so that adding it shifts nothing else.

    Args:
        sites: glob, or several, of the sites it acts on.
        weight: the coefficient lambda after the warm-up, or where an adapted one begins.
        warmup: the fraction of training over which the coefficient rises linearly from 0.
    """

    def __init__(self, sites: str | Iterable[str], weight: float, warmup: float) -> None:
        super().__init__()
        self.patterns = sites
        self.weight = weight
        self.warmup = warmup
        self.sites: tuple[str, ...] = ()

    def attach(self, sites: Mapping[str, Site]) -> None:
        """Choose the sites in a network that has these ones.

        Raises:
            ValueError: a glob matches no site; the message lists those there are.
        """
        self.sites = choose(self.patterns, sites)

    @abstractmethod
    def forward(self, step: Step) -> Float[Tensor, ""]:
        """The unweighted penalty, differentiable with respect to the activations."""

    def weighted(self, step: Step, coefficient: float | Tensor) -> tuple[Float[Tensor, ""], Float[Tensor, ""]]:
        """The penalty, and what it adds to the objective: a number that is ``coefficient * penalty``.

        Its gradient is that too, unless the regularizer learns by a loss of its own, which the coefficient must not
        scale: then it is so in the network only (``tti.regularizers.online_sae``).
        """
        penalty = self(step)
        return penalty, coefficient * penalty


class ActivationRegularizer(Regularizer):
    """A penalty on the activations of single sites, averaged over the sites. Heads are laid side by side."""

    def forward(self, step: Step) -> Float[Tensor, ""]:
        penalties = [self.penalty(step.activations[site].flatten(1), step) for site in self.sites]
        return sum(penalties[1:], penalties[0]) / len(penalties)

    @abstractmethod
    def penalty(self, acts: Float[Tensor, "token width"], step: Step) -> Float[Tensor, ""]:
        """The penalty of one site's activations; every token of the step is scored."""
