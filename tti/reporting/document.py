"""The comparison as Markdown, with figures."""

from pathlib import Path

import pandas as pd
from omegaconf import DictConfig

from tti.configuration import without_folders
from tti.markdown import code, escaped
from tti.reporting import (
    charts,
    comparison,
    disentanglement,
    every,
    findings,
    markdown,
    modularity,
    plots,
    summary,
    tuning,
)
from tti.reporting.analysis import Analysis
from tti.reporting.plan import common_overrides


def text(analysis: Analysis, to: Path, more: list[str]) -> str:
    """The Markdown; its figures are saved in a folder of the same name next to it.

    Args:
        analysis: the analysis.
        to: path of the Markdown file.
        more: further sections.
    """
    first, *figures = _figures(analysis, to)
    body = [line for found in every.tables(analysis) for line in markdown.section(found)]
    provenance_ = ["## Where the figures come from", "\n".join(f"- {line}" for line in provenance(analysis))]
    return "\n\n".join([*head(analysis), first, *_remarks(analysis), *body, *more, *figures, *provenance_]) + "\n"


def head(analysis: Analysis) -> list[str]:
    """Heading, first table and summary."""
    found = findings.first(analysis)
    return [
        f"# {escaped(title(analysis.config))}",
        markdown.rows(found.table),
        *found.notes,
        *summary.sentences(analysis),
    ]


def _remarks(analysis: Analysis) -> list[str]:
    return ["\n".join(f"- {line}" for line in analysis.remarks)] if analysis.remarks else []


def provenance(analysis: Analysis) -> list[str]:
    """Provenance of the figures."""
    config, finished = analysis.config, analysis.selection.finished
    environments = pd.DataFrame([run.run.environment for run in finished])
    steps = ", ".join(sorted({f"{run.summary['steps']:,}" for run in finished}))
    tokens = [run.summary["tokens"] for run in finished]
    machines, commits = (", ".join(map(str, environments[name].unique())) for name in ("platform", "commit"))
    devices, torch = ", ".join(map(str, environments["device"].unique())), environments["packages"].iloc[0]["torch"]
    lines = [
        f"{len(finished)} of {len(analysis.selection.found)} runs finished; {steps} steps, {min(tokens):,} to "
        f"{max(tokens):,} tokens per run",
        f"overrides common to all: {code(' '.join(common_overrides(finished)))}",
        escaped(f"commit: {commits}; {devices}; {machines}; torch {torch}"),
        f"written by {code(f'python -m tti.report {_spelled(config)}')}",
        *filter(None, [tuning.untuned(analysis.selection)]),
        *_first_step(analysis.logged),
    ]
    if "unigram_entropy" in finished[0].summary:
        lines.append(f"unigram entropy of the validation tokens: {finished[0].summary['unigram_entropy']:.3f} nats")
    return lines


def title(config: DictConfig) -> str:
    """The given title, or the folders' names."""
    return str(config.title or " + ".join(dict.fromkeys(Path(pattern).resolve().name for pattern in patterns(config))))


def patterns(config: DictConfig) -> list[str]:
    """Folders and globs of runs."""
    return [config.runs] if isinstance(config.runs, str) else [str(pattern) for pattern in config.runs]


def _first_step(logged: pd.DataFrame) -> list[str]:
    """Whether all variants of an experiment and seed start alike: same weights, same stories, same dropout."""
    if "train/ce" not in logged:
        return []
    several = logged["experiment"].nunique() > 1
    first = logged[logged["step"] == 1].groupby(["experiment", "seed"])["train/ce"]
    named = [(f"{code(experiment)} " * several + f"seed {seed}", values) for (experiment, seed), values in first]
    shown = ", ".join(f"{name} {float(values.iloc[0])!r}" for name, values in named if values.nunique() == 1)
    differ = [name for name, values in named if values.nunique() > 1]
    lines = [f"cross-entropy of the first step, equal to the last digit in all variants: {shown}"] if shown else []
    return lines + (
        [f"cross-entropy of the first step differs between variants: {', '.join(differ)}"] if differ else []
    )


def _figures(analysis: Analysis, to: Path) -> list[str]:
    config, logged, label = analysis.config, analysis.logged, analysis.headings
    hues = analysis.hues
    shown = {"gain": plots.plane(chart)} if (chart := charts.plane(analysis)) else {}
    if fronts := charts.fronts(analysis):
        shown["front"] = plots.planes(fronts)
    if responses := charts.strengths(analysis):
        shown["strength"] = plots.responses(responses)
    shown["curves"] = plots.curves(logged, _present(config.figures.curves, label, logged), hues)
    trained = [name.removesuffix("_weighted") for name in logged if name.endswith("_weighted")]
    if analysis.controls and "train/ce" in logged:
        excess = comparison.excess(logged, "train/ce", analysis.controls)
        shown["cost"] = plots.curves(excess, {"train/ce": "train CE above control's, nats"}, hues)
    if trained:
        shown["penalties"] = plots.curves(
            logged, {name: f"{name.removeprefix('train/')}, unweighted" for name in trained}, hues
        )
        weights = {"coefficient": "λ of {}", "to_ce_grad_ratio": "gradient of {} : gradient of CE"}
        weighed = {f"{name}_{what}": text.format(name.removeprefix("train/"))
                   for name in trained for what, text in weights.items() if f"{name}_{what}" in logged}  # fmt: skip
        shown["weights"] = plots.curves(logged, weighed, hues, log=True)
    if set(config.figures.spread.quantiles) <= set(analysis.table):
        shown["spread"] = plots.spreads(analysis.table, config.figures.spread.quantiles, config.figures.spread.label)
    maps = {"utilisation": modularity.USED, "ablation": modularity.LOST}
    heatmaps = modularity.charts(analysis)
    shown |= {name: plots.heats(heatmaps[title]) for name, title in maps.items() if heatmaps[title]}
    of_codes = disentanglement.drawn(analysis)
    if fronts := of_codes[disentanglement.SCORED]:
        shown["codes"] = plots.planes(fronts)
    if moves := of_codes[disentanglement.MOVED]:
        shown["moves"] = plots.heats(moves)
    folder = to.with_suffix("")
    for name, figure in shown.items():
        plots.save(figure, folder / f"{name}.png")
    return [f"![{name}]({folder.name}/{name}.png)" for name in shown]


def _present(names: list[str], labels: dict[str, str], table: pd.DataFrame) -> dict[str, str]:
    return {name: labels[name] for name in names if name in table and name in labels}


def _spelled(config: DictConfig) -> str:
    """The command's overrides as typed, as far as they affect the report."""
    given = {key: config[key] for key in ("to", "baseline", "controls", "split", "loss") if config[key]}
    runs = [without_folders(f"runs={pattern}") for pattern in patterns(config)]
    return " ".join([*runs, *[without_folders(f"{key}={value}") for key, value in given.items()]])
