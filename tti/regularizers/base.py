"""The contract of a regularizer: it names sites, sees a ``Step``, and returns one unweighted scalar."""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping

from jaxtyping import Float
from torch import Tensor, nn

from tti.models.network import Site
from tti.models.taps import choose
from tti.step import Step


class Regularizer(nn.Module, ABC):
    """One term of the objective, ``lambda * forward(step)``; ``tti.weightings`` sets lambda.

    A regularizer may have parameters, which are optimized, clipped (separately from the model's) and checkpointed with
    the run. If it needs random numbers, it draws them in a method ``draw(generator)``
    (``tti.modules.protocols.Drawing``), so that adding it shifts no other random numbers.

    Args:
        sites: glob, or several, for the sites it acts on.
        weight: the coefficient lambda after the warm-up, or the initial value of an adaptive one.
        warmup: fraction of training over which the coefficient rises linearly from 0.
    """

    labels: tuple[str, ...] = ()
    """Labels of tokens that it reads from ``step.batch.labels``."""

    def __init__(self, sites: str | Iterable[str], weight: float, warmup: float) -> None:
        super().__init__()
        self.patterns = sites
        self.weight = weight
        self.warmup = warmup
        self.sites: tuple[str, ...] = ()

    def attach(self, sites: Mapping[str, Site]) -> None:
        """Choose the sites among those of a network.

        Raises:
            ValueError: a glob matches no site; the message lists the available ones.
        """
        self.sites = choose(self.patterns, sites)

    @abstractmethod
    def forward(self, step: Step) -> Float[Tensor, ""]:
        """The unweighted penalty, differentiable with respect to the activations."""

    def weighted(self, step: Step, coefficient: float | Tensor) -> tuple[Float[Tensor, ""], Float[Tensor, ""]]:
        """The penalty, and the term it adds to the objective, whose value is ``coefficient * penalty``.

        The term's gradient is that of ``coefficient * penalty`` too, unless the regularizer trains parameters on a loss
        of its own, which the coefficient must not scale; then this holds for the network's gradient only
        (``tti.regularizers.online_sae``).
        """
        penalty = self(step)
        return penalty, coefficient * penalty


class ActivationRegularizer(Regularizer):
    """A penalty on the activations of single sites, averaged over sites, with heads concatenated."""

    def forward(self, step: Step) -> Float[Tensor, ""]:
        penalties = [self.penalty(step.activations[site].flatten(1), step) for site in self.sites]
        return sum(penalties[1:], penalties[0]) / len(penalties)

    @abstractmethod
    def penalty(self, acts: Float[Tensor, "token width"], step: Step) -> Float[Tensor, ""]:
        """Penalty of one site's activations; every row is a token in the loss."""
