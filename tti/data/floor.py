"""The entropy floor: the loss of the ideal reader, below which no model can go on average.

Computed from exact probabilities (`tti.data.likelihood`), over the same predictions as a model's loss: every token
except a story's first, and the end of the story.
"""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from tti.data.likelihood import Reading


@dataclass(frozen=True)
class Floor:
    """The entropy floor in nats per predicted token.

    Attributes:
        nats: exact for the stories that were read: any excess of a model's loss on *these* stories is the model's own.
        error: standard error of ``nats`` as an estimate for all stories of the grammar (ratio of two means over
            independent stories, delta method). The quantity estimated is the entropy of a story minus that of its first
            token, divided by the mean number of predictions.
        stories: number of stories read.
    """

    nats: float
    error: float
    stories: int


def floor(readings: Iterable[Reading]) -> Floor:
    """The entropy floor of these stories."""
    sums = [(-float(reading.log_probs[1:].sum()), len(reading.log_probs) - 1) for reading in readings]
    total, count = np.array(sums).T
    nats = total.sum() / count.sum()
    error = np.sqrt(np.var(total - nats * count, ddof=1) / len(sums)) / count.mean()
    return Floor(float(nats), float(error), len(sums))
