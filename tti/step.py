"""The batch that a step consumes, and the view of its forward pass that regularizers and metrics receive.

A *row* is a token in the loss. If a batch says which tokens those are (``Batch.scored``), they are selected once,
before the head and in :func:`row_activations`: code that sees a :class:`Step` sees only rows that count.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from tti.models.network import Site
from tti.models.stories import Stories


@dataclass(frozen=True)
class Batch:
    """A flat batch of whole stories, without padding.

    Attributes:
        tokens: all input tokens.
        targets: for each row, the token that follows; after a story's last token, the end-of-text token.
        stories: the layout: where each story begins and ends, and how it attends to itself.
        types: each row's index into a table of the vocabulary ids present, ``0 <= types < n_types``. In training the
            table covers the batch; in validation the whole set, so that tables of several batches can be added. The
            data loader computes it, so that the step needs neither ``unique`` nor a table over the whole vocabulary.
        n_types: number of rows of that table.
        target_bytes: total UTF-8 bytes of the targets' text; an end-of-text token has none.
        share: factor for the batch's mean losses, its number of rows over the average micro-batch's, with which the
            mean over micro-batches and processes of an optimizer step is the mean over all its rows.
        scored: indices into ``tokens`` of the rows, in order; None if every token is a row.
        labels: the corpus's labels (``data.labels``), by name, one entry per row.
    """

    tokens: Int[Tensor, "token"]
    targets: Int[Tensor, "row"]
    stories: Stories
    types: Int[Tensor, "row"]
    n_types: int
    target_bytes: int
    share: float = 1.0
    scored: Int[Tensor, "row"] | None = None
    labels: Mapping[str, Tensor] = field(default_factory=dict)

    def to(self, device: torch.device, non_blocking: bool = True) -> "Batch":
        """The same batch on ``device``, copied asynchronously."""
        moved = self._moved(lambda tensor: tensor.to(device, non_blocking=non_blocking))
        return replace(self, stories=self.stories.to(device), **moved)

    def pin_memory(self) -> "Batch":
        """The same batch in page-locked memory (torch's ``DataLoader`` calls this)."""
        return replace(self, stories=self.stories.pin(), **self._moved(Tensor.pin_memory))

    def _moved(self, move: Callable[[Tensor], Tensor]) -> dict[str, Any]:
        moved: dict[str, Any] = {name: move(value) for name, value in vars(self).items() if isinstance(value, Tensor)}
        return moved | {"labels": {name: move(label) for name, label in self.labels.items()}}

    def rows(self, values: Float[Tensor, "token ..."]) -> Float[Tensor, "row ..."]:
        """Select the rows from values given for every token."""
        return values if self.scored is None else values.index_select(0, self.scored)

    @property
    def document(self) -> Int[Tensor, "row"]:
        """Index of the story that each row belongs to."""
        stories = torch.repeat_interleave(torch.tensor(self.stories.lengths))
        return self.rows(stories.to(self.tokens.device, non_blocking=True))

    def __len__(self) -> int:
        """Number of rows, that is, tokens in the loss."""
        return len(self.targets)


@dataclass(frozen=True)
class Step:
    """One forward pass, as regularizers (with gradient) and metrics (without) see it.

    Attributes:
        batch: the batch.
        nll: each row's cross-entropy in nats, detached.
        activations: each requested site's ``[row, width]`` (``[row, head, d_head]`` inside attention). A site whose
            rows are not tokens keeps its own (``tti.models.network.Site``).
        model: the network.
        notes: scalars that a regularizer logs alongside its penalty; write with :meth:`note`.
    """

    batch: Batch
    nll: Float[Tensor, "row"]
    activations: dict[str, Tensor]
    model: nn.Module
    notes: dict[str, Tensor] = field(default_factory=dict)

    def note(self, name: str, value: Tensor) -> None:
        """Log the scalar ``value`` as ``train/<regularizer>/<name>``, summed over the sites that note it."""
        self.notes[name] = self.notes.get(name, 0) + value.detach()


def row_activations(
    batch: Batch, sites: Mapping[str, Site], activations: Mapping[str, Float[Tensor, "token ..."]]
) -> dict[str, Tensor]:
    """Recorded activations of the batch's rows; sites without a row per token stay as they are."""
    return {
        name: batch.rows(activation) if sites[name].rows == "token" else activation
        for name, activation in activations.items()
    }
