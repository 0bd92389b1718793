"""The neuron browser: a folder that opens from disk, with data files that are loaded on demand."""

import fnmatch
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from omegaconf import OmegaConf
from rich.console import Console
from rich.progress import track

from tti.data.tokenizers import vocabulary_size
from tti.evaluation_folder import Evaluation, Part
from tti.reporting import assets, encoding
from tti.reporting.analysis import Analysis
from tti.reporting.contexts import Contexts
from tti.reporting.given import Given, is_a_site
from tti.reporting.tables import shortened

ASSETS = ("style.css", "data.js", "tokens.js", "browser.js")
POST = "post"
SHOWN_IN_LIST = 8  # token types, and tokens of the highest activations, by which a neuron can be found


@dataclass(frozen=True)
class Browsed:
    """A run in the browser: its number, its variant in the report, its evaluation, and its sites with neurons."""

    number: int
    variant: str
    run: Given
    evaluation: Evaluation
    sites: list[str]

    @property
    def part(self) -> Part:
        """The contexts of the run."""
        return self.evaluation.part("contexts")


def write(analysis: Analysis, folder: Path, console: Console) -> tuple[list[Browsed], list[str]]:
    """Write the folder from scratch.

    Returns:
        The runs in it, none if no run has contexts; and remarks on what could not be read.
    """
    runs = browsed(analysis)
    shutil.rmtree(folder, ignore_errors=True)
    if not runs:
        return [], []
    folder.mkdir(parents=True)
    assets.write_page("browser.html", ASSETS, folder)
    data, settings = folder / "data", analysis.config.browser
    corpora: dict[str, str] = {}
    remarks: list[str] = []
    listed, written = [], []
    for each in track(runs, "neuron browser", console=console, transient=True, disable=not console.is_terminal):
        try:
            listed.append(_write_run(each, corpora, data, settings))
            written.append(each)
        except (ValueError, LookupError) as error:
            remarks.append(f"not in the browser: {shortened(error, each.evaluation)}")
    panels = OmegaConf.to_container(settings.panels)
    encoding.write(data, "index", {
        "runs": listed, "title": ", ".join(analysis.selection.experiments),
        "report": f"../../{folder.parent.name}.html",
        "panels": panels, "hidden": list(settings.hidden), "sort": settings.sort,
    })  # fmt: skip
    return written, remarks


def browsed(analysis: Analysis) -> list[Browsed]:
    """The runs with contexts among the lowest seeds of each variant."""
    settings, taken = analysis.config.browser, dict.fromkeys(analysis.variants, 0)
    chosen: list[Browsed] = []
    for run in analysis.selection.finished:
        variant, evaluation = analysis.selection.name(run.key), analysis.found.evaluations.get(run.key)
        if evaluation is None or "contexts" not in evaluation.parts() or taken[variant] >= settings.seeds:
            continue
        try:
            sites = [site for site in evaluation.sites() if is_a_site(site)
                     and any(fnmatch.fnmatchcase(site, glob) for glob in settings.sites)]  # fmt: skip
        except ValueError:
            continue  # reported when its metrics were read
        if sites:
            chosen.append(Browsed(len(chosen), variant, run, evaluation, sites))
            taken[variant] += 1
    return chosen


def _write_run(browsed: Browsed, corpora: dict[str, str], data: Path, settings: Any) -> dict[str, Any]:
    part = browsed.part
    corpus = str(part.of["data"]) + str(part.of["tokenizer"])
    if corpus not in corpora:
        corpora[corpus] = f"corpus-{len(corpora)}"
        encoding.write(data, corpora[corpus], {
            "vocabulary": vocabulary(browsed.run), "tokens": encoding.array(part.arrays["tokens"]),
        })  # fmt: skip
    sites: list[dict[str, Any]] = []
    for site in browsed.sites:
        sites += _write_site(browsed, part, site, len(sites), data, settings)
    return {
        "number": browsed.number, "variant": browsed.variant, "seed": browsed.run.key.seed,
        "loss": browsed.run.summary["metrics"].get("val/loss"), "corpus": corpora[corpus],
        "before": int(part.metrics["window_before"]), "sites": sites,
    }  # fmt: skip


