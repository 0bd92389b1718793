"""The neuron browser: a folder that opens from disk, its data in files that are loaded when they are looked at."""

import fnmatch
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.progress import track

from tti.data.tokenizers import vocabulary_size
from tti.evaluation_folder import Evaluation, Part
from tti.reporting import encoding
from tti.reporting.analysis import Analysis
from tti.reporting.contexts import Contexts
from tti.reporting.tables import shortened
from tti.runs import Run

ASSETS = ("style.css", "data.js", "tokens.js", "browser.js")
DETAILS = ("histogram", "histogram_edges", "top_types", "top_types_share", "top_types_mean",
           "promoted", "promoted_logit", "suppressed", "suppressed_logit")  # fmt: skip
SHOWN_IN_LIST = 8  # token types, and tokens of the highest activations, that a neuron is found by


@dataclass(frozen=True)
class Browsed:
    """A run in the browser: its number there, its evaluation, and the sites that have neurons."""

    number: int
    run: Run
    evaluation: Evaluation
    sites: list[str]

    @property
    def part(self) -> Part:
        """Its contexts."""
        return self.evaluation.part("contexts")


def write(analysis: Analysis, folder: Path, console: Console) -> list[Browsed]:
    """Write the folder anew; the runs in it, none where no run has contexts. What cannot be read is remarked."""
    runs = browsed(analysis)
    shutil.rmtree(folder, ignore_errors=True)
    if not runs:
        return []
    folder.mkdir(parents=True)
    copy_assets(("browser.html", *ASSETS), folder)
    (folder / "browser.html").rename(folder / "index.html")
    data = folder / "data"
    corpora: dict[str, str] = {}
    listed, written = [], []
    for each in track(runs, "neuron browser", console=console, transient=True, disable=not console.is_terminal):
        try:
            listed.append(_write_run(each, corpora, data, analysis.config.browser.neurons_per_file))
            written.append(each)
        except (ValueError, LookupError) as error:
            analysis.remarks.append(f"not in the browser: {shortened(str(error), each.evaluation)}")
    title, report = analysis.selection.finished[0].config.experiment, f"../../{folder.parent.name}.html"
    encoding.write(data, "index", {"runs": listed, "title": title, "report": report})
    return written


def browsed(analysis: Analysis) -> list[Browsed]:
    """The runs of the lowest seeds of each variant that have contexts."""
    settings, taken = analysis.config.browser, dict.fromkeys(analysis.variants, 0)
    chosen: list[Browsed] = []
    for run in analysis.selection.finished:
        variant, evaluation = run.config.variant, analysis.found.evaluations.get((run.config.variant, run.config.seed))
        if evaluation is None or "contexts" not in evaluation.parts() or taken[variant] >= settings.seeds:
            continue
        try:
            sites = [s for s in evaluation.sites() if any(fnmatch.fnmatchcase(s, glob) for glob in settings.sites)]
        except ValueError:
            continue  # said when its metrics were read
        if sites:
            chosen.append(Browsed(len(chosen), run, evaluation, sites))
            taken[variant] += 1
    return chosen


def copy_assets(names: Sequence[str], folder: Path) -> None:
    """Copy files of ``web/``."""
    for name in names:
        (folder / name).write_bytes((files("tti.reporting") / "web" / name).read_bytes())


def _write_run(browsed: Browsed, corpora: dict[str, str], data: Path, per_file: int) -> dict[str, Any]:
    part = browsed.part
    corpus = part.of["data"] + part.of["tokenizer"]
    if corpus not in corpora:
        corpora[corpus] = f"corpus-{len(corpora)}"
        encoding.write(data, corpora[corpus], {
            "vocabulary": vocabulary(browsed.run), "tokens": encoding.array(part.arrays["tokens"]),
        })  # fmt: skip
    sites = [_write_site(browsed, part, site, data, per_file) for site in browsed.sites]
    return {
        "number": browsed.number, "variant": browsed.run.config.variant, "seed": browsed.run.config.seed,
        "loss": browsed.run.summary["metrics"].get("val/loss"), "corpus": corpora[corpus],
        "before": int(part.metrics["window_before"]), "sites": sites,
    }  # fmt: skip


def vocabulary(run: Run) -> list[str]:
    """The text of every token of a run's tokenizer."""
    tokenizer = run.tokenizer
    return [tokenizer.decode([token], skip_special_tokens=False) for token in range(vocabulary_size(tokenizer))]


def _write_site(browsed: Browsed, part: Part, site: str, data: Path, per_file: int) -> dict[str, Any]:
    statistics = browsed.evaluation.neurons(site)
    statistics = {name: values for name, values in statistics.items() if np.isfinite(values).any()}
    arrays = dict(_details(browsed.evaluation, site))
    contexts = Contexts.of(part, site)
    width = len(next(iter(statistics.values())))
    table: dict[str, Any] = {"columns": {name: encoding.array(v.astype(np.float32)) for name, v in statistics.items()}}
    if "top_types" in arrays:
        table["types"] = encoding.array(arrays["top_types"][:, :SHOWN_IN_LIST].astype(np.int32))
    if contexts is not None:
        places = contexts.places["top"][:, :SHOWN_IN_LIST]
        table["peaks"] = encoding.array(np.where(places < 0, -1, part.arrays["tokens"][places].astype(np.int32)))
        arrays |= {"scale": contexts.scale}
        for kind in contexts.places:
            arrays |= {f"{kind}_place": contexts.places[kind].astype(np.int32),
                       f"{kind}_activation": contexts.activations[kind].astype(np.float32),
                       f"{kind}_window": contexts.windows[kind]}  # fmt: skip
    name = f"{browsed.number}/{site}"
    encoding.write(data, f"{name}/table", table)
    for block, start in enumerate(range(0, width, per_file)):
        rows = {key: encoding.array(values[start : start + per_file]) for key, values in arrays.items()}
        encoding.write(data, f"{name}/{block}", rows)
    return {"name": site, "width": width, "perFile": per_file, "statistics": list(statistics)}


def _details(evaluation: Evaluation, site: str) -> Iterator[tuple[str, np.ndarray]]:
    for part in map(evaluation.part, evaluation.parts()):
        for name in DETAILS:
            if f"{site}/{name}" in part.arrays:
                yield name, part.arrays[f"{site}/{name}"]
