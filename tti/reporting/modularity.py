"""Experts and tasks: which experts a task uses, and what it loses without its own."""

import math
from typing import Any

import pandas as pd

from tti.reporting import markdown, over_seeds
from tti.reporting.analysis import Analysis
from tti.reporting.cells import Cell, Found, Rows
from tti.reporting.experts import UTILISATION
from tti.reporting.statistics import ALPHA, CONFIDENCE

USED, LOST = "Which experts a task uses", "What a task loses without its expert"
KIND = "mlp.post"
OF_ROUTING = {"expert_entropy": "H(E)", "router_entropy": "H(E given x)", "information_excess": "I(E; T)",
              "information_given_type_excess": "I(E; T given V)"}  # fmt: skip
OF_ABLATION = {"dominance_renormalised": "gates rescaled", "dominance_next": "next expert",
               "dominance_random": "random experts", "dominance_blocks": "random blocks"}  # fmt: skip
NOTE_USED = (
    "Mean over layers and seeds, with its {confidence:.0%} t interval over seeds. Entropies in nats: H(E) of the "
    "experts that tokens are assigned to, H(E given x) of the router's softmax. I(E; T): what a token's experts tell "
    "about its task, above what its type tells (null: tasks permuted among the tokens of a type), as a share of H(T); "
    "I(E; T given V) the same within types, as a share of H(T given V). 0: no more than the token type tells; 1: "
    "everything. *p*: layers and seeds in which at most {alpha:.0%} of the permutations reach I(E; T given V)."
)
NOTE_LOST = (
    "Dominance: how much more a task's loss rises than that of the other tasks (nats) when its expert is ablated, "
    "under the best assignment of one expert to each task; mean over layers and seeds, with its {confidence:.0%} t "
    "interval over seeds. Either the other gates are rescaled, or the token goes to its next expert. Controls: experts "
    "drawn at random for each story, and random blocks of neurons as large as an expert. *p*: layers and seeds in "
    "which at most {alpha:.0%} of permutations of the tasks among the stories reach the dominance (gates rescaled; "
    "without experts: random blocks): the effects differ between tasks, which random blocks may show too."
)


def finding(analysis: Analysis) -> list[Found]:
    """The tables of the variants with these figures."""
    said = {"confidence": CONFIDENCE, "alpha": ALPHA}
    found = []
    for title, note, names, shown, ps in (
        (USED, NOTE_USED, OF_ROUTING, "information_given_type_excess", ("information_given_type_p",)),
        (LOST, NOTE_LOST, OF_ABLATION, "dominance_renormalised", ("dominance_renormalised_p", "dominance_blocks_p")),
    ):
        header = ["variant", *names.values(), f"{names[shown]}, untrained", "p"]
        rows = [
            [
                Cell(variant, kind="name"),
                *[over_seeds.mean(_values(analysis.table, variant, name)) for name in names],
                over_seeds.mean(_untrained(analysis, variant, shown)),
                _significant(analysis, variant, ps),
            ]
            for variant in analysis.variants
            if any(len(_values(analysis.table, variant, name)) for name in names)
        ]
        found += [Found(title, [note.format(**said)], Rows(header, rows))] if rows else []
    return found


def charts(analysis: Analysis) -> dict[str, list[dict[str, Any]]]:
    """Title of a table -> the heatmaps beside it."""
    return {
        USED: [_heat(analysis, each) for each in analysis.maps if each.what == UTILISATION],
        LOST: [_heat(analysis, each) for each in analysis.maps if each.what != UTILISATION],
    }


def _heat(analysis: Analysis, shown: Any) -> dict[str, Any]:
    """The data of a heatmap; its scale is that of all matrices of its kind."""
    alike = [each.values for each in analysis.maps if (each.what == UTILISATION) == (shown.what == UTILISATION)]
    what = "block" if shown.what.endswith("blocks") else "expert"
    p = "" if math.isnan(shown.p) else f", p {markdown.p_value(shown.p)}"
    return {
        "kind": "heat", "variant": shown.variant, "layer": shown.layer, "y": f"{shown.variant}, {shown.layer}{p}",
        "rows": [f"{what} {expert}" for expert in shown.experts], "columns": list(shown.tasks),
        "values": [[float(f"{value:.4g}") if math.isfinite(value) else None for value in row] for row in shown.values],
        "most": float(max(abs(values[pd.notna(values)]).max(initial=1e-9) for values in alike)),
        "unit": "of the task's assignments" if shown.what == UTILISATION else "nats",
    }  # fmt: skip


def _values(table: pd.DataFrame, variant: str, name: str) -> pd.Series:
    return over_seeds.values(table, f"modularity/{name}/{KIND}/mean", variant)


def _untrained(analysis: Analysis, variant: str, name: str) -> pd.Series:
    values = analysis.untrained.get(f"modularity/{name}/{KIND}/mean", pd.Series(dtype=float))
    there = variant in values.index.get_level_values(0)
    return values.loc[variant].dropna() if there else pd.Series(dtype=float)


def _significant(analysis: Analysis, variant: str, names: tuple[str, ...]) -> Cell:
    """In how many layers and seeds the first of these p-values that the variant has is at most 5 %."""
    runs = analysis.table[analysis.table["variant"] == variant]
    for name in names:
        stem = f"modularity/{name}/{KIND}/layer_"
        values = runs[[column for column in runs if str(column).startswith(stem)]].stack().dropna()
        if len(values):
            few = int((values <= ALPHA).sum())
            return Cell(f"≤ {ALPHA:g} in {few} of {len(values)}", few / len(values))
    return Cell("-")
