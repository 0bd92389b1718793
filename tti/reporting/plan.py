"""Plans for more seeds: how many would decide what is undecided, and the command that trains them."""

import math
from collections.abc import Sequence

from tti.configuration import without_folders
from tti.reporting.analysis import Analysis
from tti.reporting.cells import Cell, Found, Rows
from tti.reporting.given import Given
from tti.reporting.statistics import MOST_SEEDS


def finding(analysis: Analysis) -> list[Found]:
    """One row per number of seeds that undecided variants need; empty if everything is decided."""
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
        "Number of seeds that would decide the loss with 80 % power, one way or the other, if change and spread were "
        "as observed. A few seeds estimate the spread poorly: plan again after each batch. A report uses all seeds "
        "that exist."
    )
    return [Found("What more seeds would decide", [note], Rows(["undecided", "seeds", "needed", "command"], rows))]


def command(analysis: Analysis, variants: Sequence[str], needed: int) -> str:
    """The command that trains the missing seeds of some variants of an experiment and their controls; empty if none."""
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
    """Overrides common to all runs, without variant, seed and ``runs``, and without folders of this machine."""
    common = [override for override in runs[0].overrides if all(override in other.overrides for other in runs[1:])]
    return [without_folders(override) for override in common if not override.startswith(("variant=", "seed=", "runs="))]
