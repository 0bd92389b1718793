"""Codes of sentence autoencoders: what they keep and cost, and how far their latents stand for single factors."""

from collections.abc import Iterator, Mapping
from typing import Any

import pandas as pd

from tti.reporting import ceilings, charts, over_seeds
from tti.reporting.analysis import Analysis
from tti.reporting.ceilings import OF_CEILING
from tti.reporting.cells import Cell, Found, Rows
from tti.reporting.moves import SHOWN, Moves
from tti.reporting.statistics import CONFIDENCE, half_width

PART = "disentanglement/"
KEPT, SCORED, MOVED = "What codes cost and keep", "Disentanglement", "Sentences as one latent moves"
OF_USE = {"kl": "KL, nats", "active_units": "active latents", "loss": "loss", "loss_shuffled": "loss, other's code",
          "bleu": "BLEU", "bleu_shuffled": "BLEU, other's code", "exact": "exact", "exact_held_out": "exact, held out",
          "paraphrase": "paraphrases' distance"}  # fmt: skip
OF_SCORES = {"mig": "MIG", "mig_rank": "MIG, rank bins", "mig_values": "MIG per value", "sap": "SAP",
             "sap_values": "SAP per value", "dci_d": "DCI D", "dci_d_values": "DCI D per value", "info_m": "InfoM",
             "info_c": "InfoC", "informativeness": "informativeness", "specificity": "specificity"}  # fmt: skip
BESIDE = {"ceiling_scalar/": "ideal: a scalar for each factor", "ceiling_one_hot/": "ideal: a latent for each value",
          "rotated/": "the codes, rotated", "shuffled/": "codes of other sentences"}  # fmt: skip
SHARES = {f"mig_rank{OF_CEILING}": "MIG (rank bins) over its ceiling", f"sap{OF_CEILING}": "SAP over its ceiling",
          f"dci_d{OF_CEILING}": "DCI D over its ceiling"}  # fmt: skip
REBUILT = {"loss": ("loss given the code, nats per token", "less"), "bleu": ("BLEU from the code alone", "more")}
REALISED = "realized KL, nats per sentence"
UNTRAINED = "untrained"
NOTE_KEPT = (
    "Mean over seeds with its {confidence:.0%} t interval. KL per sentence, as realized. *Other's code*: the decoder "
    "gets the code of another sentence; what does not change, it does not take from the code. *Exact*: share of "
    "sentences written from the code alone without an error; *held out*: with pairs of factors that training lacks. "
    "A code has **collapsed** in a seed if no latent is active, or if the loss with another's code exceeds that with "
    "its own by at most {least:.0%} of what it does in the control. A variant with such a seed has no scores."
)
NOTE_SCORED = (
    "The last rows are the ceilings, codes that are perfect by construction, and the nulls (lowest to highest over all "
    "runs). A score says something only between the null and the nearer ceiling. *Specificity*: how far what changes "
    "in the decoded sentences, when one latent moves, is one factor. The figure has scores over the better of their "
    "two ceilings and what a code keeps, over its realized KL. Horizontal lines: codes without a KL, and the rows of "
    "this table (the nulls: mean over all runs, with their range)."
)
NOTE_MOVED = (
    "For each variant, lowest seed: the latent whose moves change a single factor most specifically, the factor that "
    "changes, and what is written at both ends and in the middle, from the code of the same sentence. The heatmaps "
    "have the share of sentences in which each factor changes, for every latent that changes one in at least "
    "{shown:.0%}, sorted by the factor that it changes most. Latents of other seeds come in another order."
)


def finding(analysis: Analysis) -> list[Found]:
    """The tables of the variants with codes; one that collapsed in a seed has no scores."""
    variants = [variant for variant in analysis.variants if len(_values(analysis.table, variant, "active_units"))]
    if not variants:
        return []
    kept = [_row(analysis.table, variant, OF_USE) for variant in variants]
    scored = [_row(analysis.table, variant, OF_SCORES) for variant in variants]
    scored += [_beside(analysis.table, prefix, label) for prefix, label in BESIDE.items()]
    said = {"confidence": CONFIDENCE, "least": analysis.config.collapsed, "shown": SHOWN}
    moved = [_moved(each) for each in shown(analysis)]
    moved += [[Cell(v, kind="name"), *[Cell("-")] * 5] for v in variants if moved and v in analysis.collapsed]
    header = ["variant", "latent", "factor", "low", "middle", "high"]
    return [
        Found(KEPT, [NOTE_KEPT.format(**said)], Rows(["variant", *OF_USE.values()], kept)),
        Found(SCORED, [NOTE_SCORED], Rows(["variant", *OF_SCORES.values()], scored)),
        *([Found(MOVED, [NOTE_MOVED.format(**said)], Rows(header, moved))] if moved else []),
    ]


