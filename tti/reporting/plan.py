"""More seeds: how many would decide what is undecided, and the command that trains them."""

import math
from collections.abc import Sequence

from tti.configuration import without_folders
from tti.reporting.analysis import Analysis
from tti.reporting.cells import Cell, Found, Rows
from tti.reporting.given import Given
from tti.reporting.statistics import MOST_SEEDS


def finding(analysis: Analysis) -> list[Found]:
    """A row a number of seeds that some undecided variants need; nothing where all is decided."""
    open_ones = analysis.losses[analysis.losses["verdict"] == "undecided"]
    rows = []
    experiments = dict(zip(analysis.table["variant"], analysis.table["experiment"], strict=True))
    for (_, needed), variants in open_ones.groupby([open_ones.index.map(experiments), "needed"], dropna=False):
        names = [str(variant) for variant in variants.index]
        shown = f"more than {MOST_SEEDS}" if math.isinf(needed) else f"{needed:.0f}"
        train = command(analysis, names, int(needed)) if math.isfinite(needed) else ""
        rows.append([Cell(", ".join(names), kind="text"), Cell(f"{variants['n'].min()}"), Cell(shown, float(needed)),
                     Cell(train, kind="name text command")])  # fmt: skip
    if not rows:
        return []
    note = (
        "Seeds with which the loss would be decided with a chance of 80 %, one way or the other, were change and "
        "spread what they were here. Few seeds know the spread badly: plan again after each batch. A report takes in "
        "whatever seeds there are."
    )
    return [
        Found("What more seeds would decide", [note], Rows(["undecided", "seeds", "needed", "what trains them"], rows))
    ]


def command(analysis: Analysis, variants: Sequence[str], needed: int) -> str:
    """What trains the seeds that some variants of an experiment, and their controls, still lack; empty if none does."""
    both = {*variants, *(analysis.controls[variant] for variant in variants)}
    runs = [run for run in analysis.selection.finished if analysis.selection.name(run.key) in both]
    seeds = {run.key.seed for run in runs}
    count = needed - int(analysis.losses.loc[list(variants), "n"].min())
    new = range(max(seeds) + 1, max(seeds) + 1 + count)
    if not new:
        return ""
    names = ",".join(dict.fromkeys(run.key.variant for run in runs))
    words = ["python -m tti.train -m", *common_overrides(runs), f"variant={names}", f"seed={','.join(map(str, new))}"]
    return " ".join(words)


def common_overrides(runs: Sequence[Given]) -> list[str]:
    """What all runs were started with, less variant and seed, and without the folders of this machine."""
    common = [override for override in runs[0].overrides if all(override in other.overrides for other in runs[1:])]
    return [without_folders(override) for override in common if not override.startswith(("variant=", "seed="))]
