"""What one step hands around: the ``Batch`` that the data gives, and the ``Step`` that regularizers and metrics see."""

from dataclasses import dataclass, field, replace

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from tti.models.stories import Stories


@dataclass(frozen=True)
class Batch:
    """A flat batch of whole stories. Every position in it is scored: there is no padding and nothing to mask.

    Attributes:
        tokens: input token types.
        targets: the token that follows each; after a story's last token, the end of text.
        stories: where each story begins and ends, and how it attends to itself.
        types: each token's row in a table of token types, ``0 <= types < n_types``. In training the types present in
            the batch; in validation those present in the whole set, so that tables of several batches add up. Made by
            the data loader, so that the step needs neither ``unique`` nor a table over the whole vocabulary.
        n_types: rows of such a table.
        target_bytes: UTF-8 bytes of the targets' text, in all; the end of text has none.
        share: what the batch's mean losses are multiplied by, so that the mean over the micro-batches and processes
            of an optimiser step is the mean over its tokens: its tokens over the average micro-batch's.
    """

    tokens: Int[Tensor, "token"]
    targets: Int[Tensor, "token"]
    stories: Stories
    types: Int[Tensor, "token"]
    n_types: int
    target_bytes: int
    share: float = 1.0

    def to(self, device: torch.device, non_blocking: bool = True) -> "Batch":
        """The same batch on ``device``, copied without waiting."""
        moved = {name: getattr(self, name).to(device, non_blocking=non_blocking) for name in _TENSORS}
        return replace(self, stories=self.stories.to(device), **moved)

    def pin_memory(self) -> "Batch":
        """The same batch in page-locked memory (torch's ``DataLoader`` calls this)."""
        moved = {name: getattr(self, name).pin_memory() for name in _TENSORS}
        return replace(self, stories=self.stories.pin(), **moved)

    def __len__(self) -> int:
        """Scored tokens."""
        return len(self.tokens)


_TENSORS = ("tokens", "targets", "types")


@dataclass(frozen=True)
class Step:
    """One forward pass, as regularizers (with gradient) and metrics (without) see it.

    ``activations`` maps each site that somebody asked for to ``[token, width]`` (``[token, head, d_head]`` inside
    attention); ``nll`` is each token's cross-entropy in nats, detached. ``notes`` collects scalars that a regularizer
    wants logged beside its penalty; write with :meth:`note`.
    """

    batch: Batch
    nll: Float[Tensor, "token"]
    activations: dict[str, Tensor]
    model: nn.Module
    notes: dict[str, Tensor] = field(default_factory=dict)

    def note(self, name: str, value: Tensor) -> None:
        """Log the scalar ``value`` as ``train/<regularizer>/<name>``, summed over the sites that note it."""
        self.notes[name] = self.notes.get(name, 0) + value.detach()
