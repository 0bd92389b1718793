"""What may be said from a few seeds: t intervals, paired tests, equivalence, and many comparisons at once."""

import math
from collections.abc import Mapping, Sequence
from typing import TypeVar

import numpy as np
from scipy import stats

CONFIDENCE = 0.95
ALPHA = 1 - CONFIDENCE
Key = TypeVar("Key")


def half_width(sample: Sequence[float]) -> float:
    """Half width of the t interval (df = n - 1) for the mean of a sample; NaN for fewer than two values."""
    if len(sample) < 2:
        return math.nan
    return float(stats.t.ppf((1 + CONFIDENCE) / 2, len(sample) - 1) * _standard_error(sample))


def difference_p(differences: Sequence[float]) -> float:
    """Two-sided p of a one-sample t test that the mean of paired differences is 0; NaN for fewer than two."""
    if len(differences) < 2:
        return math.nan
    mean, error = float(np.mean(differences)), _standard_error(differences)
    if error == 0:
        return 1.0 if mean == 0 else 0.0
    return float(2 * stats.t.sf(abs(mean) / error, len(differences) - 1))


def equivalence_p(differences: Sequence[float], margin: float) -> float:
    """p of two one-sided t tests (TOST; Schuirmann 1987) that the mean lies within ``-margin .. margin``.

    It is the larger of the two: below alpha, the ``1 - 2 alpha`` interval lies wholly within the margin. NaN for fewer
    than two values.
    """
    if len(differences) < 2:
        return math.nan
    mean, error = float(np.mean(differences)), _standard_error(differences)
    if error == 0:
        return 0.0 if abs(mean) < margin else 1.0
    return float(stats.t.sf((margin - abs(mean)) / error, len(differences) - 1))


def holm(p: Mapping[Key, float]) -> dict[Key, float]:
    """p-values corrected for their number (Holm 1979), which bounds the chance of any false rejection.

    A NaN is no test: it stays NaN and is not counted.
    """
    tested = sorted((value, key) for key, value in p.items() if not math.isnan(value)) if p else []
    corrected, largest = dict.fromkeys(p, math.nan), 0.0
    for rank, (value, key) in enumerate(tested):
        largest = max(largest, min(1.0, (len(tested) - rank) * value))
        corrected[key] = largest
    return corrected


def ratio(differences: np.ndarray, tokens: np.ndarray) -> tuple[float, float]:
    """Summed differences over summed tokens, and the half width of its interval over stories.

    The ratio estimator's linearised variance (Cochran 1977, 6.4): stories are the independent units, not tokens.

    Args:
        differences: ``[story]`` nats by which one model's loss on each story is above another's.
        tokens: ``[story]`` scored tokens of each.
    """
    n, estimate = len(tokens), float(differences.sum() / tokens.sum())
    if n < 2:
        return estimate, math.nan
    residual = differences - estimate * tokens
    error = math.sqrt(float((residual**2).sum()) / (n * (n - 1))) / float(tokens.mean())
    return estimate, float(stats.t.ppf((1 + CONFIDENCE) / 2, n - 1) * error)


def wilson(successes: int, n: int) -> tuple[float, float]:
    """Wilson's score interval of a rate (Wilson 1927); NaN without a trial."""
    if not n:
        return math.nan, math.nan
    interval = stats.binomtest(successes, n).proportion_ci(CONFIDENCE, method="wilson")
    return float(interval.low), float(interval.high)


def _standard_error(sample: Sequence[float]) -> float:
    return float(np.std(sample, ddof=1) / math.sqrt(len(sample)))