def vocabulary(run: Given) -> list[str]:
    """The text of every token of a run's tokenizer."""
    tokenizer = run.tokenizer
    return [tokenizer.decode([token], skip_special_tokens=False) for token in range(vocabulary_size(tokenizer))]


def _write_site(
    browsed: Browsed, part: Part, site: str, number: int, data: Path, settings: Any
) -> Iterator[dict[str, Any]]:
    """Write the neurons of a site, those of each expert as a site of their own; yields their entries in the index.

    Args:
        browsed: the run.
        part: its contexts.
        site: the evaluated site.
        number: number of the first of these sites.
        data: folder of the data.
        settings: the browser's configuration.
    """
    statistics = browsed.evaluation.neurons(site)
    statistics = {name: values for name, values in statistics.items() if np.isfinite(values).any()}
    arrays = dict(_details(browsed.evaluation, site, settings.panels))
    contexts = Contexts.of(part, site)
    width = len(next(iter(statistics.values())))
    table: dict[str, Any] = {"columns": {name: v.astype(np.float32) for name, v in statistics.items()}}
    if settings.found_by in arrays:
        table["types"] = arrays[settings.found_by][:, :SHOWN_IN_LIST].astype(np.int32)
    if contexts is not None:
        places = contexts.places["top"][:, :SHOWN_IN_LIST]
        table["peaks"] = np.where(places < 0, -1, part.arrays["tokens"][places].astype(np.int32))
        arrays |= {"scale": contexts.scale}
        for kind in contexts.places:
            arrays |= {f"{kind}_place": contexts.places[kind].astype(np.int32),
                       f"{kind}_activation": contexts.activations[kind].astype(np.float32),
                       f"{kind}_window": contexts.windows[kind]}  # fmt: skip
    per_file = settings.neurons_per_file
    for i, (name, some) in enumerate(_neurons_of(browsed.run, site, width)):
        folder = f"{browsed.number}/{number + i}"  # numbers, since a name could lead anywhere
        encoding.write(data, f"{folder}/table", {
            key: {c: encoding.array(v[some]) for c, v in each.items()} if isinstance(each, dict)
            else encoding.array(each[some]) for key, each in table.items()
        })  # fmt: skip
        for block, start in enumerate(range(some.start, some.stop, per_file)):
            rows = slice(start, min(start + per_file, some.stop))
            encoding.write(data, f"{folder}/{block}", {k: encoding.array(v[rows]) for k, v in arrays.items()})
        yield {
            "name": name, "folder": folder, "width": some.stop - some.start, "perFile": per_file,
            "statistics": list(statistics), "note": "" if name == site else _visited(statistics, some),
        }  # fmt: skip


def _neurons_of(run: Given, site: str, width: int) -> Iterator[tuple[str, slice]]:
    """The site with all its neurons; in a mixture of experts, a site for each expert with its neurons."""
    scope = site.removesuffix(POST)
    if scope == site or not run.experts or width % run.experts:
        yield site, slice(0, width)
        return
    each = width // run.experts
    yield from ((f"{scope}experts.{j}.{POST}", slice(j * each, (j + 1) * each)) for j in range(run.experts))


def _visited(statistics: Mapping[str, np.ndarray], neurons: slice) -> str:
    """A note on the tokens that did not visit an expert, with the share of those that did, if that is known."""
    zeros = statistics.get("zero_rate", np.full(neurons.stop, np.nan))[neurons]
    share = f" About {1 - np.nanmin(zeros):.1%} of the tokens visited it." if np.isfinite(zeros).any() else ""
    return f"The neurons of one expert. A token that did not visit it counts as 0 in every figure and list here.{share}"


def _details(evaluation: Evaluation, site: str, panels: Sequence[Any]) -> Iterator[tuple[str, np.ndarray]]:
    """The arrays of a site that panels show."""
    wanted = [name for panel in panels for name in panel.get("arrays", ())]
    for part in map(evaluation.part, evaluation.parts()):
        yield from ((name, part.arrays[f"{site}/{name}"]) for name in wanted if f"{site}/{name}" in part.arrays)
