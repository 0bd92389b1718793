"""Weights rewritten so that the function stays: what a change of the residual stream's basis takes."""

from jaxtyping import Float
from torch import Tensor, nn


class InapplicableError(ValueError):
    """A network does not have the symmetry that it was asked for; the message says why."""


def folded(linear: nn.Linear, norm: nn.LayerNorm, rotation: Float[Tensor, "d d"]) -> nn.Linear:
    """``linear`` with the gain and bias of the LayerNorm that it reads from, for a stream in the rotated basis."""
    made = nn.Linear(linear.in_features, linear.out_features, device=rotation.device, dtype=rotation.dtype)
    made.weight.data = linear.weight * norm.weight @ rotation
    made.bias.data = linear.weight @ norm.bias + (0 if linear.bias is None else linear.bias)
    return made


def neutral(norm: nn.LayerNorm) -> None:
    """Set the gain to 1 and the bias to 0."""
    norm.weight.data.fill_(1)
    norm.bias.data.zero_()
