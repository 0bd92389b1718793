"""Colours: one per method, the same in every figure; its strengths share it, and controls have none."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import pandas as pd

COLOURS = 7  # besides black for baselines; more than eight cannot be told apart


@dataclass(frozen=True)
class Hue:
    """How a variant is drawn.

    Attributes:
        method: its method.
        colour: colour of the method, None for a baseline.
        turn: 0, 1, ..., if colours repeat.
        rank, of: its place among the method's strengths, 0 for the weakest, and their number.
        label: its strength, or its name.
    """

    method: str
    colour: int | None
    turn: int
    rank: int
    of: int
    label: str


def hues(table: pd.DataFrame, baselines: Sequence[str], weaker_is_more: Sequence[str]) -> Mapping[str, Hue]:
    """The hue of each variant of a tidy table, in order."""
    rows = table.drop_duplicates("variant").to_dict("records")
    methods = list(dict.fromkeys(row["method"] for row in rows if row["variant"] not in baselines))
    found = {}
    for row in rows:
        if row["variant"] in baselines:
            found[row["variant"]] = Hue(row["method"], None, 0, 0, 1, row["variant"])
            continue
        sign = -1 if row["knob"] in weaker_is_more else 1
        strengths = sorted({sign * other["strength"] for other in rows
                            if other["method"] == row["method"] and other["variant"] not in baselines})  # fmt: skip
        place, several = methods.index(row["method"]), len(strengths) > 1
        rank = strengths.index(sign * row["strength"]) if several else 0
        label = f"{row['strength']:g}" if several else row["variant"]
        found[row["variant"]] = Hue(row["method"], place % COLOURS, place // COLOURS, rank, len(strengths), label)
    return found
