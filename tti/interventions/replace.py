"""Replacement of a site's activations by a function of them."""

from collections.abc import Callable

from jaxtyping import Float
from torch import Tensor


class Replacement:
    """A tap that replaces the activations at ``site`` by ``replace(activations)``, with heads concatenated."""

    def __init__(self, site: str, replace: Callable[[Float[Tensor, "token width"]], Tensor]) -> None:
        self.site, self.replace = site, replace

    def __call__(self, site: str, activation: Tensor) -> Tensor:
        if site != self.site:
            return activation
        return self.replace(activation.flatten(1)).to(activation.dtype).view_as(activation)
