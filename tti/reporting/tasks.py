"""The answers of each task, beside models of that task alone and baselines that ignore the prompt."""

from collections.abc import Sequence

import pandas as pd

from tti.markdown import code, escaped
from tti.reporting import over_seeds
from tti.reporting.analysis import Analysis
from tti.reporting.cells import Cell, Found, Rows
from tti.reporting.statistics import CONFIDENCE

SCORES = {"exact_match": "exact match", "f1": "F1", "accuracy": "accuracy"}
BASELINES = {
    "majority_": "most frequent answer",
    "promptless_": "without the prompt",
    "question_": "with the question alone",
}
MEAN = "mean"
SOLVED = 0.95  # a task counts only if a model of that task alone exceeds this in every seed


def finding(analysis: Analysis) -> list[Found]:
    """One table per score, if runs were evaluated on tasks; those after the first are folded, or left out if equal."""
    tasks = [name for name in _of(analysis.table, "answers/exact_match/") if name != MEAN]
    if not tasks:
        return []
    first, *others = ((label, _rows(analysis, score, tasks)) for score, label in SCORES.items())
    equal = [label for label, rows in others if _texts(rows) == _texts(first[1])]
    notes = [*_notes(analysis, tasks), *([f"Equal in every cell: {' and '.join(equal)}."] if equal else [])]
    return [
        Found(f"Answers: {first[0]}", notes, first[1]),
        *[Found(f"Answers: {label}", [], rows, folded=True) for label, rows in others if label not in equal],
    ]


def _texts(rows: Rows) -> list[list[str]]:
    return [[cell.text + cell.spread for cell in row] for row in rows.rows]


def _rows(analysis: Analysis, score: str, tasks: Sequence[str]) -> Rows:
    columns = [*tasks, MEAN]
    rows = []
    for variant in analysis.variants:
        of_tasks = (over_seeds.values(analysis.table, f"answers/{score}/{task}", variant) for task in columns)
        rows.append([Cell(variant, kind="name"), *map(over_seeds.mean, of_tasks)])
    if len(alone := references(analysis)):
        cells = [over_seeds.mean(over_seeds.present(alone, f"answers/{score}/{task}")) for task in tasks]
        rows.append([Cell("one model per task", kind="text"), *cells, Cell("-")])
    for prefix, label in BASELINES.items():
        names = [f"answers/{prefix}{score}/{task}" for task in columns]
        if names[0] in analysis.table:
            cells = [over_seeds.lowest_to_highest(analysis.table[name]) for name in names]
            rows.append([Cell(label, kind="text"), *cells])
    return Rows(["variant", *columns], rows)


def references(analysis: Analysis) -> pd.DataFrame:
    """The evaluations of the models of one task, one row per run."""
    return pd.DataFrame([{"variant": key.variant, **each} for key, each in analysis.found.references.items()])


def _notes(analysis: Analysis, tasks: Sequence[str]) -> list[str]:
    score = (
        f"Greedy decoding; mean ± half width of its {CONFIDENCE:.0%} t interval over seeds. The last rows are "
        "baselines: the most frequent answer of the task in training, and the same networks without the prompt or with "
        "the question alone, which they were not trained on (lowest to highest over all runs)."
    )
    alone = references(analysis)
    if not len(alone):
        none = "no finished runs of models of one task alone (`references=`), so it is not known which can be learned"
        return [score, f"Tasks: {none}."]
    solved = {task: _of_task(alone, task) > SOLVED for task in tasks}
    learned, others = ([escaped(task) for task, each in solved.items() if each == wanted] for wanted in (True, False))
    said = f"above {SOLVED:.0%} exact match in every seed: {', '.join(learned) or 'none'}"
    open_ = f"; not: {', '.join(others)}, about which nothing can be concluded" if others else ""
    names = ", ".join(code(name) for name in dict.fromkeys(alone["variant"]))
    return [score, f"*One model per task* ({names}), evaluated on items of its task: {said}{open_}."]


def _of_task(alone: pd.DataFrame, task: str) -> float:
    """The lowest exact match over seeds of the models of a task; NaN if there are none."""
    name = f"answers/exact_match/{task}"
    return float(alone[name].min()) if name in alone else float("nan")


def _of(table: pd.DataFrame, prefix: str) -> list[str]:
    return [str(name).removeprefix(prefix) for name in table if str(name).startswith(prefix)]
