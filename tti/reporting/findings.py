"""The tables of a comparison, for both Markdown and page."""

import math
from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import pandas as pd

from tti.markdown import code, escaped
from tti.reporting import audit, floors, markdown
from tti.reporting.analysis import Analysis, audited
from tti.reporting.cells import Cell, Found, Rows
from tti.reporting.comparison import of_variant
from tti.reporting.statistics import CONFIDENCE, half_width

KINDS = {"costs": "bad", "lowers it": "good", "free": "good", "gained": "good", "lost": "bad", "NaN": "bad"}
MOST_METRICS = 6  # maximum columns of a table, besides the variant and its control


def first(analysis: Analysis) -> Found:
    """What was gained, at what cost, and whether it can be trusted: one row per variant."""
    labels = list(dict.fromkeys(gain.label for gain in analysis.declared.values()))
    rows = []
    for variant in analysis.variants:
        change, gain = (
            table.loc[variant] if variant in table.index else None for table in (analysis.losses, analysis.gains)
        )
        loss = analysis.means(analysis.loss).loc[variant] if analysis.loss in analysis.metrics else None
        cells = [
            Cell(variant, kind="name"),
            Cell(analysis.controls.get(variant, ""), kind="name text"),
            Cell("-") if loss is None else figure(loss["mean"], math.nan, 4),
        ]
        if change is None or gain is None:
            cells += [Cell(""), Cell("", kind="text"), Cell(""), Cell("", kind="text")]
        else:
            digits = analysis.digits.get(gain["metric"], 3)
            cells += [
                figure(change["mean"], change["half_width"], 4, signed=True),
                Cell(change["verdict"], kind=f"text {KINDS.get(change['verdict'], '')}"),
                figure(gain["mean"], gain["margin"], digits, signed=True),
                Cell(gain["verdict"], kind=f"text {KINDS.get(gain['verdict'], '')}"),
            ]
        rows.append([*cells, Cell(_trust(analysis, variant), kind="text")])
    margins = sorted({f"{margin:g}" for margin in analysis.losses["margin"]}, key=float)
    note = (
        f"Gain: {' or '.join(f'*{escaped(label)}*' for label in labels)}, above the variant's own rotation, minus the "
        f"same difference for its control. Cost: change of {escaped(_label(analysis, analysis.loss))}, nats per token, "
        f"from the control; *free*: shown to lie within ±{' or ±'.join(margins) or '0'} nats. Both with the "
        f"{CONFIDENCE:.0%} t interval over seeds."
    )
    header = ["variant", "against", "loss", "cost", "verdict", "gain", "verdict of the gain", "can it be trusted?"]
    return Found("What was gained, at what cost", [note], Rows(header, rows).marked(analysis.collapsed))


def _trust(analysis: Analysis, variant: str) -> str:
    runs = analysis.floors[analysis.floors["variant"] == variant]
    order, beaten = floors.called(int(runs["order"].iloc[0])), runs["beaten"]
    known = (
        "unknown"
        if beaten.isna().any()
        else "above"
        if beaten.eq(0).all()
        else "below"
        if beaten.all()
        else "partly above"
    )
    learnt = f"{order} unknown" if known == "unknown" else f"{known} its {order}"
    return f"{len(runs)} seed{'s' * (len(runs) != 1)}; {learnt}"


