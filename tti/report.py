"""``python -m tti.report runs=FOLDER``: compare finished runs in tables, Markdown, a page and a neuron browser."""

import glob
import logging
import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from omegaconf import DictConfig, OmegaConf
from rich.console import Console
from rich.table import Column, Table
from rich.text import Text

from tti.command import command
from tti.configuration import conf_dir
from tti.durable import write_atomically

if TYPE_CHECKING:
    from tti.reporting.analysis import Analysis

# pandas and matplotlib are imported on use: `--help` need not wait seconds for them.
CONSOLE = Console(highlight=False, soft_wrap=True)


def report(config: DictConfig) -> "Analysis":
    """Write the comparison: Markdown, figures, tidy tables, the page, and the browser if runs were evaluated.

    Raises:
        ValueError: there are no finished runs, or they are not comparable; the message says why and what to do.
    """
    from tti.reporting import browser, document, findings, latents, page, pictures, rating
    from tti.reporting.analysis import analyse
    from tti.reporting.selection import select

    to, config = destination(config), as_now(config)
    patterns, references = document.patterns(config), list(config.references)
    with CONSOLE.status("reading runs and evaluations"):
        analysis = analyse(config, select(patterns, config.baseline, config.compare_anyway, references))
    folder = to.with_suffix("")
    folder.mkdir(parents=True, exist_ok=True)
    analysis.table.to_csv(folder / "runs.csv", index=False)
    analysis.table.to_parquet(folder / "runs.parquet", index=False)
    findings.long(analysis).to_csv(folder / "figures.csv", index=False)
    browsed, unread = browser.write(analysis, folder / "browser", CONSOLE)
    latents.write(analysis, folder / "latents.html")
    with CONSOLE.status("figures and tables"):
        drawn, rated = pictures.draw(analysis), rating.rated(analysis, folder, browsed)
        analysis = replace(analysis, remarks=(*analysis.remarks, *unread, *drawn.remarks, *rated.remarks))
        write_atomically(to, document.text(analysis, to, rated.sections()))
        court = Path(os.path.relpath(analysis.believed.page, to.parent)).as_posix() if analysis.believed else ""
        html = page.html(analysis, rated, drawn, folder.name, bool(browsed), court)
        write_atomically(to.with_suffix(".html"), html)
    if config.wandb.mode:
        _publish(analysis, folder)
    return analysis


def as_now(config: DictConfig) -> DictConfig:
    """The configuration with ``primary=LOSS``, the former spelling, as ``loss=LOSS``."""
    if not isinstance(config.primary, str):
        return config
    declared = OmegaConf.load(Path(conf_dir(), "report.yaml"))
    return DictConfig(OmegaConf.merge(config, {"loss": config.primary, "primary": declared.primary}))


def _publish(analysis: "Analysis", folder: Path) -> None:
    from tti.loggers.wandb_report import publish
    from tti.reporting import document

    images = {path.stem: path for path in sorted(folder.glob("*.png"))}
    wandb = analysis.config.wandb
    group = wandb.group or analysis.selection.experiments[0]
    title = document.title(analysis.config)
    publish(title, analysis.table, images, mode=wandb.mode, project=wandb.project, group=group, folder=folder)


def destination(config: DictConfig) -> Path:
    """The path of the Markdown: as given, or in the folder of the runs; for several folders, next to the first.

    Raises:
        ValueError: a pattern is not a folder, and no path is given.
    """
    from tti.reporting import document

    folders = [Path(pattern) for pattern in document.patterns(config)]
    if config.to:
        if Path(config.to).is_dir():
            raise ValueError(f"to={config.to} is a folder: name the file to write, to={config.to}/report.md")
        return Path(config.to)
    if missing := [pattern for pattern in document.patterns(config) if not glob.glob(pattern)]:  # noqa: PTH207
        raise ValueError(f"no such folder: {missing[0]} (from folder {Path.cwd()})")
    if not all(folder.is_dir() for folder in folders):
        raise ValueError("runs=... is not only folders: set to=FOLDER/report.md to say where the report goes")
    return folders[0] / "report.md" if len(folders) == 1 else folders[0].parent / f"{_joined(folders)}.md"


def _joined(folders: Sequence[Path]) -> str:
    return "+".join(dict.fromkeys(folder.resolve().name for folder in folders))


@command("report", free=("runs", "to", "title", "court"), lists=("runs",))
def main(config: DictConfig) -> None:
    """Entry point of the command."""
    from tti.reporting import markdown, summary

    logging.getLogger("matplotlib").setLevel(logging.ERROR)
    analysis = report(config)
    Console().print(_terminal(analysis))
    for sentence in summary.sentences(analysis):
        CONSOLE.print(markdown.plain(sentence), markup=False)
    for remark in analysis.remarks:
        CONSOLE.print(f"note: {markdown.plain(remark)}", markup=False)
    to = destination(config)
    CONSOLE.print(f"written to {to}; open {to.with_suffix('.html')} in a browser")


def _terminal(analysis: "Analysis") -> Table:
    """The report's first table."""
    from tti.reporting import findings

    found = findings.first(analysis).table
    columns = (0, *range(3, 7))  # control and trust are in the sentences below
    first = Column(found.header[0], no_wrap=True, min_width=max(map(len, analysis.variants)))
    shown = Table(first, *[Column(found.header[i], no_wrap=i < 6) for i in columns[1:]], box=None)
    for row in found.rows:
        shown.add_row(*[Text(f"{row[i].text} {row[i].spread}".strip()) for i in columns])
    return shown


if __name__ == "__main__":
    main()
