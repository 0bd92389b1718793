"""Who is dominated, and how much of the plane a front dominates. Loss is to be small, the other figure large."""

from collections.abc import Sequence

import numpy as np


def front(losses: Sequence[float], scores: Sequence[float]) -> np.ndarray:
    """``[point]`` bool: no other point is at least as good in both and better in one. NaN is never on the front."""
    loss, score = np.asarray(losses, float), np.asarray(scores, float)
    no_worse = (loss[None] <= loss[:, None]) & (score[None] >= score[:, None])
    better = (loss[None] < loss[:, None]) | (score[None] > score[:, None])
    return ~(no_worse & better).any(axis=1) & np.isfinite(loss) & np.isfinite(score)


def hypervolume(losses: Sequence[float], scores: Sequence[float], reference: tuple[float, float]) -> float:
    """Area between the front and a reference point ``(loss, score)``; points worse than that in either add nothing."""
    on_front = front(losses, scores)
    points = sorted(zip(np.asarray(losses, float)[on_front], np.asarray(scores, float)[on_front], strict=True))
    area, height = 0.0, reference[1]
    for loss, score in points:  # the front rises with the loss
        if loss < reference[0] and score > height:
            area += (reference[0] - loss) * (score - height)
            height = score
    return float(area)
