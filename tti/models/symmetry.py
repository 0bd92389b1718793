"""Rewriting weights without changing the function: folding LayerNorms into linear maps in a rotated basis."""

from jaxtyping import Float
from torch import Tensor, nn


class InapplicableError(ValueError):
    """The network does not have the requested symmetry; the message says why."""


def folded(linear: nn.Linear, norm: nn.LayerNorm, rotation: Float[Tensor, "d d"]) -> nn.Linear:
    """``linear`` for a stream in the rotated basis, with the gain and bias of its input LayerNorm folded in."""
    made = nn.Linear(linear.in_features, linear.out_features, device=rotation.device, dtype=rotation.dtype)
    made.weight.data = linear.weight * norm.weight @ rotation
    made.bias.data = linear.weight @ norm.bias + (0 if linear.bias is None else linear.bias)
    return made


def neutral(norm: nn.LayerNorm) -> None:
    """Set the gain to 1 and the bias to 0."""
    norm.weight.data.fill_(1)
    norm.bias.data.zero_()
