"""The batch that a step consumes, and the view of one forward pass that regularizers and metrics get.

A *row* is a token in the loss. Where a batch says which tokens those are (``Batch.scored``), the selection happens
once, before the head and in :func:`row_activations`: whoever sees a :class:`Step` sees only rows that count.
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
        tokens: input tokens, all of them.
        targets: for each row the token that follows; after a story's last token, the end of text.
        stories: where each story begins and ends, and how it attends to itself.
        types: each row's place in a table of the vocabulary ids present, ``0 <= types < n_types``. In training of those
            in the batch; in validation of those in the whole set, so that tables of several batches add up. Made by
            the data loader, so that the step needs neither ``unique`` nor a table over the whole vocabulary.
        n_types: rows of such a table.
        target_bytes: UTF-8 bytes of the targets' text, in all; the end of text has none.
        share: what the batch's mean losses are multiplied by, so that the mean over the micro-batches and processes
            of an optimiser step is the mean over its rows: its rows over the average micro-batch's.
        scored: which of ``tokens`` the rows are, in order; None: all of them.
        labels: name -> one entry a row, of the corpus (``data.labels``).
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
        """The same batch on ``device``, copied without waiting."""
        moved = self._moved(lambda tensor: tensor.to(device, non_blocking=non_blocking))
        return replace(self, stories=self.stories.to(device), **moved)

    def pin_memory(self) -> "Batch":
        """The same batch in page-locked memory (torch's ``DataLoader`` calls this)."""
        return replace(self, stories=self.stories.pin(), **self._moved(Tensor.pin_memory))

    def _moved(self, move: Callable[[Tensor], Tensor]) -> dict[str, Any]:
        moved: dict[str, Any] = {name: move(value) for name, value in vars(self).items() if isinstance(value, Tensor)}
        return moved | {"labels": {name: move(label) for name, label in self.labels.items()}}

    def rows(self, values: Float[Tensor, "token ..."]) -> Float[Tensor, "row ..."]:
        """Of values for every token, those of the rows."""
        return values if self.scored is None else values.index_select(0, self.scored)

    @property
    def document(self) -> Int[Tensor, "row"]:
        """The story of the batch that each row is of."""
        stories = torch.repeat_interleave(torch.tensor(self.stories.lengths))
        return self.rows(stories.to(self.tokens.device, non_blocking=True))

    def __len__(self) -> int:
        """Rows: tokens in the loss."""
        return len(self.targets)


@dataclass(frozen=True)
class Step:
    """One forward pass, as regularizers (with gradient) and metrics (without) see it.

    ``activations`` maps each site that somebody asked for to ``[row, width]`` (``[row, head, d_head]`` inside
    attention); a site that has other rows than tokens keeps them (``tti.models.network.Site``). ``nll`` is each row's
    cross-entropy in nats, detached. ``notes`` collects scalars that a regularizer wants logged alongside its penalty;
    write with :meth:`note`.
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
    """Of recorded activations those of the batch's rows; sites that have no row for each token stay as they are."""
    return {
        name: batch.rows(activation) if sites[name].rows == "token" else activation
        for name, activation in activations.items()
    }
