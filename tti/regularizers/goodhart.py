"""Goodhart: a published metric becomes the objective, to see what then becomes of the truth.

A *formula* maps a batch's activations at a site, and the step, to one number. Each one here is a formula of
`tti.measures`, differentiable, and computed on the tokens of the (micro-)batch of one process.
"""

from collections.abc import Callable, Iterable

from jaxtyping import Float
from torch import Tensor

from tti import measures
from tti.regularizers.base import ActivationRegularizer
from tti.step import Step

Formula = Callable[[Float[Tensor, "token width"], Step], Float[Tensor, ""]]


class Goodhart(ActivationRegularizer):
    """A formula as a penalty, or its negative. ``train/<name>/value`` logs what the formula gives, a mean over sites.

    It is no proposal for training: it shows how far a metric can be moved without what it is meant to measure. Compare
    the changes of all other metrics, and of the ground truth, at the same gradient ratio (``weighting=ratio``).

    Args:
        sites, weight, warmup: see :class:`tti.regularizers.base.Regularizer`.
        formula: the metric.
        maximise: whether the network is trained to raise it.
    """

    def __init__(
        self, sites: str | Iterable[str], weight: float, warmup: float, formula: Formula, maximise: bool
    ) -> None:
        super().__init__(sites, weight, warmup)
        self.formula, self.sign = formula, -1 if maximise else 1

    def penalty(self, acts: Float[Tensor, "token width"], step: Step) -> Float[Tensor, ""]:
        value = self.formula(acts, step)
        step.note("value", value.detach() / len(self.sites))
        return self.sign * value


def type_entropy(acts: Float[Tensor, "token width"], step: Step) -> Float[Tensor, ""]:
    """Mean :func:`tti.measures.type_entropy` of the active neurons (``selectivity/type_entropy``)."""
    mass = measures.type_mass(acts, step.batch.types, step.batch.n_types)
    return measures.mean_over(*measures.type_entropy(mass))


def cosine(acts: Float[Tensor, "token width"], step: Step) -> Float[Tensor, ""]:
    """:func:`tti.measures.mean_abs_cosine` (``geometry/mean_abs_cosine``)."""
    return measures.mean_abs_cosine(measures.gram_matrix(acts))


def correlation(acts: Float[Tensor, "token width"], step: Step) -> Float[Tensor, ""]:
    """:func:`tti.measures.mean_squared_correlation` (``geometry/mean_squared_correlation``)."""
    return measures.mean_squared_correlation(measures.covariance(acts)[0])


def density(acts: Float[Tensor, "token width"], step: Step) -> Float[Tensor, ""]:
    """Mean :func:`tti.measures.density` of the active neurons (``utilisation/density``)."""
    return measures.mean_over(*measures.density(acts))


def selectivity(acts: Float[Tensor, "token width"], step: Step) -> Float[Tensor, ""]:
    """Mean :func:`tti.measures.soft_selectivity`, a smooth ``selectivity/selectivity_top5`` without its null."""
    return measures.soft_selectivity(acts, step.batch.types, step.batch.n_types).mean()
