"""``python -m tti.report runs=FOLDER``: compare finished runs: terminal, tables, Markdown, a page, a neuron browser."""

import glob
import logging
import sys
from pathlib import Path

import hydra
from omegaconf import DictConfig
from rich.console import Console
from rich.table import Column, Table

from tti.configuration import conf_dir, quoted
from tti.durable import write_atomically
from tti.reporting import browser, comparison, document, markdown, page, rating
from tti.reporting.analysis import Analysis
from tti.reporting.selection import select
from tti.runs import errors_in_a_line
from tti.schema import check

CONSOLE = Console(highlight=False, soft_wrap=True)


def report(config: DictConfig) -> Analysis:
    """Write the comparison: Markdown, figures, tidy tables, the page, and the browser where runs were evaluated.

    Raises:
        ValueError: there are no finished runs, or they do not compare; the message says why and what to do.
    """
    patterns = document.patterns(config)
    to = destination(config)
    with CONSOLE.status("reading runs and evaluations"):
        analysis = Analysis(config, select(patterns, config.baseline, config.compare_anyway))
    folder = to.with_suffix("")
    folder.mkdir(parents=True, exist_ok=True)
    analysis.table.to_csv(folder / "runs.csv", index=False)
    analysis.table.to_parquet(folder / "runs.parquet", index=False)
    browsed = browser.write(analysis, folder / "browser", CONSOLE)
    with CONSOLE.status("figures and tables"):
        rated = rating.rated(analysis, folder, browsed)
        write_atomically(to, document.text(analysis, to, rated.sections()))
        write_atomically(to.with_suffix(".html"), page.html(analysis, rated, folder.name, bool(browsed)))
    if config.wandb.mode:
        _publish(analysis, folder)
    return analysis


def _publish(analysis: Analysis, folder: Path) -> None:
    from tti.loggers.wandb_report import publish  # seconds that others need not wait for

    images = {path.stem: path for path in sorted(folder.glob("*.png"))}
    wandb = analysis.config.wandb
    group = wandb.group or str(analysis.table["experiment"].iloc[0])
    title = document.title(analysis.config)
    publish(title, analysis.table, images, mode=wandb.mode, project=wandb.project, group=group, folder=folder)


def destination(config: DictConfig) -> Path:
    """Where the Markdown goes: as given, or into the folder of the runs.

    Raises:
        ValueError: there are several folders, and nothing is given.
    """
    if config.to:
        if Path(config.to).is_dir():
            raise ValueError(
                f"to={config.to} is a folder: name the file that the report is written to, {config.to}/report.md"
            )
        return Path(config.to)
    patterns = document.patterns(config)
    if missing := [pattern for pattern in patterns if not glob.glob(pattern)]:  # noqa: PTH207
        raise ValueError(f"no such folder: {missing[0]} (from folder {Path.cwd()})")
    if len(patterns) > 1 or not Path(patterns[0]).is_dir():
        raise ValueError("runs=... is more than one folder: say where the report goes, with to=FOLDER/report.md")
    return Path(patterns[0]) / "report.md"


@hydra.main(version_base="1.3", config_path=conf_dir(), config_name="report")
def main(config: DictConfig) -> None:
    """The command line."""
    logging.getLogger("matplotlib").setLevel(logging.ERROR)
    with errors_in_a_line():
        check(config)
        analysis = report(config)
    Console().print(_terminal(analysis))
    for remark in analysis.remarks:
        CONSOLE.print(f"note: {remark}", markup=False)
    to = destination(config)
    CONSOLE.print(f"written to {to}; open {to.with_suffix('.html')} in a browser")


def _terminal(analysis: Analysis) -> Table:
    headings = {name: label for name, label in analysis.config.terminal.items() if name in analysis.metrics}
    summary = comparison.over_seeds(analysis.table, list(headings))
    first = Column("variant", no_wrap=True, min_width=max(map(len, map(str, summary.index))))
    shown = Table(first, "seeds", *headings.values(), box=None)
    for variant, row in summary.iterrows():
        cells = [markdown.spread(row[(name, "mean")], row[(name, "sd")], analysis.digits[name]) for name in headings]
        shown.add_row(str(variant), str(int(row[("seeds", "n")])), *cells)
    return shown


if __name__ == "__main__":
    lists = [argument for argument in sys.argv[1:] if argument.startswith("runs=[")]  # Hydra's own syntax
    sys.argv[1:] = [*quoted(lists), *quoted([a for a in sys.argv[1:] if a not in lists], ("runs", "to", "title"))]
    main()
