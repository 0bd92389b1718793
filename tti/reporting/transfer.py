"""Transfer: whether disentangled codes make the neurons of encoder and decoder easier to interpret."""

from collections.abc import Mapping
from itertools import product

import pandas as pd

from tti.reporting import over_seeds
from tti.reporting.analysis import Analysis
from tti.reporting.cells import Cell, Found, Rows
from tti.reporting.comparison import of_variant
from tti.reporting.statistics import CONFIDENCE

PLACES = {"encoder": "encoder.mlp.post/mean", "decoder": "mlp.post/mean"}
DECIDES = "ground_truth/f1_above_chance"
BESIDE = {"ground_truth/f1": "F1", "ground_truth/context_f1": "F1 beyond the last two tokens",
          "selectivity/selectivity_top5_weighted": "selectivity", "utilisation/density": "density",
          "geometry/mean_squared_correlation_excess": "r² above floor"}  # fmt: skip
FACTOR = "ground_truth/f1_"
KNOWING = {"_token": "the current token", "_two_tokens": "the last two tokens", "_context": "the sentence"}
TRANSFER, OTHERS, FACTORS = "Transfer to neurons", "Neurons by other measures", "Neurons by factor"
NOTE_TRANSFER = (
    "The best neuron of `mlp.post` for each value of each factor, its threshold chosen on half of the sentences: F1 on "
    "the other half, so scaled that always saying yes scores 0. Beside it a random rotation of the same activations, "
    "and the network before training. *Above its rotation* is what belongs to single neurons; *more than the "
    "control's* is that difference minus the control's, paired by seed. Means with {confidence:.0%} t intervals; "
    "estimates, not tests."
)
NOTE_OTHERS = (
    "Means over seeds; in brackets the rotation's. The last rows are what a detector scores that knows the current "
    "token, the last two tokens, or the whole sentence."
)
NOTE_FACTORS = "F1 of the best neurons, mean over a factor's values. The last rows: lowest to highest over all runs."


def finding(analysis: Analysis) -> list[Found]:
    """The tables of the runs whose encoders and decoders have been scored against the factors of their sentences."""
    scored = [v for v in analysis.variants if len(_values(analysis.table, v, f"{DECIDES}/{PLACES['encoder']}"))]
    if not scored:
        return []
    rows = list(product(scored, PLACES))
    header = ["score", "rotated", "untrained", "above its rotation", "more than the control's"]
    decides = [[*_named(v, place), *_decided(analysis, v, f"{DECIDES}/{PLACES[place]}")] for v, place in rows]
    others = [
        [*_named(v, place), *[_with_rotation(analysis, v, f"{name}/{PLACES[place]}") for name in BESIDE]]
        for v, place in rows
    ]
    factors = _factors(analysis.table)
    by_factor = [
        [*_named(v, place), *[_mean(analysis.table, v, f"{FACTOR}{name}/{PLACES[place]}") for name in factors]]
        for v, place in rows
    ]
    said = NOTE_TRANSFER.format(confidence=CONFIDENCE)
    names = ["variant", "neurons of"]
    return [
        Found(TRANSFER, [said], Rows([*names, *header], decides)),
        Found(OTHERS, [NOTE_OTHERS], Rows([*names, *BESIDE.values()], [*others, *_ceilings(analysis.table)])),
        Found(FACTORS, [NOTE_FACTORS], Rows([*names, *factors], [*by_factor, *_nulls(analysis, factors)]), folded=True),
    ]


def _named(variant: str, place: str) -> list[Cell]:
    return [Cell(variant, kind="name"), Cell(place, kind="text")]


def _decided(analysis: Analysis, variant: str, name: str) -> list[Cell]:
    """Score, controls, what is the neurons' own, and how much more that is than the control's."""
    score = _by_seed(analysis.table, variant, name)
    rotated, untrained = (_of(each, variant, name) for each in (analysis.rotated, analysis.untrained))
    cells = [over_seeds.mean(each) for each in (score, rotated, untrained, (score - rotated).dropna())]
    control = analysis.controls.get(variant)
    if control is None:
        return [*cells, Cell("")]
    own = _by_seed(analysis.table, control, name) - _of(analysis.rotated, control, name)
    return [*cells, over_seeds.mean((score - rotated - own).dropna())]


def _with_rotation(analysis: Analysis, variant: str, name: str) -> Cell:
    score, rotated = _by_seed(analysis.table, variant, name), _of(analysis.rotated, variant, name)
    if not len(score):
        return Cell("-")
    beside = f" ({rotated.mean():.{over_seeds.DIGITS}f})" if len(rotated) else ""
    return Cell(f"{score.mean():.{over_seeds.DIGITS}f}{beside}", float(score.mean()))


def _ceilings(table: pd.DataFrame) -> list[list[Cell]]:
    """Rows of the detectors that know a given part of the sentence; only F1 has them all."""
    rows = []
    for suffix, known in KNOWING.items():
        cells = [Cell("-") for _ in BESIDE]
        cells[0] = over_seeds.lowest_to_highest(over_seeds.present(table, f"ground_truth/f1_ceiling{suffix}"))
        rows.append([Cell("a detector that knows", kind="text"), Cell(known, kind="text"), *cells])
    rows[-1][3] = over_seeds.lowest_to_highest(over_seeds.present(table, "ground_truth/context_f1_ceiling"))
    return rows


def _nulls(analysis: Analysis, factors: list[str]) -> list[list[Cell]]:
    """For encoder and decoder, the scores of the rotations and of the untrained networks."""
    named = {"rotated": analysis.rotated, "untrained": analysis.untrained}
    return [
        [
            Cell(what, kind="text"),
            Cell(place, kind="text"),
            *[_range(of.get(f"{FACTOR}{name}/{PLACES[place]}")) for name in factors],
        ]
        for what, of in named.items()
        for place in PLACES
    ]


def _range(found: pd.Series | None) -> Cell:
    return Cell("-") if found is None else over_seeds.lowest_to_highest(found.dropna())


def _factors(table: pd.DataFrame) -> list[str]:
    """The factors that have an F1 at the encoder's neurons."""
    end = f"/{PLACES['encoder']}"
    scored = [name.removeprefix(FACTOR).removesuffix(end) for name in table if name.startswith(FACTOR)
              and name.endswith(end)]  # fmt: skip
    return [name for name in scored if name != DECIDES.removeprefix(FACTOR)]


def _mean(table: pd.DataFrame, variant: str, name: str) -> Cell:
    return over_seeds.mean(_values(table, variant, name))


def _values(table: pd.DataFrame, variant: str, name: str) -> pd.Series:
    return over_seeds.values(table, name, variant)


def _by_seed(table: pd.DataFrame, variant: str, name: str) -> pd.Series:
    return over_seeds.values(table.set_index("seed"), name, variant)


def _of(named: Mapping[str, pd.Series], variant: str, name: str) -> pd.Series:
    """A metric of a control by seed; empty if it has none."""
    return of_variant(named.get(name), variant).dropna()
