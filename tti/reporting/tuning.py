"""The tuning of a sweep: the validation loss of each variant over the grid of `python -m tti.tune`."""

import math
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from tti.configuration import flat
from tti.reporting.cells import Cell, Found, Rows
from tti.reporting.given import Given
from tti.reporting.selection import Selection

COLUMNS = ["variant", "knob", "value", "val_loss", "steps"]


def finding(selection: Selection) -> list[Found]:
    """The curve of each tuned variant over its grid, and the value that the runs were trained with."""
    rows = [row for folder, runs in _by_folder(selection).items() for row in _rows(selection, runs, read(folder))]
    if not rows:
        return []
    note = (
        "Final validation loss (nats) of each value, with seeds that no result uses (a mean if there are several); the "
        "lowest is chosen. "
        "*Trained with*: the value in the configuration of the runs above. A variant without a row in this table uses "
        "the value tuned for another strength of its method."
    )
    header = ["variant", "knob", "tuned", "loss", "grid", "steps", "trained with"]
    return [Found("Tuning", [note], Rows(header, rows, sortable=False), folded=True)]


def untuned(selection: Selection) -> str:
    """A note that the runs were not tuned; empty if there is a tuning."""
    if finding(selection):
        return ""
    return "learning rates: as configured; there is no `tuning.csv` in the folder of the runs (`python -m tti.tune`)"


def read(folder: Path) -> pd.DataFrame:
    """``tuning.csv`` of an experiment's folder; empty if there is none or it is not such a table."""
    try:
        table = pd.read_csv(folder / "tuning.csv", dtype={"variant": str, "knob": str})
        return table[COLUMNS].astype({"value": float, "val_loss": float, "steps": int})
    except (OSError, KeyError, ValueError):
        return pd.DataFrame(columns=COLUMNS)


def _by_folder(selection: Selection) -> dict[Path, list[Given]]:
    folders: dict[Path, list[Given]] = {}
    for run in selection.finished:
        folders.setdefault(run.folder.resolve().parent.parent, []).append(run)
    return folders


def _rows(selection: Selection, runs: Sequence[Given], table: pd.DataFrame) -> list[list[Cell]]:
    configs = {run.key.variant: flat(run.config) for run in runs}
    rows = []
    for (variant, knob), trials in table.groupby(["variant", "knob"], sort=False):
        trials = trials.sort_values("value")
        best = trials.loc[trials["val_loss"].idxmin()]
        curve = [f"{at:g}: {_shown(loss)}" for at, loss in zip(trials["value"], trials["val_loss"], strict=True)]
        rows.append([
            Cell(selection.name(runs[0].key._replace(variant=str(variant))), kind="name"),
            Cell(str(knob), kind="name text"),
            Cell(f"{best['value']:g}", best["value"]),
            Cell(_shown(best["val_loss"]), best["val_loss"]),
            Cell(" · ".join(curve), kind="text"),
            Cell(f"{best['steps']:,}", best["steps"]),
            Cell(str(configs.get(str(variant), {}).get(str(knob), "-"))),
        ])  # fmt: skip
    return rows


def _shown(loss: float) -> str:
    return f"{loss:.4f}" if math.isfinite(loss) else "diverged"
