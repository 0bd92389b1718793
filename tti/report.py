"""``python -m tti.report runs=FOLDER``: compare the runs below a folder: terminal, Markdown, figures."""

import re
import sys
from pathlib import Path
from typing import Any

import hydra
import pandas as pd
from omegaconf import DictConfig, OmegaConf
from rich.console import Console
from rich.table import Column, Table

from tti.configuration import conf_dir, quoted
from tti.reporting import comparison, markdown, plots
from tti.runs import Run, find, write_atomically


def tidy(runs: list[Run]) -> pd.DataFrame:
    """A row a finished run: experiment, variant, seed, every final figure, and the gap from training to validation."""
    rows = []
    for run in runs:
        summary = run.summary
        figures = {name: summary[name] for name in ("steps", "tokens", "seconds", "tokens_per_second")}
        metrics = summary["metrics"]
        gap = {"gap": metrics["val/loss"] - metrics["train/ce"]} if "train/ce" in metrics else {}
        rows.append({**_labels(run), **figures, **gap, **metrics})
    return pd.DataFrame(rows)


def history(runs: list[Run]) -> pd.DataFrame:
    """A row a logged step of every run."""
    return pd.DataFrame([{**_labels(run), **entry} for run in runs for entry in run.metrics()])


def _labels(run: Run) -> dict[str, Any]:
    config = run.config
    return {"experiment": config.experiment, "variant": config.variant, "seed": config.seed}


def report(config: DictConfig) -> pd.DataFrame:
    """Write the comparison and its figures; returns the tidy table of the finished runs.

    Raises:
        ValueError: there are no finished runs, or none of the baseline.
    """
    runs = find(config.runs)
    finished = [run for run in runs if run.status == "finished"]
    if not finished:
        raise ValueError(f"none of the {len(runs)} runs in {config.runs} has finished")
    _require_distinct(finished)
    finished.sort(key=lambda run: (run.config.variant != config.baseline, _by_size(run.config.variant)))
    table, logged = tidy(finished), history(finished)
    path = Path(config.to)
    figures = path.with_suffix("")
    figures.mkdir(parents=True, exist_ok=True)
    controls = comparison.controls_of(
        list(table["variant"].unique()), config.baseline, {glob: control for control, glob in config.controls.items()}
    )
    text = "\n\n".join(
        [
            *_provenance(config, runs, finished, logged),
            *_tables(config, table, controls),
            *_figures(config, table, logged, controls),
        ]
    )
    write_atomically(path, text + "\n")
    table.to_csv(figures / "runs.csv", index=False)
    if config.wandb.mode:
        _publish(config, table, figures)
    return table


def _publish(config: DictConfig, table: pd.DataFrame, figures: Path) -> None:
    from tti.loggers.wandb_report import publish  # seconds that others need not wait for

    images = {path.stem: path for path in sorted(figures.glob("*.png"))}
    group = config.wandb.group or str(table["experiment"].iloc[0])
    publish(
        _title(config), table, images, mode=config.wandb.mode, project=config.wandb.project, group=group, folder=figures
    )


def _title(config: DictConfig) -> str:
    return config.title or Path(config.runs).name


def _require_distinct(runs: list[Run]) -> None:
    seen: dict[tuple[str, int], Run] = {}
    for run in runs:
        key = (run.config.variant, run.config.seed)
        if key in seen:
            raise ValueError(
                f"{seen[key].folder} and {run.folder} are the same variant and seed. Runs of different experiments are "
                "not seeds of one: give runs=... the folder of one experiment"
            )
        seen[key] = run


def _by_size(variant: str) -> list[str | float]:
    """Sorting key under which ``l1_1e-2`` follows ``l1_1e-3``."""
    parts = re.split(r"(\d+\.?\d*(?:e[+-]?\d+)?)", variant)
    return [float(part) if i % 2 else part for i, part in enumerate(parts)]


def _provenance(config: DictConfig, runs: list[Run], finished: list[Run], logged: pd.DataFrame) -> list[str]:
    first = finished[0]
    environments = pd.DataFrame([run.environment for run in finished])
    steps = ", ".join(sorted({f"{run.summary['steps']:,}" for run in finished}))
    tokens = [run.summary["tokens"] for run in finished]
    parameters = _common_overrides(finished)
    lines = [
        f"{len(finished)} of {len(runs)} runs finished; {steps} steps, {min(tokens):,} to {max(tokens):,} tokens a run",
        f"overrides common to all: `{' '.join(parameters)}`",
        f"commit: {', '.join(environments['commit'].unique())}; {', '.join(environments['device'].unique())}; "
        f"{', '.join(environments['platform'].unique())}; torch {first.environment['packages']['torch']}",
        f"written by `python -m tti.report {' '.join(_spelled(config))}`",
    ]
    lines += _first_step(logged)
    if "unigram_entropy" in first.summary:
        lines.append(f"unigram entropy of the validation tokens: {first.summary['unigram_entropy']:.3f} nats")
    lines += [f"not finished: `{run.folder.name}` of `{run.folder.parent.name}` ({run.status}) {run.failure}"
              for run in runs if run.status != "finished"]  # fmt: skip
    return [f"# {_title(config)}", "\n".join(f"- {line}" for line in lines)]


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


