"""The entropy floor: the loss of the ideal reader, below which no model can go on average.

Computed from exact probabilities (`tti.data.likelihood`), with the same predictions as a model's loss: every token but
the first of a story, and the end of the story.
"""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from tti.data.likelihood import Reading


@dataclass(frozen=True)
class Floor:
    """Nats a predicted token.

    Attributes:
        nats: exact for the stories that were read: a model's loss on *these* exceeds it by the model's ignorance alone.
        error: standard error of ``nats`` as an estimate for all stories of the grammar (ratio of two means over
            independent stories, delta method): the entropy of the stories, less that of their first token, over their
            mean number of predictions.
        stories: how many were read.
    """

    nats: float
    error: float
    stories: int


def floor(readings: Iterable[Reading]) -> Floor:
    """Of these stories."""
    sums = [(-float(reading.log_probs[1:].sum()), len(reading.log_probs) - 1) for reading in readings]
    total, count = np.array(sums).T
    nats = total.sum() / count.sum()
    error = np.sqrt(np.var(total - nats * count, ddof=1) / len(sums)) / count.mean()
    return Floor(float(nats), float(error), len(sums))