def gained(analysis: Analysis) -> Found:
    """The declared gain with its components."""
    rows = []
    for variant in analysis.variants:
        metric = analysis.declared[variant].metric
        digits = analysis.digits.get(metric, 3)
        parts = beside(analysis, variant, metric)
        gain = analysis.gains.loc[variant] if variant in analysis.gains.index else None
        cells = [
            Cell(variant, kind="name"),
            *[figure(parts[name], parts[f"{name}_margin"], digits) for name in ("score", "rotated", "untrained")],
            figure(parts["own"], parts["own_margin"], digits, signed=True),
        ]
        cells += (
            [Cell("")] * 3
            if gain is None
            else [
                figure(gain["mean"], gain["margin"], digits, signed=True),
                Cell(markdown.p_value(gain["p"]), gain["p"]),
                Cell(gain["verdict"], kind=f"text {KINDS.get(gain['verdict'], '')}"),
            ]
        )
        rows.append(cells)
    note = (
        "Score, score of the same activations in a random basis, and score of the same network before training: "
        f"means over the seeds with score and rotation, with {CONFIDENCE:.0%} t intervals. *Gain*: (variant − its "
        "rotation) − (control − its rotation), paired by seed, so that gains in any basis do not count. The "
        "strongest variant of each method is tested first, a weaker one only if that test succeeded, and methods share "
        "5 % (Holm). This is the only test of interpretability here, and it was declared before the runs."
    )
    header = ["variant", "score", "rotated", "untrained", "above its rotation", "gain", "p", "verdict"]
    return Found("The declared gain", [note, *_no_better_than_untrained(analysis)], Rows(header, rows))


def _no_better_than_untrained(analysis: Analysis) -> list[str]:
    """A remark on the variants whose interval is not entirely better than that of their untrained networks."""
    names = []
    for variant in analysis.variants:
        declared = analysis.declared[variant]
        parts = beside(analysis, variant, declared.metric)
        apart = declared.sign * (parts["score"] - parts["untrained"])
        if apart <= parts["score_margin"] + parts["untrained_margin"]:
            names.append(code(variant))
    if not names:
        return []
    return [
        f"**No better than untrained**: the interval overlaps that of the untrained network for {', '.join(names)}."
    ]


def beside(analysis: Analysis, variant: str, metric: str) -> dict[str, float]:
    """Score, rotation and their difference over the seeds that have both, and the untrained score over its seeds.

    Each has the half width of its interval as ``<name>_margin``.
    """
    score, rotated, untrained = (
        of_variant(each.get(metric), variant) for each in (_all(analysis), analysis.rotated, analysis.untrained)
    )
    both = score.index.intersection(rotated.index)
    own = score.loc[both] - rotated.loc[both]
    shown = score.loc[both] if len(both) else score
    samples = {"score": shown, "rotated": rotated.loc[both], "untrained": untrained, "own": own}
    margins = {f"{name}_margin": half_width(sample.tolist()) for name, sample in samples.items()}
    return {name: _mean(sample) for name, sample in samples.items()} | margins


def _mean(sample: pd.Series) -> float:
    return float(sample.mean(skipna=False)) if len(sample) else math.nan


def _all(analysis: Analysis) -> Mapping[str, pd.Series]:
    return analysis.figures


def costs(analysis: Analysis) -> Found:
    """The change in loss, with its tests and their power."""
    rows = []
    for variant, row in analysis.losses.iterrows():
        each = {
            seed: markdown.spread(change, row["within"][seed], 4, sign="+") for seed, change in row["seeds"].items()
        }
        title = "\n".join(f"seed {seed}: {shown} over stories" for seed, shown in each.items())
        rows.append(
            [
                Cell(str(variant), kind="name"),
                Cell(row["control"], kind="name text"),
                figure(row["mean"], row["half_width"], 4, signed=True, title=title),
                Cell(f"{row['margin']:g}", row["margin"]),
                *[Cell(markdown.p_value(row[p]), row[p]) for p in ("p", "p_equivalent")],
                Cell(row["verdict"], kind=f"text {KINDS.get(row['verdict'], '')}"),
                Cell("-" if math.isnan(row["detectable"]) else f"{row['detectable']:.4f}", row["detectable"]),
            ]
        )
    note = (
        f"Change of `{analysis.loss}`, nats per token, with its {CONFIDENCE:.0%} t interval over seeds; p of the "
        "paired t test and of the equivalence test (TOST) with the margin, two families of 5 % each. Within "
        "a method, equivalence is tested from the weakest strength upwards and a difference from the strongest "
        "downwards, each only if the previous test succeeded; methods share the 5 % (Holm). Only the equivalence test "
        "makes a change *free*; *undecided* means that neither test decides. *Decides*: the smallest change that this "
        "many seeds detect with 80 % power."
    )
    header = ["variant", "against", "change, nats", "margin", "p", "p, equivalence", "verdict", "decides"]
    return Found("What it costs", [note], Rows(header, rows))


