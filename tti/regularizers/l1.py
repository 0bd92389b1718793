"""L1: activations should be small."""

from jaxtyping import Float
from torch import Tensor

from tti.regularizers.base import ActivationRegularizer
from tti.step import Step


class L1(ActivationRegularizer):
    """Mean over tokens and neurons of ``|a|`` (the original project's; a sum over neurons would be ``width`` times it).

    What games it: shrinking the activations while the next matrix grows.
    """

    def penalty(self, acts: Float[Tensor, "token width"], step: Step) -> Float[Tensor, ""]:
        return acts.float().abs().mean()
