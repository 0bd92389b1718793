"""``python -m tti.court``: metrics stand trial on planted layers, whose truth is known."""

import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from omegaconf import DictConfig, OmegaConf
from rich.console import Console
from rich.table import Column, Table
from rich.text import Text

from tti.command import command
from tti.configuration import digest
from tti.durable import write_atomically

if TYPE_CHECKING:
    from tti.court.bench import Bench, Layer
    from tti.court.record import Record
    from tti.court.scores import Metric
    from tti.court.verdict import Verdict

# torch and everything built on it are imported on use: `--help` need not wait seconds for them.
CONSOLE = Console(stderr=True, highlight=False, soft_wrap=True)
TOLD, WIDTH = 15, 130  # rows of the table in the terminal, and its least width
UNTOLD = ("better", "V", "G", "K")


def court(config: DictConfig) -> "Verdict":
    """Measure what is missing, judge, and write the table, the page and the figures.

    Raises:
        ValueError: a metric or part is unknown, or the sealed seeds were opened before for something else.
    """
    from tti.court import document, page
    from tti.court.bench import Bench, layers
    from tti.court.plan import Plan
    from tti.court.record import Record
    from tti.court.trained import Trained
    from tti.court.verdict import Verdict
    from tti.reporting import believed

    plan, bench = Plan.of(config.trial), Bench(config)
    metrics = list(on_trial(config, bench))
    if not metrics:
        raise ValueError("no metric stands trial: evaluation=[PART] chooses parts, more=[PART/METRIC] metrics of yours")
    trained = Trained(list(config.runs), config.baseline, config.trial.trained) if config.runs else None
    frozen, how = frozen_digest(config), {part: bench.how(part) for part in bench.parts}
    asked = {"frozen": frozen, "metrics": sorted(metric.name for metric in metrics), "parts": how}
    record = Record(Path(config.folder))
    if config.open:
        record.open(asked)
    opened = record.opened(asked)
    seeds = [*config.trial.seeds.open, *(config.trial.seeds.sealed if opened else [])]
    measure(config, layers(plan.recipes(), seeds), bench, record, how, metrics)
    verdict = Verdict(
        plan=plan,
        trial=config.trial,
        frozen=frozen,
        settings=digest(json.dumps(how, sort_keys=True)),
        opened=opened,
        metrics=metrics,
        find=lambda layer, part: record.find(layer, part, how[part]),
        trained=trained,
    )
    to = Path(config.to or Path(config.folder, "court.md"))
    to.with_suffix("").mkdir(parents=True, exist_ok=True)
    verdict.verdicts().to_csv(to.with_suffix("") / believed.FILE, index=False, float_format="%.6g")
    verdict.figures().to_csv(to.with_suffix("") / "figures.csv", index=False, float_format="%.6g")
    write_atomically(to, document.text(verdict, to))
    write_atomically(to.with_suffix(".html"), page.html(verdict, to))
    return verdict


def on_trial(config: DictConfig, bench: "Bench") -> Iterator["Metric"]:
    """The metrics of the parts on trial: those of the frozen file, then the user's own."""
    from tti.court.scores import Metric

    for name, of in config.trial.metrics.items():
        if name.partition("/")[0] in bench.parts:
            yield Metric(name, of.better, of.says)
    for better in ("more", "less"):
        for name in config[better]:
            part = name.partition("/")[0]
            if part not in bench.parts:
                raise ValueError(
                    f"{better}=[{name}]: no part {part!r} stands trial; there are: {', '.join(bench.parts)}"
                )
            yield Metric(name, better, (type(bench.part(part)).__doc__ or "").strip().partition("\n")[0].rstrip("."))


def frozen_digest(config: DictConfig) -> str:
    """The digest of the frozen file's planted half, with all overrides: without what trained networks are held to, and
    without the reasons why others are not on trial."""
    frozen = {name: value for name, value in config.trial.items() if name not in ("trained", "untried")}
    return digest(json.dumps(OmegaConf.to_container(OmegaConf.create(frozen), resolve=True), sort_keys=True))


def measure(
    config: DictConfig,
    layers: Iterable["Layer"],
    bench: "Bench",
    record: "Record",
    how: dict[str, str],
    metrics: list["Metric"],
) -> None:
    """Measure what is missing; every measurement is kept as soon as it is made."""
    import torch
    from rich.progress import track

    if config.threads:
        torch.set_num_threads(config.threads)
    missing: dict[Layer, list[str]] = {}
    for layer in layers:
        parts = [part for part in bench.parts if config.overwrite or record.find(layer, part, how[part]) is None]
        if parts:
            missing[layer] = parts
    for layer in track(missing, f"trying {len(bench.parts)} parts on {len(missing)} layers", console=CONSOLE):
        network = bench.plant(layer)
        for part in missing[layer]:
            found = bench.measure(part, network, layer)
            require_measured(part, found.metrics, metrics)
            record.add(layer, part, how[part], found)


def require_measured(part: str, found: dict[str, float], metrics: list["Metric"]) -> None:
    """Check that a part yields its metrics on trial.

    Raises:
        ValueError: it does not; the message lists those that it yields.
    """
    if absent := [metric.name for metric in metrics if metric.part == part and metric.name not in found]:
        raise ValueError(f"no metric {', '.join(absent)}; {part} yields: {', '.join(found)}")


@command("court", free=("folder", "to", "runs"), lists=("runs",))
def main(config: DictConfig) -> None:
    """Entry point of the command."""
    verdict = court(config)
    out = Console(highlight=False, soft_wrap=True)
    Console(highlight=False, width=max(out.width, WIDTH)).print(terminal(verdict))
    for sentence in verdict.sentences():
        out.print(sentence, markup=False)
    to = Path(config.to or Path(config.folder, "court.md"))
    out.print(f"written to {to}; open {to.with_suffix('.html')} in a browser")


def terminal(verdict: "Verdict") -> Table:
    """The first rows of the last sitting's table: on the sealed seeds if they are open."""
    from tti.court import tables

    rows = tables.verdicts(verdict.sittings[-1], verdict.trained)
    columns = [column for column, name in enumerate(rows.header) if name not in UNTOLD]
    shown = Table(*[Column(rows.header[column], no_wrap=True) for column in columns], box=None)
    for row in rows.rows[:TOLD]:
        shown.add_row(*[Text(f"{row[column].text} {row[column].spread}".strip()) for column in columns])
    return shown


if __name__ == "__main__":
    main()