def counting(analysis: Analysis) -> list[Found]:
    """n-gram losses, estimated from the tokens that a run has seen and from the whole split."""
    rows = []
    for experiment, runs in _by_experiment(analysis):
        for kind, words in (("seen", "the tokens that a run has seen"), ("split", "the whole training split")):
            columns = [c for c in runs if c.startswith(f"{kind}_") and runs[c].notna().any()]
            if columns:
                cells = [
                    figure(runs[c].mean(), math.nan, 3) for c in sorted(columns, key=lambda c: int(c.partition("_")[2]))
                ]
                rows.append([Cell(f"{experiment}{words}", kind="text"), *cells])
    if not rows:
        return []
    size = max(map(len, rows))
    note = (
        "Losses of n-gram models (interpolated Kneser–Ney), nats per token, on the same tokens as the models' losses. "
        "A model above its "
        + " or ".join(sorted({floors.called(int(o)) for o in analysis.floors["order"]}))
        + " has not learned to use context: no conclusion is drawn about its interpretability."
    )
    if (floor := analysis.floors["floor"].dropna()).size:
        note += f" The entropy of the generator, below which no model can go: {floor.mean():.4f} nats per token."
    header = ["estimated from", *[floors.called(i) for i in range(1, size)]]
    return [
        Found(
            "n-gram losses",
            [note],
            Rows(header, [[*r, *[Cell("-")] * (size - len(r))] for r in rows], sortable=False),
        )
    ]


def _by_experiment(analysis: Analysis) -> Iterable[tuple[str, pd.DataFrame]]:
    experiments = dict(zip(analysis.table["variant"], analysis.table["experiment"], strict=True))
    several = len(analysis.selection.experiments) > 1
    for experiment, runs in analysis.floors.groupby(analysis.floors["variant"].map(experiments), sort=False):
        yield (f"{experiment}: " if several else ""), runs


def decisive(analysis: Analysis) -> list[str]:
    """The loss that decides and the fronts' metrics, as many as fit a table."""
    names = [analysis.loss, *analysis.config.figures.front]
    return [name for name in dict.fromkeys(names) if name in analysis.metrics][:MOST_METRICS]


def results(analysis: Analysis) -> Found:
    """Means over seeds of a few figures."""
    names = decisive(analysis)
    rows = []
    for variant in analysis.variants:
        cells = [mean_of_seeds(analysis, variant, name) for name in names]
        seeds = len(of_variant(analysis.figures.get(analysis.loss), variant)) or int(
            (analysis.table["variant"] == variant).sum()
        )
        rows.append([Cell(variant, kind="name"), Cell(str(seeds), seeds), *cells])
    note = (
        f"Mean ± half width of its {CONFIDENCE:.0%} t interval over seeds. ↓: less is better, ↑: more is better, ‡: "
        "display only. All figures of all variants: `figures.csv`, all runs: `runs.csv`."
    )
    return Found("Final figures", [note], Rows(["variant", "seeds", *[analysis.headings[n] for n in names]], rows))


def mean_of_seeds(analysis: Analysis, variant: str, name: str) -> Cell:
    """Mean and interval; if some seeds are NaN, how many."""
    values, digits = of_variant(analysis.figures[name], variant), analysis.digits[name]
    title = "\n".join(f"seed {seed}: {value:.{digits + 1}f}" for seed, value in values.items())
    if nan := int(values.isna().sum()):
        return Cell("NaN", None, f"in {nan} of {len(values)} seeds", title, "bad")
    if not len(values):
        return Cell("-")
    return figure(float(values.mean()), half_width(values.tolist()), digits, title=title)


