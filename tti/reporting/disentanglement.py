"""Codes of sentence autoencoders: what they keep and cost, and how far their latents stand for single factors."""

from collections.abc import Mapping

import numpy as np
import pandas as pd

from tti.reporting import over_seeds, tables
from tti.reporting.analysis import Analysis
from tti.reporting.cells import Cell, Found, Rows
from tti.reporting.statistics import CONFIDENCE

PART = "disentanglement/"
KEPT, SCORED, MOVED = "What codes cost and keep", "Disentanglement", "Sentences as one latent moves"
OF_USE = {"kl": "KL, nats", "active_units": "active latents", "loss": "loss", "loss_shuffled": "loss, other's code",
          "bleu": "BLEU", "bleu_shuffled": "BLEU, other's code", "exact": "exact", "exact_held_out": "exact, held out",
          "paraphrase": "paraphrases' distance"}  # fmt: skip
OF_SCORES = {"mig": "MIG", "mig_values": "MIG per value", "sap": "SAP", "sap_values": "SAP per value", "dci_d": "DCI D",
             "dci_d_values": "DCI D per value", "info_m": "InfoM", "info_c": "InfoC",
             "informativeness": "informativeness", "specificity": "specificity"}  # fmt: skip
BESIDE = {"ceiling_scalar/": "ideal: a scalar for each factor", "ceiling_one_hot/": "ideal: a latent for each value",
          "rotated/": "the codes, rotated", "shuffled/": "codes of other sentences"}  # fmt: skip
NOTE_KEPT = (
    "Mean over seeds with its {confidence:.0%} t interval. KL per sentence, as realized. *Other's code*: the decoder "
    "gets the code of another sentence; what does not change, it does not take from the code. *Exact*: share of "
    "sentences written from the code alone without an error; *held out*: with pairs of factors that training lacks."
)
NOTE_SCORED = (
    "The last rows are the ceilings, codes that are perfect by construction, and the nulls (lowest to highest over all "
    "runs). A score says something only between the null and the nearer ceiling. *Specificity*: how far what changes "
    "in the decoded sentences, when one latent moves, is one factor."
)
NOTE_MOVED = (
    "For each variant, lowest seed: the latent whose moves change a single factor most specifically, the factor that "
    "changes, and what is written at both ends, from the code of the same sentence."
)
COLLAPSED = "collapsed in {some} of {seeds} seeds"


def finding(analysis: Analysis) -> list[Found]:
    """The tables of the variants with codes; a variant that collapsed in a seed is marked, and has no scores."""
    variants = [variant for variant in analysis.variants if len(_values(analysis.table, variant, "active_units"))]
    if not variants:
        return []
    said = NOTE_KEPT.format(confidence=CONFIDENCE)
    kept = [[Cell(v, kind="name"), *[_mean(analysis.table, v, name) for name in OF_USE]] for v in variants]
    scored = [[Cell(v, kind="name"), *_scores(analysis.table, v)] for v in variants]
    scored += [_beside(analysis.table, prefix, label) for prefix, label in BESIDE.items()]
    moved = _moved(analysis)
    return [
        Found(KEPT, [said], Rows(["variant", *OF_USE.values()], kept)),
        Found(SCORED, [NOTE_SCORED], Rows(["variant", *OF_SCORES.values()], scored)),
        *([Found(MOVED, [NOTE_MOVED], Rows(["variant", "latent", "factor", "low", "high"], moved))] if moved else []),
    ]


def _scores(table: pd.DataFrame, variant: str) -> list[Cell]:
    units = _values(table, variant, "active_units")
    if collapsed := int((units < 1).sum()):
        marked = Cell(COLLAPSED.format(some=collapsed, seeds=len(units)), kind="text bad")
        return [marked, *[Cell("-") for _ in list(OF_SCORES)[1:]]]
    return [_mean(table, variant, name) for name in OF_SCORES]


def _beside(table: pd.DataFrame, prefix: str, label: str) -> list[Cell]:
    """The scores that stand beside those of the codes, over all runs; those of moves are of random directions."""
    names = [f"{PART}{prefix}{name}" for name in OF_SCORES]
    if prefix == "rotated/":
        names[-1] = f"{PART}specificity_rotated"
    return [
        Cell(label, kind="text"),
        *[over_seeds.lowest_to_highest(over_seeds.present(table, name)) for name in names],
    ]


def _moved(analysis: Analysis) -> list[list[Cell]]:
    """For each variant, the move that changes one factor most specifically."""
    rows: dict[str, list[Cell]] = {}
    for key in sorted(analysis.found.evaluations, key=lambda key: key.seed):
        variant = analysis.selection.name(key)
        arrays = _arrays(analysis, key)
        if variant in rows or len(arrays) < 3 or not np.nan_to_num(arrays["intervention/change"]).any():
            continue
        change, texts, names = (arrays[name] for name in ("intervention/change", "traversal/text", "factor/name"))
        rest = np.nan_to_num(change)
        most = rest.max(1)
        latent = int((most - (rest.sum(1) - most)).argmax())
        ends = [Cell(str(texts[0, latent, end]), kind="text") for end in (0, -1)]
        factor = str(names[rest[latent].argmax()])
        rows[variant] = [Cell(variant, kind="name"), Cell(str(latent), latent), Cell(factor, kind="text"), *ends]
    return [rows[variant] for variant in analysis.variants if variant in rows]


def _arrays(analysis: Analysis, key: object) -> Mapping[str, np.ndarray]:
    one = {each: value for each, value in analysis.found.evaluations.items() if each == key}
    wanted = ("intervention/change", "traversal/text", "factor/name")
    return {name: values for each in wanted for _, name, values, _ in tables.arrays(one, each, [], MOVED)}


def _mean(table: pd.DataFrame, variant: str, name: str) -> Cell:
    return over_seeds.mean(_values(table, variant, name))


def _values(table: pd.DataFrame, variant: str, name: str) -> pd.Series:
    return over_seeds.values(table, f"{PART}{name}", variant)
