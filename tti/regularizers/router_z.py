"""Router z-loss: router logits should stay small."""

from jaxtyping import Float
from torch import Tensor

from tti.regularizers.base import ActivationRegularizer
from tti.step import Step


class RouterZ(ActivationRegularizer):
    """Mean over tokens of ``logsumexp(logits)**2`` (Zoph et al. 2022, "ST-MoE", eq. 5).

    It is ``log(E)**2`` for logits of 0. As a mean over rows, it does not depend on accumulation or the number of
    processes.

    It limits the size of the logits, not the imbalance between experts: subtracting a constant from all logits of a
    token changes the penalty but not the routing.
    """

    def penalty(self, acts: Float[Tensor, "token expert"], step: Step) -> Float[Tensor, ""]:
        return acts.float().logsumexp(-1).square().mean()
