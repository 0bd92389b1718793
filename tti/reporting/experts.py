"""The matrices of experts and tasks in the evaluations of some runs, for their heatmaps."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.optimize import linear_sum_assignment

from tti.evaluation_folder import Evaluation, Part
from tti.models.taps import kind_of, layer_of
from tti.reporting import tables
from tti.reporting.given import Key, is_a_site
from tti.reporting.selection import Selection

UTILISATION, EXPERTS, BLOCKS = "utilisation", "ablation_renormalised", "ablation_blocks"
CANNOT = "experts not shown"


@dataclass(frozen=True)
class Map:
    """A matrix of experts and tasks of one layer of one run.

    Attributes:
        variant, seed, layer: where it is from; ``layer`` as in ``layer_3``.
        what: ``utilisation``, ``ablation_renormalised``, or in a network without experts ``ablation_blocks``.
        experts: numbers of the experts (or blocks): first those of the tasks under the best assignment of one expert to
            each task, then the others.
        tasks: names of the tasks.
        values: ``[expert, task]``, share of the task's assignments or change of its loss in nats.
        p: p-value of the dominance of an ablation matrix, NaN otherwise.
    """

    variant: str
    seed: int
    layer: str
    what: str
    experts: Sequence[int]
    tasks: Sequence[str]
    values: np.ndarray
    p: float


def maps(evaluations: Mapping[Key, Evaluation], selection: Selection) -> tuple[list[Map], list[str]]:
    """The matrices of the lowest seed of each variant, by layer; and remarks on what could not be read."""
    remarks: list[str] = []
    found: dict[tuple[str, str, str], Map] = {}
    for key in sorted(evaluations, key=lambda key: key.seed):
        one = {key: evaluations[key]}
        shown = EXPERTS if any(True for _ in tables.arrays(one, f"*/{EXPERTS}", [], CANNOT)) else BLOCKS
        for _, name, matrix, part in tables.arrays(one, f"*/{shown}", remarks, CANNOT):
            site, tasks = name.removesuffix(f"/{shown}"), tuple(part.notes.get("tasks", "").split(", "))
            if not is_a_site(site) or matrix.shape[1:] != (len(tasks),):
                continue
            rows = assigned_first(matrix)
            where = selection.name(key), key.seed, layer_of(site)
            p = part.metrics.get(f"dominance_{shown.removeprefix('ablation_')}_p/{kind_of(site)}/{where[2]}", math.nan)
            for what, values in ((shown, matrix), (UTILISATION, _utilisation(part, site))):
                if values is not None and values.shape == matrix.shape:
                    p_of = p if what == shown else math.nan
                    each = Map(*where, what, rows.tolist(), tasks, values[rows], p_of)
                    found.setdefault((each.variant, each.layer, what), each)
    order = list(dict.fromkeys(each.variant for each in found.values()))
    return sorted(found.values(), key=lambda each: order.index(each.variant)), remarks


def assigned_first(matrix: np.ndarray) -> np.ndarray:
    """The rows of an ablation matrix: those of the best assignment to the columns, in their order, then the others."""
    tasks = matrix.shape[1]
    if len(matrix) < tasks or tasks < 2 or not np.isfinite(matrix).all():
        return np.arange(len(matrix))
    beyond = matrix - (matrix.sum(1, keepdims=True) - matrix) / (tasks - 1)
    expert, task = linear_sum_assignment(beyond, maximize=True)
    first = expert[np.argsort(task)]
    return np.concatenate([first, np.setdiff1d(np.arange(len(matrix)), first)])


def _utilisation(part: Part, site: str) -> np.ndarray | None:
    name = f"{site}/{UTILISATION}"
    return part.arrays[name].T if name in part.arrays else None
