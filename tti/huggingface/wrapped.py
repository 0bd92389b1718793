"""A transformers decoder as a network: hooks on its modules call the tap at our sites."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from tti.huggingface.names import FAMILIES
from tti.models.cross_entropy import linear_cross_entropy
from tti.models.network import Network
from tti.models.stories import Stories
from tti.models.taps import Tap, no_tap

Through = Callable[[Tensor], Tensor]


class Wrapped(Network):
    """A network around a transformers model, evaluated like ours except for parts that read its weights by site.

    (It is neither ``Readable`` nor ``Reparametrizable``.) Documents are run as rows of a rectangle, padded at the end:
    a causal query sees nothing after it, so documents see neither padding nor each other, and positions start at 0 in
    each. Taps see the documents' tokens only.

    Args:
        theirs: a causal language model of one of the ``FAMILIES``, in single precision.
    """

    attends_by_layout = False

    def __init__(self, theirs: Any) -> None:
        super().__init__()
        self.theirs = theirs
        self.train(theirs.training)
        self.context = theirs.config.max_position_embeddings
        self.places = FAMILIES[theirs.config.model_type].places(theirs.config.num_hidden_layers)

    def forward(
        self, tokens: Int[Tensor, "token"], layout: Stories, tap: Tap = no_tap
    ) -> Float[Tensor, "token d_model"]:
        rectangle = Rectangle(layout)
        with self._tapped(tap, rectangle):
            hidden = self.theirs.base_model(input_ids=rectangle.filled(tokens), use_cache=False).last_hidden_state
        return rectangle.rows(hidden)

    def logits(self, hidden: Float[Tensor, "row d_model"]) -> Float[Tensor, "row vocab"]:
        return self._head(hidden)

    def loss(
        self, hidden: Float[Tensor, "row d_model"], targets: Int[Tensor, "row"]
    ) -> tuple[Float[Tensor, ""], Float[Tensor, "row"]]:
        return linear_cross_entropy(hidden, self._head.weight, targets)

    @property
    def vocab_size(self) -> int:
        return self._head.out_features

    @property
    def operations_per_token(self) -> int:
        """``6 P``, with P the entries of the blocks' matrices and the head."""
        blocks = next(module for module in self.theirs.base_model.children() if isinstance(module, nn.ModuleList))
        weights = sum(weight.numel() for weight in blocks.parameters() if weight.ndim == 2)
        return 6 * (weights + self._head.weight.numel())

    @property
    def _head(self) -> nn.Linear:
        head: nn.Linear = self.theirs.get_output_embeddings()
        return head

    @contextmanager
    def _tapped(self, tap: Tap, rectangle: "Rectangle") -> Iterator[None]:
        """Install the hooks for one forward pass."""
        with ExitStack() as stack:
            for site, (name, side) in {} if tap is no_tap else self.places.items():
                through = rectangle.through(site, tap)
                module = self.theirs.base_model.get_submodule(name)
                handle = (
                    module.register_forward_pre_hook(_on_input(through))
                    if side == "input"
                    else module.register_forward_hook(_on_output(through))
                )
                stack.callback(handle.remove)
            yield


class Rectangle:
    """Positions of the tokens of a flat batch in rows as long as the longest document."""

    def __init__(self, layout: Stories) -> None:
        self.shape = len(layout.lengths), max(layout.lengths)
        starts = torch.arange(self.shape[0]) * self.shape[1]
        device = layout.positions.device
        self.places = torch.repeat_interleave(starts, torch.tensor(layout.lengths)).to(device) + layout.positions

    def filled(self, tokens: Int[Tensor, "token"]) -> Int[Tensor, "document longest"]:
        """The tokens as padded rows, with 0 after each document."""
        return tokens.new_zeros(self.shape).flatten().index_copy(0, self.places, tokens).view(self.shape)

    def rows(self, padded: Float[Tensor, "document longest width"]) -> Float[Tensor, "token width"]:
        """The values at the tokens."""
        return padded.flatten(0, 1)[self.places]

    def through(self, site: str, tap: Tap) -> Through:
        """A function that applies a tap to the tokens' rows of a padded activation."""

        def tapped(padded: Tensor) -> Tensor:
            rows = self.rows(padded)
            found = tap(site, rows)
            if found is rows and not rows.requires_grad:
                return padded
            return padded.flatten(0, 1).index_copy(0, self.places, found.to(padded.dtype)).view_as(padded)

        return tapped


def _on_input(through: Through) -> Callable[[nn.Module, tuple[Any, ...]], tuple[Any, ...]]:
    return lambda module, arguments: (through(arguments[0]), *arguments[1:])


def _on_output(through: Through) -> Callable[[nn.Module, Any, Any], Any]:
    """A forward hook for the activation, the first element if the module returns a tuple."""
    return lambda module, arguments, output: (
        (through(output[0]), *output[1:]) if isinstance(output, Sequence) else through(output)
    )
