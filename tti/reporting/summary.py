"""What was compared, what it costs and what was gained, in a few sentences: the first that a reader sees."""

from collections.abc import Iterable

import numpy as np
import pandas as pd

from tti.reporting import controls
from tti.reporting.analysis import AGGREGATE, Analysis
from tti.reporting.statistics import ALPHA

LOSSES = ("loss", "perplexity", "bits_per_byte")
VERDICTS = {"free": "free", "costs": "costs", "gains": "lowers it", "undecided": "undecided",
            "no test": "not tested"}  # fmt: skip


def sentences(analysis: Analysis) -> list[str]:
    """In Markdown, one for each question."""
    return [_compared(analysis), *_cost(analysis), *_gained(analysis), *_beside_controls(analysis)]


def _compared(analysis: Analysis) -> str:
    finished, table = analysis.selection.finished, analysis.table
    seeds = table.groupby("variant").size()
    count = f"{seeds.min()} to {seeds.max()}" if seeds.min() < seeds.max() else str(seeds.max())
    steps = sorted({int(run.summary["steps"]) for run in finished})
    tokens = float(table["tokens"].mean())
    evaluated = len(analysis.found.metrics)
    return (
        f"**Compared:** {len(analysis.variants)} variants, {count} seed{'' if count == '1' else 's'} each, "
        f"{' or '.join(f'{n:,}' for n in steps)} steps and about {_short(tokens)} tokens a run; "
        f"{evaluated} of {len(finished)} runs evaluated on {analysis.config.split}."
    )


def _cost(analysis: Analysis) -> list[str]:
    if not analysis.controls:
        return []
    changes, label = analysis.losses, analysis.labels.get(analysis.primary, analysis.primary)
    groups = []
    for start, words in VERDICTS.items():
        these = changes[changes["verdict"].str.startswith(start)]
        if len(these) and start != "undecided":
            listed = ", ".join(f"`{v}` {row['mean']:+.4f}" for v, row in these.iterrows())
            groups.append(f"*{words}* {listed}")
        elif len(these):
            groups.append(f"*{words}* {_names(these.index)}")
    against = "their controls" if len(set(analysis.controls.values())) > 1 else f"`{analysis.config.baseline}`"
    open_ones = changes["verdict"].eq("undecided").any()
    caution = " Undecided is no result: neither a cost nor its absence was shown." if open_ones else ""
    margin = f"with a margin of {analysis.config.margin}"
    return [f"**Cost** in {label}, nats, against {against}, {margin}: {'; '.join(groups)}.{caution}"]


def _gained(analysis: Analysis) -> list[str]:
    if not analysis.controls or analysis.losses["n"].max() < 2:
        return []
    changes = analysis.changes
    tests = int(changes.xs("p", axis=1, level=1).notna().sum().sum())
    found: dict[str, list[str]] = {}
    for variant, row in changes.iterrows():
        for label in _gains(analysis, row):
            found.setdefault(label, []).append(str(variant))
    lead = f"**Gained,** after correction for all {tests} tests: "
    if not found:
        return [f"{lead}no figure that may decide is better than the control's in any variant."]
    return [
        lead + "; ".join(f"*{label}* by {_names(names)}" for label, names in found.items()) + ". No other was shown."
    ]


def _gains(analysis: Analysis, row: pd.Series) -> list[str]:
    """Figures that the test says are better, less losses and those that are display only."""
    return [
        analysis.labels[name]
        for name in dict.fromkeys(row.index.get_level_values(0))
        if name not in analysis.display_only
        and name.rpartition("/")[2] not in LOSSES
        and analysis.sign(name) * row[name]["mean"] > 0
        and row[name]["p_holm"] < ALPHA
    ]


def _beside_controls(analysis: Analysis) -> list[str]:
    lines = []
    if AGGREGATE in analysis.metrics and analysis.means[AGGREGATE].notna().any():
        best, voices = analysis.means[AGGREGATE].idxmax(), [n for n, unit in analysis.units.items() if unit.weight]
        (low, high), most = analysis.without_one.loc[best], analysis.means.loc[best, AGGREGATE]
        lines.append(
            f"**Aggregate** (0: the baseline): highest for `{best}`, {most:+.2f}"
            + (
                f"; between {low:+.2f} and {high:+.2f} when one of its {len(voices)} metrics is left out."
                if len(voices) > 1
                else "."
            )
        )
        suspicious = [analysis.labels.get(name, name) for name in voices if name in analysis.display_only]
        if suspicious:
            lines[-1] += f" Of these, {', '.join(suspicious)} moved in the gaming audit (‡)."
    if beyond := _beyond_rotation(analysis):
        lines.append(
            "**More than a change of basis?** Better than the control by more than the control differs from its own "
            f"random rotation: {beyond}."
        )
    return lines


def _beyond_rotation(analysis: Analysis) -> str:
    rotated = analysis.found.rotated.values()
    names = [name for name in analysis.metrics if analysis.sign(name) and any(name in each for each in rotated)]
    groups: dict[tuple[int, int], list[str]] = {}
    for variant in analysis.controls:
        pairs = {name: controls.compared(analysis, variant, name) for name in names}
        known = {name: pair for name, pair in pairs.items() if np.isfinite(pair).all()}
        better = sum(analysis.sign(name) * change > gap for name, (change, gap) in known.items())
        if known:
            groups.setdefault((better, len(known)), []).append(variant)
    return "; ".join(f"in {n} of {of} figures {_names(groups[n, of])}" for n, of in sorted(groups, reverse=True))


def _names(variants: Iterable[str]) -> str:
    return ", ".join(f"`{variant}`" for variant in variants)


def _short(number: float) -> str:
    for size, letter in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if number >= size:
            return f"{number / size:.3g}{letter}"
    return f"{number:.0f}"
