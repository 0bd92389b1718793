"""The court's tables: the verdicts, what the metrics say at every dose, and how far every dial moves them."""

import math

from tti.court.recipe import Recipe
from tti.court.scores import Score
from tti.court.trained import Trained
from tti.court.verdict import CRITERIA, NOT_IN, Sitting
from tti.reporting.cells import Cell, Rows

GOODHART = ("metric", "variant", "change of the metric, to the better", "of the truth", "of the loss", "seeds")
HEADER = ("metric", "verdict", "better", *CRITERIA)


def verdicts(sitting: Sitting, trained: Trained | None) -> Rows:
    """One row per metric, one column per criterion."""
    return Rows(HEADER, [_verdict(score, trained) for score in sitting.scores])


def _verdict(score: Score, trained: Trained | None) -> list[Cell]:
    passed, (mean, spread) = score.passed, score.calibration
    of = {dial: f"{value:.2f}" for dial, value in score.sensitivities.items()}
    cells = {
        "S": Cell(number(score.sensitivity), score.sensitivity, title=", ".join(f"{k} {v}" for k, v in of.items())),
        "N": Cell(number(score.nuisance), score.nuisance, f"({score.worst})"),
        "C": Cell(f"{number(mean, 3)} ± {number(spread, 3)}", abs(mean), title=f"on {score.null}"),
        "R": Cell(number(score.resolution), score.resolution if math.isfinite(score.resolution) else 1e9),
    }
    tested = [
        Cell(cell.text, cell.value, cell.spread, cell.title, "good" if passed[name] else "bad")
        for name, cell in cells.items()
    ]
    verdict = f"display only: {', '.join(score.failed)}" if score.failed else "reportable"
    return [
        Cell(score.metric.name, title=score.metric.says, kind="name"),
        Cell(verdict, len(score.failed), kind="text bad" if score.failed else "text good"),
        Cell(score.metric.better, kind="text"),
        *tested,
        _validity(score, trained),
        _survival(score, trained),
        Cell(f"{score.passes:.1f}", score.passes),
    ]


def _validity(score: Score, trained: Trained | None) -> Cell:
    found = trained.validity(score.metric) if trained else None
    if found is None:
        return Cell(NOT_IN)
    interval = f"[{number(found.low)}, {number(found.high)}]"
    kind = "good" if found.met else "bad"
    return Cell(number(found.correlation), found.correlation, interval, f"AUC {number(found.auc)}", kind)


def _survival(score: Score, trained: Trained | None) -> Cell:
    found = trained.survival(score.metric) if trained else None
    if found is None:
        return Cell(NOT_IN)
    (metric, _), (truth, margin) = found.metric, found.truth
    title = f"{found.variant}, {found.seeds} seeds: the metric improves by {number(metric, 3, '+')}"
    kind = ("good" if found.met else "bad") if found.moved else ""
    return Cell(number(truth, 3, "+") if found.moved else "not moved", truth, f"± {number(margin, 3)}", title, kind)


def goodhart(sitting: Sitting, trained: Trained) -> Rows:
    """One row per metric that networks were trained for: what became of it, of the truth, and of the loss."""
    found = [(score.metric, each) for score in sitting.scores if (each := trained.survival(score.metric))]
    rows = []
    for metric, each in found:
        changes = map(_change, (each.metric, each.truth, each.loss))
        seeds = Cell(str(each.seeds), each.seeds)
        rows.append([Cell(metric.name, kind="name"), Cell(each.variant, kind="text"), *changes, seeds])
    return Rows(GOODHART, rows)


def _change(change: tuple[float, float]) -> Cell:
    mean, margin = change
    return Cell(number(mean, 4, "+"), mean, f"± {number(margin, 4)}")


def responses(sitting: Sitting) -> Rows:
    """The mean of every metric at every dose, and on the nulls."""
    plan = sitting.scores[0].plan
    levels = [*(level for group in plan.doses.values() for level in group), *plan.nulls]
    header = ["metric", "base (0)", *(f"{level} ({level.dose:.2f})" for level in levels)]
    recipes = [plan.base, *(level.recipe for level in levels)]
    rows = [
        [Cell(score.metric.name, kind="name"), *(_mean(score, recipe) for recipe in recipes)]
        for score in sitting.scores
    ]
    return Rows(header, rows)


def moves(sitting: Sitting) -> Rows:
    """How far every nuisance, and every dial without a verdict, moves each metric, in doses."""
    plan = sitting.scores[0].plan
    nuisances = [level for group in plan.nuisances.values() for level in group]
    shown = [(level, group[0]) for group in plan.shown.values() for level in group[1:]]
    header = ["metric", *map(str, nuisances), *(str(level) for level, _ in shown)]
    rows = [
        [
            Cell(score.metric.name, kind="name"),
            *(_move(score.move(level)) for level in nuisances),
            *(_move(score.move(level, first.recipe)) for level, first in shown),
        ]
        for score in sitting.scores
    ]
    return Rows(header, rows)


def _mean(score: Score, recipe: Recipe) -> Cell:
    mean = float(score.values(recipe).mean())
    return Cell(number(mean, 3), mean)


def _move(move: float) -> Cell:
    return Cell(number(move, 2, "+"), move)


def number(value: float, digits: int = 2, sign: str = "") -> str:
    """A figure; ``-`` if it is undefined, ``none`` if it is infinite."""
    if math.isnan(value):
        return "-"
    return "none" if math.isinf(value) else f"{value:{sign},.{digits}f}"
