"""Router z-loss: router logits should stay small."""

from jaxtyping import Float
from torch import Tensor

from tti.regularizers.base import ActivationRegularizer
from tti.step import Step


class RouterZ(ActivationRegularizer):
    """Mean over tokens of ``logsumexp(logits)**2`` (Zoph et al. 2022, "ST-MoE", eq. 5).

    ``log(E)**2`` for logits of 0. A mean over rows, so that accumulation and several processes change nothing.

    It limits the size of logits, not the balance between experts: subtracting a constant from all logits of a token
    changes the penalty and not the routing.
    """

    def penalty(self, acts: Float[Tensor, "token expert"], step: Step) -> Float[Tensor, ""]:
        return acts.float().logsumexp(-1).square().mean()
