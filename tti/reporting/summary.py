"""The summary: what was compared, what it costs and what was gained, in a few sentences at the top."""

from collections.abc import Iterable

from tti.markdown import code, escaped
from tti.reporting import believed, findings, floors
from tti.reporting.analysis import Analysis
from tti.reporting.statistics import ALPHA


def sentences(analysis: Analysis) -> list[str]:
    """One Markdown sentence for each question."""
    return [
        _compared(analysis),
        *_gained(analysis),
        *_cost(analysis),
        *_trust(analysis),
        believed.sentence(analysis.believed),
    ]


def _compared(analysis: Analysis) -> str:
    finished, table = analysis.selection.finished, analysis.table
    seeds = table.groupby("variant").size()
    count = f"{seeds.min()} to {seeds.max()}" if seeds.min() < seeds.max() else str(seeds.max())
    steps = sorted({int(run.summary["steps"]) for run in finished})
    tokens = float(table["tokens"].mean())
    return (
        f"**Compared:** {len(analysis.variants)} variants, {count} seed{'' if count == '1' else 's'} each, "
        f"{' or '.join(f'{n:,}' for n in steps)} steps and about {_short(tokens)} tokens per run; "
        f"{len(analysis.found.metrics)} of {len(finished)} runs evaluated on {analysis.config.split}."
    )


def _gained(analysis: Analysis) -> list[str]:
    if not len(analysis.gains):
        return []
    groups = {verdict: _names(rows.index) for verdict, rows in analysis.gains.groupby("verdict", sort=False)}
    shown = [f"*{verdict}* {names}" for verdict, names in groups.items() if verdict in ("gained", "lost")]
    open_ones = [f"*{verdict}*: {names}" for verdict, names in groups.items() if verdict not in ("gained", "lost")]
    labels = " or ".join(dict.fromkeys(f"*{escaped(gain.label)}*" for gain in analysis.declared.values()))
    lead = f"**Gain** in {labels}, beyond a change of basis: "
    return [lead + ("; ".join(shown) or "shown for no variant") + ". " + "; ".join(open_ones) + "." * bool(open_ones)]


def _cost(analysis: Analysis) -> list[str]:
    if not analysis.controls:
        return []
    changes, label = analysis.losses, analysis.labels.get(analysis.loss, analysis.loss)
    groups = []
    for verdict, rows in changes.groupby("verdict", sort=False):
        listed = [f"{code(str(v))} {row['mean']:+.4f}" for v, row in rows.iterrows()]
        groups.append(f"*{verdict}* {_names(rows.index) if verdict in ('undecided', 'NaN') else ', '.join(listed)}")
    against = (
        "their controls" if len(set(analysis.controls.values())) > 1 else code(next(iter(analysis.controls.values())))
    )
    caution = " Undecided is no result, but a plan for more seeds." if changes["verdict"].eq("undecided").any() else ""
    margins = " and ".join(f"{m:g}" for m in sorted(set(changes["margin"])))
    return [
        f"**Cost** in {escaped(label)}, nats, against {against}, with a margin of {margins}: "
        f"{'; '.join(groups)}.{caution}"
    ]


def _trust(analysis: Analysis) -> list[str]:
    lines = [_converged(analysis)]
    if reasons := floors.silent(analysis.floors):
        groups: dict[str, list[str]] = {}
        for variant, reason in reasons.items():
            groups.setdefault(reason, []).append(variant)
        said = "; ".join(f"*{reason}*: {_names(names)}" for reason, names in groups.items())
        lines.append(f"**No statement on interpretability** of models that an n-gram model beats, or may beat: {said}.")
    if beyond := _beyond_rotation(analysis):
        lines.append(f"**More than a change of basis?** Among all figures with a rotation, by interval: {beyond}.")
    return lines


def _converged(analysis: Analysis) -> str:
    """How much the baselines still fell at the end."""
    share, nats = analysis.config.converged.share, analysis.config.converged.nats
    means = {v: float(f.mean()) for v, f in analysis.falls.groupby("variant", sort=False) if v in analysis.baselines}
    if not means:
        return (
            f"**Converged?** Unknown: no baseline has a shorter run (`trainer.max_steps` {share:g} times as large), "
            "so nothing is compared at matched loss either."
        )
    said = "; ".join(f"{code(str(v))} {-fall:+.4f}: {'yes' if fall < nats else 'no'}" for v, fall in means.items())
    return f"**Converged?** Change of the loss from {share:g} of the steps to all, {nats:g} nats allowed: {said}."


def _beyond_rotation(analysis: Analysis) -> str:
    """How many figures are better or worse beyond a rotation, how many there are, and how many to expect by chance."""
    groups: dict[tuple[int, int, int], list[str]] = {}
    for variant, row in analysis.beyond.iterrows():
        marks = [findings.mark(row[name], analysis.sign(name)) for name in dict.fromkeys(row.index.get_level_values(0))
                 if name not in analysis.display_only]  # fmt: skip
        known = [each for each in marks if each]
        if known:
            groups.setdefault((known.count("▲"), known.count("▼"), len(known)), []).append(str(variant))
    shown = [f"{better} better and {worse} worse of {of} for {_names(groups[better, worse, of])}"
             for better, worse, of in sorted(groups, reverse=True)]  # fmt: skip
    return "; ".join(shown) + f" (by chance about {ALPHA:.0%} of intervals exclude 0)" if shown else ""


def _names(variants: Iterable[str]) -> str:
    return ", ".join(code(str(variant)) for variant in variants)


def _short(number: float) -> str:
    for size, letter in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if number >= size:
            return f"{number / size:.3g}{letter}"
    return f"{number:.0f}"
