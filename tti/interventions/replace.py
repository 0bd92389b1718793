"""A site's activations replaced by what a function makes of them."""

from collections.abc import Callable

from jaxtyping import Float
from torch import Tensor


class Replacement:
    """A tap that puts ``replace(activations)`` in the place of what is at ``site``, heads concatenated."""

    def __init__(self, site: str, replace: Callable[[Float[Tensor, "token width"]], Tensor]) -> None:
        self.site, self.replace = site, replace

    def __call__(self, site: str, activation: Tensor) -> Tensor:
        if site != self.site:
            return activation
        return self.replace(activation.flatten(1)).to(activation.dtype).view_as(activation)
