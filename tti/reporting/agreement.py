"""Agreement between raters beyond chance."""

import math
from collections import Counter
from collections.abc import Iterable, Sequence


def krippendorff_alpha(units: Iterable[Sequence[str]]) -> float:
    """Krippendorff's α for nominal categories, any number of raters and missing ratings.

    ``α = 1 − (n − 1) Σ_u Σ_{c≠k} n_uc n_uk / (m_u − 1) / Σ_{c≠k} n_c n_k`` (Krippendorff 2011, *Computing
    Krippendorff's Alpha-Reliability*, C): 1 is full agreement, 0 chance, below 0 systematic disagreement.

    Args:
        units: the categories given to each rated item; items with fewer than two do not count.

    Returns:
        NaN if no item was rated twice, or if all ratings are one category, so that chance explains everything.
    """
    pairable = [Counter(unit) for unit in units if len(unit) > 1]
    totals: Counter[str] = sum(pairable, Counter())
    n = totals.total()
    expected = n * n - sum(count * count for count in totals.values())
    if not expected:
        return math.nan
    observed = sum(
        (unit.total() ** 2 - sum(count * count for count in unit.values())) / (unit.total() - 1) for unit in pairable
    )
    return 1 - (n - 1) * observed / expected
