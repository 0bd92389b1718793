"""Reconstruction: what stands in for an activation should be close to it."""

from jaxtyping import Float
from torch import Tensor

from tti.measures import widened
from tti.regularizers.base import ActivationRegularizer
from tti.step import Step


class Reconstruction(ActivationRegularizer):
    """Mean over tokens of the squared norm of an error, ``||error||^2``, for the site ``mlp.error`` of a codebook.

    It draws the codes and what they replace to each other, as in VQ-VAEs (van den Oord et al. 2017, equation 3, both
    terms with one weight). Codebook Features (Tamkin, Taufeeque & Goodman 2023), which starts from a trained network,
    draws the codes only.

    How it can be gamed: the error falls if what the codes replace shrinks.
    """

    def penalty(self, acts: Float[Tensor, "token width"], step: Step) -> Float[Tensor, ""]:
        return widened(acts).square().sum(1).mean()
