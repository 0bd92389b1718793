"""The stories of one benchmarked step, in the layouts that the loops use: flat, padded and packed."""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from jaxtyping import Int
from torch import Tensor
from torch.utils.data import DataLoader

from tti.data.module import Portion, StoryBatches, TrainingOrder
from tti.step import Batch

STEPS = 200  # from which typical steps are chosen
UNSCORED = -100  # target that cross-entropy ignores


@dataclass(frozen=True)
class Sample:
    """The same stories in three layouts.

    Attributes:
        batch: flat, as this project trains on them; every position is a real token.
        padded_tokens: one story per row, padded to the longest story of the whole step, chosen or not.
        padded_targets: the targets of these, ``UNSCORED`` at the padding and where the batch has no row.
        packed_tokens: the stories concatenated, separated by the end-of-text token and cut into equal rows no longer
            than the context, as nanoGPT does. All samples have the same shape, so the end of a longer one is dropped.
        packed_targets: the targets of these, ``UNSCORED`` where the batch has no row.
        step_tokens: real tokens of the whole step that the stories were chosen from.
    """

    batch: Batch
    padded_tokens: Int[Tensor, "story longest"]
    padded_targets: Int[Tensor, "story longest"]
    packed_tokens: Int[Tensor, "row position"]
    packed_targets: Int[Tensor, "row position"]
    step_tokens: int

    def to(self, device: torch.device) -> "Sample":
        """The same sample on ``device``."""
        there: dict[str, Any] = {
            name: value.to(device) for name, value in vars(self).items() if isinstance(value, Tensor | Batch)
        }
        return replace(self, **there)

    @property
    def padding(self) -> float:
        """The share of the padded positions that are padding."""
        return 1 - len(self.batch.tokens) / self.padded_tokens.numel()


def sampled(loader: DataLoader[Batch], steps: int, stories: int, context: int) -> list[Sample]:
    """Typical optimizer ``steps`` of a training, with ``stories`` each, evenly spaced in the order of their length.

    A step is typical if it pads about as much as the average step: one long story among 64 pads all others.

    Raises:
        ValueError: a step has fewer stories.
    """
    order, corpus = loader.sampler, loader.dataset
    assert isinstance(order, TrainingOrder)
    assert isinstance(corpus, StoryBatches)
    lengths = corpus.lengths
    wholes = _typical([order.step(step) for step in range(max(STEPS, steps))], lengths)[:steps]
    batches = [corpus[Portion(_spaced(whole, lengths, stories), 1.0)] for whole in wholes]
    positions = min(len(batch.tokens) + len(batch.stories.lengths) for batch in batches) - 1
    rows = -(-positions // context)
    return [
        Sample(
            batch,
            *_padded(batch, int(lengths[whole].max())),
            *_packed(batch, rows, positions // rows),
            step_tokens=int(lengths[whole].sum()),
        )
        for whole, batch in zip(wholes, batches, strict=True)
    ]


def _typical(
    wholes: list[Int[np.ndarray, "story"]], lengths: Int[np.ndarray, "corpus"]
) -> list[Int[np.ndarray, "story"]]:
    """Steps sorted by how close their share of real tokens is to that of all steps together."""
    scored = np.array([lengths[whole].sum() for whole in wholes])
    padded = np.array([lengths[whole].max() * len(whole) for whole in wholes])
    distance = np.abs(scored / padded - scored.sum() / padded.sum())
    return [wholes[place] for place in np.argsort(distance, kind="stable")]


def _spaced(
    whole: Int[np.ndarray, "story"], lengths: Int[np.ndarray, "corpus"], stories: int
) -> Int[np.ndarray, "chosen"]:
    if stories > len(whole):
        raise ValueError(f"stories={stories}, but a step has data.stories_per_step={len(whole)}")
    by_length = whole[np.argsort(lengths[whole], kind="stable")]
    chosen = by_length[((np.arange(stories) + 0.5) * len(whole) / stories).astype(int)]
    return whole[np.isin(whole, chosen)]  # in the order of the step, which mixes lengths


def _padded(batch: Batch, longest: int) -> tuple[Tensor, Tensor]:
    tokens = torch.zeros(len(batch.stories.lengths), longest, dtype=torch.long)
    targets = torch.full_like(tokens, UNSCORED)
    for row, (story, following) in enumerate(_stories(batch)):
        tokens[row, : len(story)] = story
        targets[row, : len(story)] = following
    return tokens, targets


def _packed(batch: Batch, rows: int, length: int) -> tuple[Tensor, Tensor]:
    stream = torch.cat([torch.cat((story, following[-1:])) for story, following in _stories(batch)])
    targets = stream.roll(-1)
    if batch.scored is not None:  # then the first token of a story, which follows the end of another, is no target
        between = torch.tensor([UNSCORED])
        targets = torch.cat([torch.cat((following, between)) for _, following in _stories(batch)])
    return stream[: rows * length].view(rows, length), targets[: rows * length].view(rows, length)


def _stories(batch: Batch) -> list[tuple[Tensor, Tensor]]:
    """Each story's tokens and, for every token, its target or ``UNSCORED``."""
    targets = batch.targets
    if batch.scored is not None:
        targets = torch.full_like(batch.tokens, UNSCORED).index_copy(0, batch.scored, batch.targets)
    lengths = batch.stories.lengths
    return list(zip(batch.tokens.split(lengths), targets.split(lengths), strict=True))
