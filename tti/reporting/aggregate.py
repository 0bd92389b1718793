"""The aggregate: the minimum over families of the gain above both controls, of metrics that the court lets speak.

A minimum cannot be bought with one family: a model must gain in all. (A mean of z-scores let a collapsed model win.)
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence

import pandas as pd

from tti.reporting import over_seeds
from tti.reporting.analysis import Analysis
from tti.reporting.believed import Voice
from tti.reporting.cells import Cell, Found, Rows

SITE = "mlp.post/mean"  # neurons; the court tries metrics at mlp.post
TITLE = "The aggregate"
NOTE = (
    "Of each metric that has a voice (see the court): the score above the better of its rotation and the untrained "
    "network, in doses, which is to say divided by the metric's own change on planted layers from all of the truth to "
    "none. A family is a part of the evaluation, and its gain the mean over its metrics. **The aggregate is the "
    "minimum over families**, seed by seed; the mean stands beside it. Only runs with all families count."
)


def gains(
    voices: Sequence[Voice],
    trained: Mapping[str, pd.Series],
    rotated: Mapping[str, pd.Series],
    untrained: Mapping[str, pd.Series],
) -> pd.DataFrame:
    """The gain of each family by ``variant, seed``, in doses, for the runs that have all of them.

    Args:
        voices: the metrics that speak.
        trained, rotated, untrained: metric -> values by ``variant, seed``.
    """
    families: dict[str, list[pd.Series]] = defaultdict(list)
    for voice in dict.fromkeys(voices):
        name = f"{voice.metric}/{SITE}"
        if not all(name in each for each in (trained, rotated, untrained)):
            return pd.DataFrame()
        score, *controls = (voice.sign * each[name].astype(float) for each in (trained, rotated, untrained))
        beside = pd.concat(controls, axis=1).max(axis=1, skipna=False)
        families[voice.family].append((score - beside) / voice.unit)
    means = {family: pd.concat(each, axis=1).mean(axis=1, skipna=False) for family, each in families.items()}
    return pd.DataFrame(means).dropna()


def finding(analysis: Analysis) -> list[Found]:
    """The aggregate of each variant; nothing if no metric has a voice, or one that has was not measured."""
    voices = analysis.believed.voices if analysis.believed else ()
    found = gains(voices, analysis.every, analysis.rotated, analysis.untrained)
    if found.empty:
        return []
    columns = {"minimum": found.min(axis=1), "mean": found.mean(axis=1), **dict(found.items())}
    present = set(found.index.get_level_values("variant"))
    rows = [
        [
            Cell(variant, kind="name"),
            *[over_seeds.mean(values.xs(variant, level="variant")) for values in columns.values()],
        ]
        for variant in analysis.variants
        if variant in present
    ]
    return [Found(TITLE, [NOTE], Rows(["variant", *map(str, columns)], rows))]
