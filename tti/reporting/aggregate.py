"""The declared aggregate of interpretability: a weighted mean of z-scores whose scale no compared run can move."""

from collections.abc import Mapping

import numpy as np
import pandas as pd

MINIMAL_SPREAD = 1e-9


def z_scores(
    runs: pd.DataFrame, weights: Mapping[str, float], baseline: pd.DataFrame, untrained: pd.DataFrame
) -> pd.DataFrame:
    """Each metric of each run, less the baseline's mean, in units of a standard deviation fixed beforehand.

    That is the standard deviation of the two groups *baseline* and *its untrained networks* together, each counted as
    one half: with ``b, r`` their means, ``sqrt((var_b + var_r) / 2 + (b - r)² / 4)``. So 0 is the baseline, and
    neither adding nor removing a compared run changes another's score. What the metric does on untrained networks is
    in the scale, never in the sign.

    Args:
        runs: a row a run with the metrics as columns.
        weights: metric -> weight, negative where less is more interpretable. Only its sign is used here.
        baseline: the rows of the baseline.
        untrained: the same metrics of random-init networks.

    Returns:
        The metrics that have a scale: those that differ at all between or within the two groups.
    """
    scores = {}
    for metric, weight in weights.items():
        if not all(metric in table for table in (runs, baseline, untrained)):
            continue
        b, r = baseline[metric].dropna().to_numpy(float), untrained[metric].dropna().to_numpy(float)
        if not len(b) or not len(r):
            continue
        spread = float(np.sqrt((b.var() + r.var()) / 2 + (b.mean() - r.mean()) ** 2 / 4))
        if spread > MINIMAL_SPREAD:
            scores[metric] = np.sign(weight) * (runs[metric] - b.mean()) / spread
    return pd.DataFrame(scores, index=runs.index)


def aggregate(scores: pd.DataFrame, weights: Mapping[str, float]) -> pd.Series:
    """Weighted mean of z-scores; NaN where a run lacks one of them: no score is made up."""
    size = pd.Series({metric: abs(weights[metric]) for metric in scores})
    total: pd.Series = (scores * size).sum(axis=1, skipna=False) / size.sum()
    return total