def _tables(config: DictConfig, table: pd.DataFrame, controls: dict[str, str]) -> list[str]:
    shown = {name: metric for name, metric in config.metrics.items() if name in table}
    labels = {str(name): metric.label for name, metric in shown.items()}
    digits = {str(name): metric.digits for name, metric in shown.items()}
    sections = ["## Final figures", "Mean ± standard deviation over seeds.",
                markdown.means(comparison.over_seeds(table, list(labels)), labels, digits)]  # fmt: skip
    if controls:
        labels.pop("tokens_per_second")  # side by side on one machine: no fair comparison of speed
        change = comparison.against(table, list(labels), controls)
        sections += [
            "## Change, paired by seed",
            f"Mean change ± half width of its {comparison.CONFIDENCE:.0%} t interval over seeds (not corrected for the "
            "number of comparisons), and in how many seeds the figure fell.",
            markdown.changes(change, labels, digits, controls),
        ]
    return sections


def _figures(config: DictConfig, table: pd.DataFrame, logged: pd.DataFrame, controls: dict[str, str]) -> list[str]:
    label = {str(name): metric.label for name, metric in config.metrics.items()}
    shown = {
        "front": plots.front(
            table, (config.figures.x, label[config.figures.x]), _present(config.figures.front, label, table)
        ),
        "curves": plots.curves(logged, _present(config.figures.curves, label, logged)),
    }
    trained = [name.removesuffix("_weighted") for name in logged if name.endswith("_weighted")]
    if controls and "train/ce" in logged:
        excess = comparison.excess(logged, "train/ce", controls)
        shown["cost"] = plots.curves(excess, {"train/ce": "train CE above its control's, nats"})
    if trained:
        shown["penalties"] = plots.curves(
            logged, {name: f"{name.removeprefix('train/')}, unweighted" for name in trained}
        )
        weights = [f"{name}_{what}" for name in trained for what in ("coefficient", "to_ce_grad_ratio")]
        weights = [name for name in weights if name in logged]
        shown["weights"] = plots.curves(logged, {name: name.removeprefix("train/") for name in weights})
    if set(config.figures.spread.quantiles) <= set(table):
        shown["spread"] = plots.spreads(table, config.figures.spread.quantiles, config.figures.spread.label)
    folder = Path(config.to).with_suffix("")
    for name, figure in shown.items():
        plots.save(figure, folder / f"{name}.png")
    return [f"![{name}]({folder.name}/{name}.png)" for name in shown]


def _present(names: list[str], labels: dict[str, str], table: pd.DataFrame) -> dict[str, str]:
    return {name: labels[name] for name in names if name in table}


def _common_overrides(runs: list[Run]) -> list[str]:
    each = [list(OmegaConf.load(run.folder / "overrides.yaml")) for run in runs]
    common = [override for override in each[0] if all(override in other for other in each[1:])]
    return [_shortened(override) for override in common if not override.startswith(("variant=", "seed="))]


def _shortened(override: str) -> str:
    """Without the folders of one machine: a path keeps its last two parts."""
    key, _, value = override.replace("\\", "").partition("=")
    return f"{key}=.../{'/'.join(Path(value).parts[-2:])}" if Path(value).is_absolute() else f"{key}={value}"


def _spelled(config: DictConfig) -> list[str]:
    return [_shortened(f"{key}={config[key]}") for key in ("runs", "to", "baseline", "controls")]


@hydra.main(version_base="1.3", config_path=conf_dir(), config_name="report")
def main(config: DictConfig) -> None:
    """The command line."""
    try:
        table = report(config)
    except ValueError as error:
        sys.exit(f"error: {error}")
    console = Console()
    console.print(_terminal(config, table))
    console.print(f"written to {config.to}", soft_wrap=True)


def _terminal(config: DictConfig, table: pd.DataFrame) -> Table:
    columns = [name for name in config.terminal if name in table]
    summary = comparison.over_seeds(table, columns)
    first = Column("variant", no_wrap=True, min_width=max(map(len, map(str, summary.index))))
    shown = Table(first, "seeds", *[config.terminal[name] for name in columns], box=None)
    for variant, row in summary.iterrows():
        cells = [
            markdown.spread(row[(name, "mean")], row[(name, "sd")], config.metrics[name].digits) for name in columns
        ]
        shown.add_row(str(variant), str(int(row[("seeds", "n")])), *cells)
    return shown


if __name__ == "__main__":
    sys.argv[1:] = quoted(sys.argv[1:], ("runs", "to", "title"))
    main()