def drawn(analysis: Analysis) -> dict[str, list[dict[str, Any]]]:
    """Title of a table -> the charts beside it."""
    return {SCORED: list(_fronts(analysis)), MOVED: [_heat(each) for each in shown(analysis)]}


def shown(analysis: Analysis) -> list[Moves]:
    """The moves that change anything, of variants that did not collapse."""
    return [each for each in analysis.moves if each.variant not in analysis.collapsed and each.order]


def _row(table: pd.DataFrame, variant: str, names: Mapping[str, str]) -> list[Cell]:
    return [Cell(variant, kind="name"), *[over_seeds.mean(_values(table, variant, name)) for name in names]]


def _beside(table: pd.DataFrame, prefix: str, label: str) -> list[Cell]:
    """The scores that stand beside those of the codes, over all runs; those of moves are of random directions."""
    names = [f"{PART}{prefix}{name}" for name in OF_SCORES]
    if prefix == "rotated/":
        names[-1] = f"{PART}specificity_rotated"
    return [
        Cell(label, kind="text"),
        *[over_seeds.lowest_to_highest(over_seeds.present(table, name)) for name in names],
    ]


def _moved(moves: Moves) -> list[Cell]:
    """The most specific move, from the code of the first sentence."""
    latent, texts = moves.best, moves.texts[0, moves.best]
    ends = [Cell(str(texts[step]), kind="text") for step in (0, len(texts) // 2, -1)]
    factor = Cell(moves.factor(latent), kind="text")
    return [Cell(moves.variant, kind="name"), Cell(str(latent), latent), factor, *ends]


def _fronts(analysis: Analysis) -> Iterator[dict[str, Any]]:
    """Scores over their ceilings, and what the code keeps, over the realized KL."""
    panels = {name: (label, "more") for name, label in SHARES.items()} | REBUILT
    variants = [variant for variant in analysis.variants if variant not in analysis.collapsed]
    for name, (label, better) in panels.items():
        points: dict[str, tuple[float, ...]] = {}
        rules = []
        for variant in variants:
            kl, score = (_values(analysis.table, variant, each) for each in ("kl", name))
            if len(kl) and len(score):
                points[variant] = (kl.mean(), score.mean(), half_width(kl.tolist()), half_width(score.tolist()))
            elif len(score):
                rules.append(_rule(variant, score))
        if points:
            rules += [_rule(label, values) for label, values in _anchors(analysis, name).items() if len(values)]
            yield charts.joined(analysis, points, REALISED, label, better) | {"rules": rules}


def _anchors(analysis: Analysis, name: str) -> dict[str, pd.Series]:
    """Label -> a share of a ceiling of the codes of known quality, over all runs that did not collapse."""
    if name not in SHARES:
        return {}
    runs = analysis.table.to_dict("records")
    found = {
        label: pd.Series([ceilings.shares(run, beside).get(f"{PART}{name}", float("nan")) for run in runs]).dropna()
        for beside, label in BESIDE.items()
    }
    return found | {UNTRAINED: analysis.untrained.get(f"{PART}{name}", pd.Series(dtype=float)).dropna()}


def _rule(name: str, values: pd.Series) -> dict[str, Any]:
    """A horizontal line at the mean, with the range as a band."""
    return {"name": name, "at": float(values.mean()), "low": float(values.min()), "high": float(values.max())}


def _heat(moves: Moves) -> dict[str, Any]:
    """The data of a heatmap of latents and factors."""
    values = moves.change[moves.order]
    return {
        "kind": "heat", "variant": moves.variant, "layer": "", "y": f"{moves.variant}, seed {moves.seed}", "most": 1.0,
        "rows": [f"latent {latent}" for latent in moves.order], "columns": list(moves.factors), "dense": True,
        "values": [[float(f"{value:.4g}") for value in row] for row in values], "unit": "of the sentences",
    }  # fmt: skip


def _values(table: pd.DataFrame, variant: str, name: str) -> pd.Series:
    return over_seeds.values(table, f"{PART}{name}", variant)
