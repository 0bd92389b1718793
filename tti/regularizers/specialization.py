"""Specialization: the task should determine which expert is used."""

from collections.abc import Iterable

import torch
from jaxtyping import Float, Int
from torch import Tensor

from tti.regularizers.base import ActivationRegularizer
from tti.regularizers.processes import over_processes
from tti.step import Step

VALUES = 256  # maximum number of values of a label


class Specialization(ActivationRegularizer):
    """``H(E | T) = H(E) - I(E; T)`` in nats per layer, averaged over layers; ``I(E; T)`` is logged as ``information``.

    ``E`` is the expert, under the router's softmax over all experts; ``T`` is the value of a label of the token, such
    as its task. ``p(e, t)`` is the mean of ``p(e | token) * 1[label = t]`` over the tokens in the loss of one
    micro-batch of all processes. The penalty is the log of the number of experts for even routing, and 0 if the label
    determines the expert.

    How it can be gamed: routing everything to one expert also gives 0. Combine it with ``load_balance``, and check
    ``information``, which is then 0. A router that only recognizes how a task is phrased satisfies it too.

    Args:
        sites: globs; a router's logits.
        weight, warmup: see :class:`~tti.regularizers.base.Regularizer`.
        label: name of the label, one of ``data.labels``; an array of integers below 256.
    """

    def __init__(self, sites: str | Iterable[str], weight: float, warmup: float, label: str) -> None:
        super().__init__(sites, weight, warmup)
        self.label, self.labels = label, (label,)

    def penalty(self, acts: Float[Tensor, "token expert"], step: Step) -> Float[Tensor, ""]:
        conditional, information = conditional_entropy(acts.float().softmax(-1), step.batch.labels[self.label])
        step.note("information", information / len(self.sites))
        return conditional


def conditional_entropy(
    probability: Float[Tensor, "row expert"], label: Int[Tensor, "row"]
) -> tuple[Float[Tensor, ""], Float[Tensor, ""]]:
    """``H(E | T)`` and ``I(E; T)`` in nats, over all processes."""
    table = probability.new_zeros(VALUES, probability.shape[1]).index_add(0, label, probability) / len(label)
    joint = over_processes(table, len(label))
    conditional = _entropy(joint.flatten()) - _entropy(joint.sum(1))
    return conditional, _entropy(joint.sum(0)) - conditional


def _entropy(probability: Float[Tensor, "value"]) -> Float[Tensor, ""]:
    kept = probability.clamp_min(torch.finfo(probability.dtype).tiny)  # the gradient is 0 at zeros
    return torch.special.entr(kept).sum()
