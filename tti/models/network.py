"""The contract of a network: everything that training and evaluation may ask of one."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
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
    """A named activation.

    Attributes:
        width: numbers in a row, over all heads together.
        rows: what its rows are: one for each ``token`` of the batch, one for each ``document``, or one row ``once``,
            whatever the batch (the gates of ``model/mlp=hard_concrete``).
    """

    width: int
    rows: Rows = "token"


class Network(nn.Module, ABC):
    """Maps a flat batch of tokens to hidden states, and those to predictions; calls a tap at every named site.

    A network whose weights can be read site by site is :class:`Readable` too; one that can be rewritten without
    changing its function is :class:`Reparametrizable`. Both are found by their methods.

    Attributes:
        context: most tokens of a document that it can see.
        attends_by_layout: whether all attention is ``layout.attend``, so that a layout may remember keys and values
            (``tti.models.generation``).
    """

    context: int
    attends_by_layout = True

    @property
    @abstractmethod
    def vocab_size(self) -> int:
        """Rows of the head: the number of token types."""

    @property
    @abstractmethod
    def operations_per_token(self) -> int:
        """Floating-point operations of a training step per token: forward and backward products with weights.

        Attention over positions is left out, and so are recomputation and regularizers.
        """

    @abstractmethod
    def forward(
        self, tokens: Int[Tensor, "token"], layout: Stories, tap: Tap = no_tap
    ) -> Float[Tensor, "token d_model"]:
        """The final hidden state of every token: what the head reads."""

    @abstractmethod
    def logits(self, hidden: Float[Tensor, "row d_model"]) -> Float[Tensor, "row vocab"]:
        """The head, for any rows of the hidden state."""

    @abstractmethod
    def loss(
        self, hidden: Float[Tensor, "row d_model"], targets: Int[Tensor, "row"]
    ) -> tuple[Float[Tensor, ""], Float[Tensor, "row"]]:
        """Mean cross-entropy in nats, and each row's own, detached."""

    @property
    def device(self) -> torch.device:
        """Where the parameters are."""
        return next(self.parameters()).device

    @property
    def widths(self) -> dict[str, int]:
        """Site -> numbers in a row."""
        return {name: site.width for name, site in self.sites.items()}

    @cached_property
    def sites(self) -> Mapping[str, Site]:
        """Every site in the order of the forward pass.

        Found by running two documents of one and two tokens, so that the list cannot drift from the forward pass.

        Raises:
            ValueError: a site has another number of rows than one for each token, one for each document, or one.
        """
        found: dict[str, Site] = {}

        def listing(site: str, activation: Tensor) -> Tensor:
            found[site] = _described(site, activation)
            return activation

        training, device = self.training, self.device
        self.eval()
        with torch.no_grad():
            tokens = torch.zeros(sum(LENGTHS), dtype=torch.long, device=device)
            self.forward(tokens, Separate.of(LENGTHS).to(device), listing)
        self.train(training)
        return found


LENGTHS = (1, 2)
ROWS: dict[int, Rows] = {sum(LENGTHS): "token", len(LENGTHS): "document", 1: "once"}


def _described(site: str, activation: Tensor) -> Site:
    if len(activation) not in ROWS:
        raise ValueError(
            f"the site {site} has {len(activation)} rows for {len(LENGTHS)} documents of {sum(LENGTHS)} tokens; a site "
            "has one row for each token, one for each document, or one in all"
        )
    return Site(activation[0].numel(), ROWS[len(activation)])


@runtime_checkable
class Readable(Protocol):
    """A network whose neurons' weights are known."""

    def writes(self, site: str) -> Float[Tensor, "d_model width"] | None:
        """What each neuron of a site adds to the residual stream, one column a neuron; None if it does not."""

    def reads(self, site: str) -> Float[Tensor, "width d_model"] | None:
        """The weights with which each neuron of a site reads the residual stream, one row a neuron; None without."""

    def direct_logits(self, directions: Float[Tensor, "d_model n"]) -> Float[Tensor, "vocab n"]:
        """What directions in the residual stream add to the logits through the final norm and the head.

        The norm's standard deviation counts as 1.
        """


@runtime_checkable
class Reparametrizable(Protocol):
    """A network that can be rewritten in place into another with the same logits.

    Each method raises :class:`~tti.models.symmetry.InapplicableError`, with the reason and before it changes anything,
    where this network has no such symmetry. Hooks and optimisers that hold on to parameters do not survive a change.
    """

    def permute_hidden(self, generator: torch.Generator) -> None:
        """The hidden neurons of every MLP in another order."""

    def rescale_hidden(self, factor: float) -> None:
        """Hidden activations times ``factor``, and what they write divided by it."""

    def duplicate_hidden(self) -> None:
        """Every hidden neuron twice, each copy writing half; widths change."""

    def add_idle_hidden(self, tokens: Int[Tensor, "token"], layout: Stories, on: Float[Tensor, "token n"]) -> None:
        """Add to every MLP hidden neurons that write nothing, one for each column of ``on``; widths change.

        Args:
            tokens, layout: documents.
            on: 1 at those of their tokens on which the neuron should be on, as nearly as a linear map can; else 0.
        """

    def rotate_residual(self, rotation: Float[Tensor, "d_model d_model"]) -> Head:
        """Another basis of the residual stream; the head is the returned one from then on.

        Args:
            rotation: orthogonal, and the identity on the all-ones direction, which LayerNorm takes away.
        """
