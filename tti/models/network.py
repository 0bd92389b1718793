"""The contract of a network: everything that training and evaluation may ask of it."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Literal, Protocol, runtime_checkable

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from tti.models.stories import Separate, Stories
from tti.models.taps import Tap, no_tap

Rows = Literal["token", "document", "once"]
Head = Callable[[Float[Tensor, "token d_model"]], Float[Tensor, "token vocab"]]


@dataclass(frozen=True)
class Site:
    """A named activation (hook point).

    Attributes:
        width: numbers per row, over all heads together.
        rows: what a row stands for: ``token`` (one row per token of the batch), ``document`` (one per document), or
            ``once`` (a single row, such as the gates of ``model/mlp=hard_concrete``).
    """

    width: int
    rows: Rows = "token"


class Network(nn.Module, ABC):
    """Maps a flat batch of tokens to hidden states, and hidden states to predictions; calls a tap at every named site.

    A network whose weights can be read by site is also :class:`Readable`; one that can be rewritten without changing
    its function is also :class:`Reparametrizable`. Both are recognized by their methods.

    Attributes:
        context: maximum number of tokens of a document.
        attends_by_layout: whether tokens interact in ``layout.attend`` only, so that a layout can cache keys and values
            (``tti.models.generation``).
        groups: number of groups of stories (``Stories.group``) that it tells apart; 0 if it needs none.
    """

    context: int
    attends_by_layout = True
    groups = 0

    @property
    @abstractmethod
    def vocab_size(self) -> int:
        """Number of token types: the rows of the head."""

    @property
    @abstractmethod
    def operations_per_token(self) -> int:
        """Floating-point operations of a training step per token: forward and backward matrix products with weights.

        Attention over positions, recomputation and regularizers are left out.
        """

    @abstractmethod
    def forward(
        self, tokens: Int[Tensor, "token"], layout: Stories, tap: Tap = no_tap
    ) -> Float[Tensor, "token d_model"]:
        """Final hidden state of every token: the input of the head."""

    @abstractmethod
    def logits(self, hidden: Float[Tensor, "row d_model"]) -> Float[Tensor, "row vocab"]:
        """Logits for any rows of the hidden state."""

    @abstractmethod
    def loss(
        self, hidden: Float[Tensor, "row d_model"], targets: Int[Tensor, "row"]
    ) -> tuple[Float[Tensor, ""], Float[Tensor, "row"]]:
        """Mean cross-entropy in nats, and each row's cross-entropy, detached."""

    @property
    def device(self) -> torch.device:
        """The device of the parameters."""
        return next(self.parameters()).device

    @property
    def dtype(self) -> torch.dtype:
        """The number format of the parameters."""
        return next(self.parameters()).dtype

    @property
    def widths(self) -> dict[str, int]:
        """Width of each site, by name."""
        return {name: site.width for name, site in self.sites.items()}

    @cached_property
    def sites(self) -> Mapping[str, Site]:
        """Every site, in the order of the forward pass.

        Found by running two documents of one and two tokens, so that the list cannot drift from the forward pass.

        Raises:
            ValueError: a site's rows are neither one per token, nor one per document, nor a single one.
        """
        found: dict[str, Site] = {}

        def listing(site: str, activation: Tensor) -> Tensor:
            found[site] = _described(site, activation)
            return activation

        training, device = self.training, self.device
        self.eval()
        with torch.no_grad():
            tokens = torch.zeros(sum(LENGTHS), dtype=torch.long, device=device)
            layout = replace(Separate.of(LENGTHS), group=torch.zeros(len(LENGTHS), dtype=torch.long))
            self.forward(tokens, layout.to(device), listing)
        self.train(training)
        return found


LENGTHS = (1, 2)
ROWS: dict[int, Rows] = {sum(LENGTHS): "token", len(LENGTHS): "document", 1: "once"}


def _described(site: str, activation: Tensor) -> Site:
    if len(activation) not in ROWS:
        raise ValueError(
            f"the site {site} has {len(activation)} rows for {len(LENGTHS)} documents of {sum(LENGTHS)} tokens; a site "
            "must have one row per token, one per document, or a single row"
        )
    return Site(activation[0].numel(), ROWS[len(activation)])


@runtime_checkable
class Readable(Protocol):
    """A network that exposes the weights of its neurons."""

    def writes(self, site: str) -> Float[Tensor, "d_model width"] | None:
        """Output weights of each neuron of a site, one column per neuron; None if it does not write out."""

    def reads(self, site: str) -> Float[Tensor, "width d_model"] | None:
        """Input weights of each neuron of a site, one row per neuron; None if it has none."""

    def direct_logits(self, directions: Float[Tensor, "d_model n"]) -> Float[Tensor, "vocab n"]:
        """Change in the logits per unit of each direction of the residual stream, through the final norm and the head.

        The norm's standard deviation is taken as 1.
        """


@runtime_checkable
class Reparametrizable(Protocol):
    """A network that can be rewritten in place without changing its logits.

    If the network lacks the symmetry, the method raises :class:`~tti.models.symmetry.InapplicableError` with the
    reason, before changing anything. Hooks and optimizers that hold references to parameters do not survive a change.
    """

    def permute_hidden(self, generator: torch.Generator) -> None:
        """Permute the hidden neurons of every MLP."""

    def rescale_hidden(self, factor: float) -> None:
        """Multiply hidden activations by ``factor``, and divide their output weights by it."""

    def duplicate_hidden(self) -> None:
        """Duplicate every hidden neuron, each copy writing half; widths change."""

    def add_idle_hidden(self, tokens: Int[Tensor, "token"], layout: Stories, on: Float[Tensor, "token n"]) -> None:
        """Add hidden neurons that write nothing to every MLP, one per column of ``on``; widths change.

        Args:
            tokens, layout: documents.
            on: 1 at the tokens on which the neuron should fire, as nearly as a linear map can achieve; 0 elsewhere.
        """

    def rotate_residual(self, rotation: Float[Tensor, "d_model d_model"]) -> Head:
        """Change the basis of the residual stream; afterwards, the returned function is the head.

        Args:
            rotation: orthogonal, and the identity on the all-ones direction, which LayerNorm removes.
        """
