"""Specialization: given the task, it should be certain which expert is used."""

from collections.abc import Iterable

import torch
from jaxtyping import Float, Int
from torch import Tensor

from tti.regularizers.base import ActivationRegularizer
from tti.regularizers.processes import over_processes
from tti.step import Step

VALUES = 256  # of a label, at most


class Specialization(ActivationRegularizer):
    """``H(E | T) = H(E) - I(E; T)`` in nats per layer, averaged over layers; ``I(E; T)`` is logged as ``information``.

    ``E`` is the expert by the router's softmax over all experts, ``T`` the value of a label of the token in the loss
    (its task): ``p(e, t)`` is the mean over tokens of ``p(e | token) * 1[label = t]``. ``log E`` for even routing, 0 if
    the label decides the expert.

    Over the tokens in the loss of one micro-batch of all processes.

    What games it: routing everything to one expert has 0 as well, which ``load_balance`` is there to prevent; read it
    beside ``information``, which is 0 then. A router that only recognises how a task is written satisfies it too.

    Args:
        sites: globs; a router's logits.
        weight, warmup: see :class:`~tti.regularizers.base.Regularizer`.
        label: its name among ``data.labels``; integers below 256.
    """

    def __init__(self, sites: str | Iterable[str], weight: float, warmup: float, label: str) -> None:
        super().__init__(sites, weight, warmup)
        self.label = label

    def penalty(self, acts: Float[Tensor, "token expert"], step: Step) -> Float[Tensor, ""]:
        if self.label not in step.batch.labels:
            raise ValueError(f"specialization needs the label {self.label!r} of each token: data.labels=[{self.label}]")
        conditional, information = conditional_entropy(acts.float().softmax(-1), step.batch.labels[self.label])
        step.note("information", information / len(self.sites))
        return conditional


def conditional_entropy(
    probability: Float[Tensor, "row expert"], label: Int[Tensor, "row"]
) -> tuple[Float[Tensor, ""], Float[Tensor, ""]]:
    """``H(E | T)`` and ``I(E; T)`` in nats."""
    table = probability.new_zeros(VALUES, probability.shape[1]).index_add(0, label, probability) / len(label)
    joint = over_processes(table, len(label))
    conditional = _entropy(joint.flatten()) - _entropy(joint.sum(1))
    return conditional, _entropy(joint.sum(0)) - conditional


def _entropy(probability: Float[Tensor, "value"]) -> Float[Tensor, ""]:
    kept = probability.clamp_min(torch.finfo(probability.dtype).tiny)  # its gradient is 0 where nothing is
    return torch.special.entr(kept).sum()
