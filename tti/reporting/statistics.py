"""Statistics from a few seeds: t intervals, paired tests, equivalence, multiple comparisons, power."""

import math
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from typing import TypeVar

import numpy as np
from scipy import optimize, stats

CONFIDENCE = 0.95
ALPHA = round(1 - CONFIDENCE, 12)
POWER = 0.8  # with which a planned comparison should decide
MOST_SEEDS = 100  # worth planning for
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

    It is the larger of the two: below alpha, the ``1 - 2 alpha`` interval lies entirely within the margin. NaN for
    fewer than two values.
    """
    if len(differences) < 2:
        return math.nan
    mean, error = float(np.mean(differences)), _standard_error(differences)
    if error == 0:
        return 0.0 if abs(mean) < margin else 1.0
    return float(stats.t.sf((margin - abs(mean)) / error, len(differences) - 1))


def in_sequence(p: Mapping[Key, float], sequences: Iterable[Sequence[Key]]) -> dict[Key, float]:
    """p-values corrected for a fixed order within each sequence and for the number of sequences.

    The procedure of Bretz, Maurer, Brannath and Posch (2009, *A graphical approach*, Algorithm 2) on chains with equal
    initial shares of alpha. The first hypothesis of a chain is tested at the chain's share. Rejecting it passes the
    share to the next hypothesis, and after the last one to the remaining chains in equal parts. This bounds the
    probability of any false rejection. A single sequence needs no correction; sequences of one hypothesis are Holm's
    (1979) procedure.

    Args:
        p: p-value of each hypothesis. NaN means no test: it stays NaN, and the sequence continues without it.
        sequences: the hypotheses, in the order in which they are tested.

    Returns:
        Corrected p-values: those below alpha are rejected at that level.
    """
    chains = [[key for key in sequence if not math.isnan(p[key])] for sequence in sequences]
    chains = [chain for chain in chains if chain]
    corrected, largest = dict.fromkeys(p, math.nan), 0.0
    while chains:
        share = 1 / len(chains)  # a chain's share changes only when another chain ends, in equal parts
        chain = min(chains, key=lambda each: p[each[0]])
        largest = max(largest, min(1.0, p[chain[0]] / share))
        corrected[chain.pop(0)] = largest
        chains = [each for each in chains if each]
    return corrected


def detectable(sd: float, n: int, alpha: float = ALPHA) -> float:
    """The smallest mean difference that a paired t test of ``n`` seeds detects with the power ``POWER``.

    Args:
        sd: standard deviation of the paired differences.
        n: number of seeds.
        alpha: level of the two-sided test.

    Returns:
        The difference, in the unit of ``sd``; NaN for fewer than two seeds or an unknown deviation.
    """
    return math.nan if n < 2 or math.isnan(sd) else sd * _detectable(n, alpha)


@cache
def _detectable(n: int, alpha: float) -> float:
    return float(optimize.brentq(lambda effect: float(differs_power(effect, 1.0, n, alpha)) - POWER, 0, 1e4, xtol=1e-6))


def differs_power(mean: float, sd: float, n: np.ndarray | int, alpha: float = ALPHA) -> np.ndarray:
    """Power of a paired t test of ``n`` seeds if the change is ``mean`` (noncentral t)."""
    shift = np.sqrt(n) * abs(mean) / max(sd, 1e-12)
    power = stats.nct.sf(stats.t.ppf(1 - alpha / 2, np.subtract(n, 1)), np.subtract(n, 1), np.minimum(shift, 1e6))
    return np.asarray(power)


def equivalence_power(mean: float, sd: float, margin: float, n: np.ndarray | int, alpha: float = ALPHA) -> np.ndarray:
    """Power of two one-sided tests to show that a change of ``mean`` lies within the margin (Phillips 1990).

    A lower bound: the probability that both reject is at least the sum of the two probabilities minus one.
    """
    df, error = np.subtract(n, 1), max(sd, 1e-12) / np.sqrt(n)
    bound = stats.t.ppf(1 - alpha, df)
    # scipy gives NaN for probabilities too small to compute.
    below, above = (np.nan_to_num(stats.nct.cdf(-bound, df, np.clip((sign * mean - margin) / error, -1e6, 1e6)))
                    for sign in (1, -1))  # fmt: skip
    return np.maximum(0.0, below + above - 1)


def seeds_needed(mean: float, sd: float, margin: float, alpha: float = ALPHA) -> float:
    """The fewest seeds that decide with the power ``POWER`` if change and deviation are as observed.

    Either test may decide: for a difference, or for lying within the margin. Infinite beyond ``MOST_SEEDS``.
    """
    if math.isnan(mean) or math.isnan(sd):
        return math.nan
    seeds = np.arange(2, MOST_SEEDS + 1)
    power = np.maximum(differs_power(mean, sd, seeds, alpha), equivalence_power(mean, sd, margin, seeds, alpha))
    return float(next(iter(seeds[power >= POWER]), math.inf))


def ratio(differences: np.ndarray, tokens: np.ndarray) -> tuple[float, float]:
    """Summed differences over summed tokens, and the half width of its interval over stories.

    Uses the ratio estimator's linearised variance (Cochran 1977, 6.4): stories are the independent units, not tokens.

    Args:
        differences: ``[story]``, each story's loss of one model minus another's, in nats.
        tokens: ``[story]``, tokens in the loss of each story.
    """
    n, estimate = len(tokens), float(differences.sum() / tokens.sum())
    if n < 2:
        return estimate, math.nan
    residual = differences - estimate * tokens
    error = math.sqrt(float((residual**2).sum()) / (n * (n - 1))) / float(tokens.mean())
    return estimate, float(stats.t.ppf((1 + CONFIDENCE) / 2, n - 1) * error)


def wilson(successes: int, n: int) -> tuple[float, float]:
    """Wilson score interval of a rate (Wilson 1927); NaN without trials."""
    if not n:
        return math.nan, math.nan
    interval = stats.binomtest(successes, n).proportion_ci(CONFIDENCE, method="wilson")
    return float(interval.low), float(interval.high)


def _standard_error(sample: Sequence[float]) -> float:
    return float(np.std(sample, ddof=1) / math.sqrt(len(sample)))
