"""The comparison as Markdown with its figures."""

from pathlib import Path

import pandas as pd
from omegaconf import DictConfig

from tti.configuration import without_folders
from tti.markdown import table
from tti.reporting import charts, comparison, findings, markdown, plots, summary
from tti.reporting.analysis import Analysis
from tti.reporting.statistics import CONFIDENCE
from tti.runs import Run


def text(analysis: Analysis, to: Path, more: list[str]) -> str:
    """The Markdown; its figures go into the folder of that name beside it.

    Args:
        analysis: what is shown.
        to: where the Markdown will be.
        more: further sections.
    """
    front, *figures = _figures(analysis, to)
    body = [front, *_tables(analysis), *more, *figures, *_provenance(analysis)]
    return "\n\n".join([*head(analysis), *body]) + "\n"  # last, for what is remarked on the way


def head(analysis: Analysis) -> list[str]:
    """Heading, the summary, and what one must know of the runs."""
    remarks = [f"- {line}" for line in analysis.remarks]
    return [f"# {title(analysis.config)}", *summary.sentences(analysis), *(["\n".join(remarks)] if remarks else [])]


def _provenance(analysis: Analysis) -> list[str]:
    return ["## Where the figures come from", "\n".join(f"- {line}" for line in provenance(analysis))]


def provenance(analysis: Analysis) -> list[str]:
    """Where the figures come from."""
    config, finished = analysis.config, analysis.selection.finished
    environments = pd.DataFrame([run.environment for run in finished])
    steps = ", ".join(sorted({f"{run.summary['steps']:,}" for run in finished}))
    tokens = [run.summary["tokens"] for run in finished]
    lines = [
        f"{len(finished)} of {len(analysis.selection.found)} runs finished; {steps} steps, {min(tokens):,} to "
        f"{max(tokens):,} tokens a run",
        f"overrides common to all: `{' '.join(_common_overrides(finished))}`",
        f"commit: {', '.join(environments['commit'].unique())}; {', '.join(environments['device'].unique())}; "
        f"{', '.join(environments['platform'].unique())}; torch {finished[0].environment['packages']['torch']}",
        f"written by `python -m tti.report {' '.join(_spelled(config))}`",
        *_first_step(analysis.logged),
    ]
    if "unigram_entropy" in finished[0].summary:
        lines.append(f"unigram entropy of the validation tokens: {finished[0].summary['unigram_entropy']:.3f} nats")
    return lines


def title(config: DictConfig) -> str:
    """As given, or the folder's name."""
    return str(config.title or Path(patterns(config)[0]).name)


def patterns(config: DictConfig) -> list[str]:
    """Folders and globs of runs."""
    return [config.runs] if isinstance(config.runs, str) else [str(pattern) for pattern in config.runs]


def _first_step(logged: pd.DataFrame) -> list[str]:
    """Whether all variants of a seed began alike: same weights, same stories, same dropout."""
    if "train/ce" not in logged:
        return []
    first = logged[logged["step"] == 1].groupby("seed")["train/ce"]
    shown = ", ".join(f"seed {seed} {float(values.iloc[0])!r}" for seed, values in first if values.nunique() == 1)
    differ = [str(seed) for seed, values in first if values.nunique() > 1]
    lines = [f"cross-entropy of the first step, equal to the last digit in all variants: {shown}"] if shown else []
    return lines + (
        [f"cross-entropy of the first step differs between variants: seed {', '.join(differ)}"] if differ else []
    )


def _tables(analysis: Analysis) -> list[str]:
    labels, digits, controls = analysis.headings, analysis.digits, analysis.controls
    sections = ["## Final figures", "Mean ± standard deviation over seeds.",
                markdown.means(comparison.over_seeds(analysis.table, list(labels)), labels, digits)]  # fmt: skip
    if controls:
        changed = {name: labels[name] for name in analysis.changes.columns.get_level_values(0).unique()}
        sections += [
            "## What it costs",
            cost_note(analysis),
            markdown.losses(analysis.losses),
            "## Change, paired by seed",
            f"Mean change ± half width of its {CONFIDENCE:.0%} t interval over seeds, and in how many seeds the figure "
            'fell. *: the t test rejects "no change" after Holm\'s correction for all '
            f"{_tests(analysis.changes)} tests in this table.",
            markdown.changes(analysis.changes, changed, digits, controls),
        ]
    if controls and len(analysis.matched):
        matched = {name: labels[name] for name in analysis.matched.columns.get_level_values(0).unique()}
        sections += [
            "## Change at matched loss",
            f"{MATCHED_NOTE} Stars as above, {_tests(analysis.matched)} tests. -: no two validations enclose that "
            "loss.",
            markdown.changes(analysis.matched, matched, digits, controls),
        ]
    if analysis.fronts:
        sections += ["## Fronts", FRONT_NOTE, _fronts(analysis)]
    for found in (*findings.beside_the_front(analysis), *findings.doubts(analysis)):
        sections += markdown.section(found)
    return sections


