"""The court as one self-contained HTML page: the verdicts, and each metric's curves on a click."""

from pathlib import Path
from typing import Any

from markupsafe import Markup

from tti.court import document, tables
from tti.court.plan import Level
from tti.court.recipe import Recipe
from tti.court.scores import Score
from tti.court.verdict import Verdict
from tti.reporting import assets, encoding, markdown


def html(verdict: Verdict, to: Path) -> str:
    """Render the page; ``to`` is the path of the Markdown beside it."""
    last = verdict.sittings[-1]
    charts = {score.metric.name: charted(score) for score in last.scores}
    return assets.rendered(
        "tti.court:court.html",
        title=document.TITLE,
        what=markdown.plain(document.WHAT),
        sentences=[markdown.plain(sentence) for sentence in verdict.sentences()],
        criteria={name: markdown.plain(says) for name, says in document.criteria(verdict.trial).items()},
        meaning=markdown.plain(document.VERDICT),
        sittings=[(sitting.name, tables.verdicts(sitting, verdict.trained)) for sitting in reversed(verdict.sittings)],
        untried=dict(verdict.trial.untried.items()),
        provenance=[markdown.plain(line) for line in verdict.provenance],
        links=[("Markdown", to.name), ("All figures (CSV)", f"{to.stem}/figures.csv")],
        data=Markup(encoding.inline({"variants": {}, "charts": {}, "metrics": charts})),
    )


def charted(score: Score) -> dict[str, Any]:
    """A metric's curves, and its moves under every dial."""
    plan = score.plan
    base = _band(score, 0.0, plan.base)
    series = [
        {"variant": dial, "colour": i, "turn": 0, "variants": True,
         "points": [base, *(_band(score, level.dose, level.recipe) for level in levels)]}
        for i, (dial, levels) in enumerate(plan.doses.items())
    ]  # fmt: skip
    rules = [{"name": str(level), "at": float(score.values(level.recipe).mean())} for level in plan.nulls]
    nuisances = [_move(score, level, plan.base, True) for group in plan.nuisances.values() for level in group]
    shown = [_move(score, level, group[0].recipe, False) for group in plan.shown.values() for level in group[1:]]
    return {
        "says": f"{score.metric.says}; {score.metric.better} is better",
        "curve": {"kind": "lines", "x": "dose: share of a neuron that is not its own value", "y": score.metric.name,
                  "series": series, "rules": rules},
        "moves": {"x": "move, in doses; to the right: looks better", "y": score.metric.name,
                  "rows": [*nuisances, *shown], "allowed": score.thresholds.nuisance},
    }  # fmt: skip


def _band(score: Score, dose: float, recipe: Recipe) -> list[float]:
    values = score.values(recipe)
    return [dose, float(values.mean()), float(values.min()), float(values.max())]


def _move(score: Score, level: Level, start: Recipe, nuisance: bool) -> dict[str, Any]:
    return {"name": str(level), "at": score.move(level, start), "nuisance": nuisance}
