"""What was compared, what it costs and what was gained, in a few sentences: the first that a reader sees."""

from collections.abc import Iterable, Mapping

import pandas as pd

from tti.reporting import controls
from tti.reporting.analysis import AGGREGATE, Analysis
from tti.reporting.statistics import ALPHA

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
    changes = analysis.losses
    groups = []
    for start, words in VERDICTS.items():
        these = changes[changes["verdict"].str.startswith(start)]
        if len(these):
            listed = _listed((str(v), format(row["mean"], "+.4f")) for v, row in these.iterrows())
            groups.append(f"{words} {listed}")
    against = "their controls" if len(set(analysis.controls.values())) > 1 else f"`{analysis.config.baseline}`"
    return [
        f"**Cost** in {analysis.labels.get(analysis.primary, analysis.primary)}, nats, against {against}, with a margin "
        f"of {analysis.config.margin}: {'; '.join(groups)}."
        + (" *Undecided* is no result: neither a cost nor its absence was shown." if "undecided" in " ".join(groups) else "")
    ]


def _gained(analysis: Analysis) -> list[str]:
    if not analysis.controls or analysis.losses["n"].max() < 2:
        return []
    changes = analysis.changes
    tests = int(changes.xs("p", axis=1, level=1).notna().sum().sum())
    gains = {str(variant): _gains(analysis, row) for variant, row in changes.iterrows()}
    found = [(v, ", ".join(names)) for v, names in gains.items() if names]
    lead = f"**Gained,** after correction for all {tests} tests: "
    if not found:
        return [f"{lead}no figure that may decide is better than the control's in any variant."]
    return [lead + "; ".join(f"`{v}` in {names}" for v, names in found) + ". No other gain was shown."]


def _gains(analysis: Analysis, row: pd.Series) -> list[str]:
    """Figures that the test says are better, less those that are display only and parts of training's own bookkeeping."""
    sign = {"less": -1, "more": 1}
    return [
        analysis.labels[name]
        for name in dict.fromkeys(row.index.get_level_values(0))
        if name not in analysis.display_only
        and not name.startswith(("val/loss", "val/perplexity", "test/", "performance/"))
        and sign.get(analysis.metrics[name].get("better"), 0) * row[name]["mean"] > 0
        and row[name]["p_holm"] < ALPHA
    ]


def _beside_controls(analysis: Analysis) -> list[str]:
    lines = []
    if AGGREGATE in analysis.metrics:
        best = analysis.means[AGGREGATE].idxmax()
        low, high = analysis.without_one.loc[best]
        lines.append(
            f"**Aggregate** (0: the baseline): highest for `{best}`, {analysis.means.loc[best, AGGREGATE]:+.2f}; between "
            f"{low:+.2f} and {high:+.2f} when one of its {len(analysis.units)} metrics is left out."
        )
        suspicious = [analysis.labels.get(name, name) for name in analysis.units if name in analysis.display_only]
        if suspicious:
            lines[-1] += f" Of these, {', '.join(suspicious)} moved in the gaming audit (‡)."
    if beyond := _beyond_rotation(analysis):
        lines.append(
            "**More than a change of basis?** Better than the control by more than the control differs from its own "
            f"random rotation: {_listed(beyond.items())} figures that have that control."
        )
    return lines


def _beyond_rotation(analysis: Analysis) -> dict[str, str]:
    names = [n for n in analysis.metrics if any(n in each for each in analysis.found.rotated.values())]
    sign = {"less": -1, "more": 1}
    names = [name for name in names if analysis.metrics[name].get("better") in sign]
    counts = {}
    for variant in analysis.controls:
        pairs = {name: controls.compared(analysis, variant, name) for name in names}
        known = {name: pair for name, pair in pairs.items() if pair[0] == pair[0] and pair[1] == pair[1]}
        better = [n for n, (change, gap) in known.items() if sign[analysis.metrics[n].better] * change > gap]
        if better:
            counts[variant] = f"{len(better)} of {len(known)}"
    if names and not counts:
        return {"no variant": f"in any of {len(names)}"}
    return counts


def _listed(values: Iterable[tuple[str, str]] | Mapping[str, str]) -> str:
    return ", ".join(f"`{name}` {value}" for name, value in dict(values).items())


def _short(number: float) -> str:
    for size, letter in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if number >= size:
            return f"{number / size:.3g}{letter}"
    return f"{number:.0f}"
