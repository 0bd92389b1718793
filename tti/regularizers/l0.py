"""L0: few hidden neurons should have an open gate."""

from jaxtyping import Float
from torch import Tensor

from tti.regularizers.base import ActivationRegularizer
from tti.step import Step


class L0(ActivationRegularizer):
    """Expected fraction of open gates (Louizos, Welling & Kingma 2018, equation 12, divided by the number of gates).

    For ``model/mlp=hard_concrete``, whose site ``open`` holds each gate's probability of being open: 0 if all are
    closed, 1 if all are open. For ``model/mlp=jumprelu``, whose ``open`` is 1 where a neuron exceeds its threshold, it
    is the fraction of active neurons (Rajamanoharan et al. 2024, equation 9, divided by the number of neurons). It
    cannot be gamed, but a closed gate says nothing about what the open ones mean.
    """

    def penalty(self, acts: Float[Tensor, "row width"], step: Step) -> Float[Tensor, ""]:
        return acts.float().mean()