def controls(analysis: Analysis) -> list[Found]:
    """Changes of the fronts' metrics beyond those of the rotations, as differences of differences."""
    there = list(dict.fromkeys(analysis.beyond.columns.get_level_values(0))) if len(analysis.beyond.columns) else []
    if not there or not analysis.controls:
        return []
    names = [name for name in analysis.config.figures.front if name in there] or there
    names = names[:MOST_METRICS]
    rows = []
    for variant, row in analysis.beyond.iterrows():
        cells = [_beyond(row[name], analysis.sign(name), analysis.digits[name]) for name in names]
        rows.append([Cell(str(variant), kind="name"), Cell(analysis.controls[str(variant)], kind="name text"), *cells])
    note = (
        "(variant − its rotation) − (control − its rotation), paired by seed, over the seeds that have all four, "
        f"with its {CONFIDENCE:.0%} t interval. **▲ ▼**: the interval lies on the better or worse side of 0, and for "
        "▲ the score itself is better than the control's; **=**: otherwise, so that a random basis may do as well. "
        "These are estimates, not tests: even if nothing changes, one interval in twenty excludes 0."
    )
    return [
        Found(
            "Beyond a change of basis",
            [note],
            Rows(["variant", "against", *[analysis.headings[n] for n in names]], rows),
        )
    ]


def mark(change: Mapping[str, float], sign: int) -> str:
    """``▲`` better, ``▼`` worse, ``=`` no more than a change of basis; empty if there is no interval.

    Nothing is better unless the score itself is: its rotation may have become worse instead.
    """
    if math.isnan(change["margin"]) or not sign:
        return ""
    if abs(change["mean"]) <= change["margin"]:
        return "="
    if sign * change["mean"] < 0:
        return "▼"
    return "▲" if sign * change["change"] > 0 else "="


def _beyond(change: pd.Series, sign: int, digits: int) -> Cell:
    found = mark(change, sign)
    shown = _change(change, digits, {"▲": "good", "▼": "bad"}.get(found, ""))
    return Cell(f"{shown.text} {found}".strip(), shown.value, shown.spread, shown.title, shown.kind)


def changes(title: str, notes: Sequence[str], analysis: Analysis, table: pd.DataFrame) -> list[Found]:
    """Changes of a few figures."""
    if not len(table.columns) or not analysis.controls:
        return []
    there = list(dict.fromkeys(table.columns.get_level_values(0)))
    names = ([name for name in analysis.config.figures.front if name in there] or there)[:MOST_METRICS]
    rows = [
        [
            Cell(str(variant), kind="name"),
            Cell(analysis.controls[str(variant)], kind="name text"),
            *[_change(row[name], analysis.digits[name]) for name in names],
        ]
        for variant, row in table.iterrows()
    ]
    header = ["variant", "against", *[analysis.headings[name] for name in names]]
    return [Found(title, notes, Rows(header, rows), folded=True)]


def change(table: pd.DataFrame, variant: str, name: str, digits: int) -> Cell:
    """A variant's change of a figure; ``-`` if it has none."""
    there = variant in table.index and name in table.columns.get_level_values(0)
    return _change(table.loc[variant, name], digits) if there else Cell("-")


def _change(change: Mapping[str, float], digits: int, kind: str = "") -> Cell:
    n, nan = int(change["n"]), int(change["nan"])
    if not n:
        return Cell("-")
    if nan:
        return Cell("NaN", None, f"in {nan} of {n} seeds", kind="bad")
    return figure(
        change["mean"],
        change["margin"],
        digits,
        signed=True,
        kind=kind,
        title=f"{change['down']:.0f} of {n} seeds fell",
    )


CHANGES = (
    f"Mean change ± half width of its {CONFIDENCE:.0%} t interval over seeds. These are estimates, not tests: among "
    "many intervals, some exclude 0 by chance. All other figures: `figures.csv`."
)
MATCHED = (
    "Both runs of a seed at the larger of their two final losses: the values of the better run at that loss are "
    "interpolated between shorter runs of it, each with its own full schedule. The remaining change is not explained "
    "by more training. -: there are no shorter runs, or none ends with that loss."
)
FRONTS = (
    "Variants that no other dominates in loss and the figure (means over seeds). Hypervolume: the area that they "
    "dominate, up to the loss of untrained networks and the worse of the baseline's and the untrained figure; and its "
    f"excess over the baseline's alone. Mean over the seeds that all variants have, with the {CONFIDENCE:.0%} t "
    "interval. The best of many equal variants exceeds the baseline by chance: an excess above 0 alone is no gain."
)