FRONT_NOTE = (
    "Variants that no other dominates in loss and the figure (means over seeds). Hypervolume: the area that they "
    "dominate, from the loss of untrained networks and the worse of the baseline's and the untrained figure; beside it "
    "that of the baseline alone. It is there where `random_init` was evaluated."
)


MATCHED_NOTE = (
    "Both runs of a seed where their validation loss was the larger of the two final ones, read off the validations "
    "of each training by interpolation: what is left is not explained by one being trained further."
)


def cost_note(analysis: Analysis) -> str:
    """What the table of losses shows."""
    return (
        f"Change of `{analysis.primary}`, nats a token, with its {CONFIDENCE:.0%} t interval over seeds; p of the "
        f"paired t test, and of the equivalence test (TOST) with the margin {analysis.config.margin} nats, both "
        "corrected (Holm) for the number of variants. Last, each seed's own change ± its interval over stories, "
        "paired by story: it tells two trainings apart, not two methods. Only the equivalence test makes a change "
        "*free*; *undecided* means that neither test decides."
    )


def _tests(table: pd.DataFrame) -> int:
    return int(table.xs("p", axis=1, level=1).notna().sum().sum())


def _fronts(analysis: Analysis) -> str:
    rows = []
    for front in analysis.fronts:
        names = ", ".join(f"`{v}`" for v, on in zip(front.variants, front.on_front, strict=True) if on)
        rows.append([f"{front.label} ({'less' if front.less_is_better else 'more'} is better)", names,
                     markdown.spread(front.hypervolume, float("nan"), 4),
                     markdown.spread(front.baseline_alone, float("nan"), 4)])  # fmt: skip
    return table(["figure", "on the front", "hypervolume", "baseline alone"], rows)


def _figures(analysis: Analysis, to: Path) -> list[str]:
    config, table, logged, label = analysis.config, analysis.table, analysis.logged, analysis.headings
    variants = analysis.variants
    shown = {"curves": plots.curves(logged, _present(config.figures.curves, label, logged), variants)}
    if fronts := {front.metric: label[front.metric] for front in analysis.fronts}:
        shown = {"front": plots.front(table, (analysis.primary, label[analysis.primary]), fronts), **shown}
    trained = [name.removesuffix("_weighted") for name in logged if name.endswith("_weighted")]
    if analysis.controls and "train/ce" in logged:
        excess = comparison.excess(logged, "train/ce", analysis.controls)
        shown["cost"] = plots.curves(excess, {"train/ce": "train CE above control's, nats"}, variants)
    if responses := charts.strengths(analysis):
        shown["strength"] = plots.responses(responses)
    if trained:
        shown["penalties"] = plots.curves(
            logged, {name: f"{name.removeprefix('train/')}, unweighted" for name in trained}, variants
        )
        weights = {"coefficient": "λ of {}", "to_ce_grad_ratio": "gradient of {} : gradient of CE"}
        weighed = {f"{name}_{what}": text.format(name.removeprefix("train/"))
                   for name in trained for what, text in weights.items() if f"{name}_{what}" in logged}  # fmt: skip
        shown["weights"] = plots.curves(logged, weighed, variants, log=True)
    if set(config.figures.spread.quantiles) <= set(table):
        shown["spread"] = plots.spreads(table, config.figures.spread.quantiles, config.figures.spread.label)
    folder = to.with_suffix("")
    for name, figure in shown.items():
        plots.save(figure, folder / f"{name}.png")
    return [f"![{name}]({folder.name}/{name}.png)" for name in shown]


def _present(names: list[str], labels: dict[str, str], table: pd.DataFrame) -> dict[str, str]:
    return {name: labels[name] for name in names if name in table and name in labels}


def _common_overrides(runs: list[Run]) -> list[str]:
    each = [run.overrides for run in runs]
    common = [override for override in each[0] if all(override in other for other in each[1:])]
    return [
        without_folders(override.replace("\\", ""))
        for override in common
        if not override.startswith(("variant=", "seed="))
    ]


def _spelled(config: DictConfig) -> list[str]:
    given = {key: config[key] for key in ("to", "baseline", "controls", "split", "primary", "margin") if config[key]}
    runs = [without_folders(f"runs={pattern}") for pattern in patterns(config)]
    return [*runs, *[without_folders(f"{key}={value}") for key, value in given.items()]]
