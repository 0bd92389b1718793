"""An MLP whose neurons compete through a softmax: SoLU."""

from jaxtyping import Float, Int
from torch import Tensor, nn

from tti.models.mlp import MLP
from tti.models.symmetry import InapplicableError


def solu(pre: Float[Tensor, "token width"]) -> Float[Tensor, "token width"]:
    """``x * softmax(x)`` over the neurons: large ones suppress the others."""
    return pre * pre.softmax(-1)


class SoLUMLP(MLP):
    """Softmax linear units (Elhage et al. 2022, "Softmax Linear Units", section 3): ``LN(x * softmax(x))``.

    The layer norm recovers the loss, but it also re-amplifies neurons that the softmax made small: what looks like one
    active neuron may still write through many. Compare both forms.

    Args:
        d_model: width of the residual stream.
        d_ff: hidden neurons.
        norm: whether a layer norm over the neurons follows.
    """

    def __init__(self, d_model: int, d_ff: int, norm: bool) -> None:
        super().__init__(d_model, d_ff, solu)
        self.norm = nn.LayerNorm(d_ff) if norm else nn.Identity()

    def hidden(self, pre: Tensor) -> Tensor:
        return self.norm(self.activation(pre))

    def permute(self, order: Int[Tensor, "width"]) -> None:
        super().permute(order)
        for parameter in self.norm.parameters():
            parameter.data = parameter[order]

    def duplicate(self) -> None:
        raise InapplicableError("duplicates would change the softmax over the neurons")