def fronts(analysis: Analysis) -> list[Found]:
    """Pareto fronts with their hypervolumes."""
    rows = []
    for front in analysis.fronts:
        names = ", ".join(v for v, on in zip(front.variants, front.on_front, strict=True) if on)
        better = "less" if front.less_is_better else "more"
        areas = [figure(area.mean, area.margin, 4) for area in (front.volume, front.added)]
        rows.append([Cell(front.label, kind="text"), Cell(better, kind="text"), Cell(names, kind="text"), *areas])
    header = ["figure", "better", "on the front", "hypervolume", "beyond the baseline's"]
    return [Found("Fronts", [FRONTS], Rows(header, rows), folded=True)] if rows else []


def alike(analysis: Analysis) -> list[Found]:
    """CKA with the baseline, mean over seeds for each layer."""
    pairs = analysis.similarity
    if pairs.empty:
        return []
    means = pairs.groupby(["variant", "kind", "layer"], sort=False)["cka"].mean()
    places = list(dict.fromkeys(zip(pairs["kind"], pairs["layer"], strict=True)))
    rows = []
    for kind in dict.fromkeys(kind for kind, _ in places):
        for variant in ["", *[v for v in analysis.variants if v in set(pairs["variant"])]]:
            values = [float(means.get((variant, kind, layer), np.nan)) for k, layer in places if k == kind]
            name = Cell(variant, kind="name") if variant else Cell("two seeds of the baseline")
            shown = " · ".join("-" if np.isnan(v) else f"{v:.3f}" for v in values)
            rows.append([name, Cell(kind, kind="text"), Cell(shown, float(np.mean(values)))])
    note = (
        "Debiased linear CKA of each layer with that of the baseline of the same seed (same start, same stories), at "
        "the same tokens: 1 is the same representation up to rotation and scale, 0 an unrelated one. Below the value "
        "for two seeds of the baseline, a method changes the layer more than a seed does."
    )
    return [
        Found(
            "Similarity to the baseline's representations",
            [note],
            Rows(["variant", "site", "CKA, layer by layer"], rows),
            folded=True,
        )
    ]


def audits(analysis: Analysis) -> list[Found]:
    """The gaming audits of all runs."""
    return audit.finding(analysis.found.audits, {audited(n, m): str(m.label) for n, m in analysis.metrics.items()})


def long(analysis: Analysis) -> pd.DataFrame:
    """One row per variant and compared metric: mean, controls, change, and change beyond a rotation."""
    rows = []
    for name in analysis.metrics:
        means = analysis.means(name)
        for variant in analysis.variants:
            parts = beside(analysis, variant, name)
            row = {
                "variant": variant,
                "metric": name,
                "label": analysis.labels[name],
                "display_only": name in analysis.display_only,
                **means.loc[variant].to_dict(),
                "against": analysis.controls.get(variant, ""),
            }
            for prefix, table in (("change", analysis.changes), ("beyond", analysis.beyond)):
                there = variant in table.index and name in table.columns.get_level_values(0)
                row |= {
                    f"{prefix}_{k}": table.loc[variant, (name, k)] if there else math.nan
                    for k in ("mean", "margin", "n", "nan")
                }
            own = [f"{name}{what}" for name in ("rotated", "untrained", "own") for what in ("", "_margin")]
            rows.append(row | {name: parts[name] for name in own})
    return pd.DataFrame(rows)


def figure(mean: float, width: float, digits: int, signed: bool = False, title: str = "", kind: str = "") -> Cell:
    """A number with the half width of its interval, if it has one."""
    sign = "+" if signed else ""
    half = "" if math.isnan(width) else f"± {width:,.{digits}f}"
    return Cell(
        markdown.spread(mean, math.nan, digits, sign=sign), mean, half if not math.isnan(mean) else "", title, kind
    )


def _label(analysis: Analysis, metric: str) -> str:
    return analysis.labels.get(metric, metric)
