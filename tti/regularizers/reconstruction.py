"""Reconstruction: what stands in for an activation should be close to it."""

from jaxtyping import Float
from torch import Tensor

from tti.measures import widened
from tti.regularizers.base import ActivationRegularizer
from tti.step import Step


class Reconstruction(ActivationRegularizer):
    """Mean over tokens of the squared norm of an error, ``||error||^2``, for the site ``mlp.error`` of a codebook.

    The second objective of Codebook Features (Tamkin, Taufeeque & Goodman 2023). It trains the codes only: what they
    replace receives no gradient.

    How it can be gamed: the error falls if what the codes replace shrinks.
    """

    def penalty(self, acts: Float[Tensor, "token width"], step: Step) -> Float[Tensor, ""]:
        return widened(acts).square().sum(1).mean()
