"""Concept modules: what their units stand for beside neurons, and how much of the logits comes past them."""

import pandas as pd

from tti.reporting import over_seeds
from tti.reporting.analysis import Analysis
from tti.reporting.cells import Cell, Found, Rows
from tti.reporting.comparison import of_variant
from tti.reporting.statistics import CONFIDENCE

SITES = {"mlp.post": "neurons (mlp.post)", "concepts.discovered": "discovered", "concepts.known": "known"}
SCORES = {"f1": "F1", "f1_above_chance": "F1 above chance", "coverage": "coverage",
          "matched_correlation": "matched correlation", "context_f1": "F1 beyond the last two tokens"}  # fmt: skip
CEILINGS = {"_token": "a detector that knows the current token", "_context": "the ideal reader"}
PATHS = {"known": "known", "discovered": "discovered", "epsilon": "ε"}
LOST = {**{f"{path}_loss_increase": f"lost without {label}" for path, label in PATHS.items()},
        "rounded_loss_increase": "lost by rounding known"}  # fmt: skip
FOUND, LEAKED = "What concepts stand for", "What leaks past the known concepts"
NOTE_FOUND = (
    "The ground truth at the units of the concept module, beside the neurons of the MLPs: means over seeds with "
    "{confidence:.0%} t intervals; under each, its rotation and the untrained network."
)
NOTE_LEAKED = (
    "The share of the variance of the logits that flows through each path (Shapley values, so they sum to 1), and the "
    "nats per token that are lost if the path is held at its mean, or if every known concept is rounded to 0 or 1."
)


def finding(analysis: Analysis) -> list[Found]:
    """The tables of the variants with a concept module."""
    table = analysis.table
    variants = [v for v in analysis.variants if len(over_seeds.values(table, "leakage/known", v))]
    if not variants:
        return []
    scored = [[Cell(v, kind="name"), *row] for v in analysis.variants for row in _scored(analysis, v)]
    leaked = [
        [
            Cell(v, kind="name"),
            *[over_seeds.mean(over_seeds.values(table, f"leakage/{name}", v)) for name in (*PATHS, *LOST)],
        ]
        for v in variants
    ]
    said = NOTE_FOUND.format(confidence=CONFIDENCE)
    shares = [f"through {label}" for label in PATHS.values()]
    return [
        Found(FOUND, [said], Rows(["variant", "units", *SCORES.values()], [*scored, *_ceilings(table)])),
        Found(LEAKED, [NOTE_LEAKED], Rows(["variant", *shares, *LOST.values()], leaked)),
    ]


def _scored(analysis: Analysis, variant: str) -> list[list[Cell]]:
    """For each kind of units that has been scored, its scores and those of its controls."""
    rows = []
    for site, label in SITES.items():
        names = [f"ground_truth/{score}/{site}/mean" for score in SCORES]
        scores = [over_seeds.values(analysis.table, name, variant) for name in names]
        if len(scores[0]):
            rows.append([Cell(label, kind="text"), *map(over_seeds.mean, scores)])
            for what, of in (("rotated", analysis.rotated), ("untrained", analysis.untrained)):
                beside = [of_variant(of.get(name), variant).dropna() for name in names]
                if len(beside[0]):
                    rows.append([Cell(f"{label}, {what}", kind="text"), *map(over_seeds.mean, beside)])
    return rows


def _ceilings(table: pd.DataFrame) -> list[list[Cell]]:
    """Rows of the detectors with a given knowledge; only F1 has both."""
    rows = []
    for suffix, label in CEILINGS.items():
        cells = [Cell("-") for _ in SCORES]
        cells[0] = over_seeds.lowest_to_highest(over_seeds.present(table, f"ground_truth/f1_ceiling{suffix}"))
        rows.append([Cell(label, kind="text"), Cell("", kind="text"), *cells])
    rows[-1][-1] = over_seeds.lowest_to_highest(over_seeds.present(table, "ground_truth/context_f1_ceiling"))
    return rows
