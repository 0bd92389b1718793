"""Scores of parts that measure their own ceilings and nulls: shares of the best that an ideal code reaches."""

from collections.abc import Mapping

OF_CEILING = "_of_ceiling"
CEILING, ROTATED = "ceiling_", "rotated/"


def shares(metrics: Mapping[str, float], beside: str = "") -> dict[str, float]:
    """Scores over their ceilings, as ``<part>/<score>_of_ceiling``.

    The ceiling is the largest ``<part>/ceiling_<code>/<score>``: some perfect code reaches it.

    Args:
        metrics: ``<part>/<metric>`` of a run.
        beside: prefix of the scores of another code, such as ``rotated/``; empty for the run's own.
    """
    best: dict[tuple[str, str], float] = {}
    for name, value in metrics.items():
        part, _, inner = name.partition("/")
        code, _, score = inner.partition("/")
        if code.startswith(CEILING):
            best[part, score] = max(best.get((part, score), 0.0), value)
    scores = {place: metrics.get(f"{place[0]}/{beside}{place[1]}") for place in best}
    return {f"{part}/{score}{OF_CEILING}": value / best[part, score]
            for (part, score), value in scores.items() if value is not None and best[part, score]}  # fmt: skip


def rotated(metrics: Mapping[str, float]) -> dict[str, float]:
    """The scores of the rotation that a part made itself (``<part>/rotated/<score>``), by the names of the scores."""
    own = {name.replace(f"/{ROTATED}", "/", 1): v for name, v in metrics.items() if f"/{ROTATED}" in name}
    return own | shares(metrics, ROTATED)
