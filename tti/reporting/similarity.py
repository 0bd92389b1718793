"""How alike the layers of a model are, and two models layer by layer: debiased linear CKA."""

import fnmatch
import re
from collections.abc import Iterator, Mapping
from functools import cache
from itertools import combinations
from typing import Any

import numpy as np
import pandas as pd
import torch

from tti.evaluation_folder import Evaluation
from tti.measures import debiased_cka
from tti.reporting.analysis import Analysis
from tti.reporting.cells import Cell, Found, Rows
from tti.reporting.tables import shortened

SAMPLE = "/sample"
Samples = Mapping[str, torch.Tensor]


@cache  # of the analysis: Markdown and page show it
def between_runs(analysis: Analysis) -> pd.DataFrame:
    """CKA of each run with the baseline's run of the same seed, and of the baseline's seeds with each other.

    At the stored tokens, which all runs with the same data share. Beside another seed's, a value says whether a method
    changes what a layer represents by more than a seed does.

    Returns:
        ``variant, kind, layer, cka``: a row a pair of runs and layer; the variant of two seeds of the baseline is "".
    """
    baseline = analysis.config.baseline
    rows: list[dict[str, Any]] = []
    seeds = {seed: found for (variant, seed), found in analysis.found.evaluations.items() if variant == baseline}
    references = {seed: loaded for seed, found in seeds.items() if (loaded := _samples(analysis, found))}
    for (_, one), (_, other) in combinations(references.items(), 2):
        rows += _compared("", one, other)
    for (variant, seed), evaluation in analysis.found.evaluations.items():
        if variant != baseline and seed in references:
            rows += _compared(variant, _samples(analysis, evaluation), references[seed])
    return pd.DataFrame(rows, columns=["variant", "kind", "layer", "cka"])


def finding(analysis: Analysis) -> list[Found]:
    """The mean over seeds for each layer."""
    pairs = between_runs(analysis)
    if pairs.empty:
        return []
    means = pairs.groupby(["variant", "kind", "layer"], sort=False)["cka"].mean()
    places = list(dict.fromkeys(zip(pairs["kind"], pairs["layer"], strict=True)))
    baseline = analysis.config.baseline
    rows = []
    for variant in ["", *[v for v in analysis.variants if v in set(pairs["variant"])]]:
        values = [float(means.get((variant, *place), np.nan)) for place in places]
        name = Cell(variant, kind="name") if variant else Cell(f"{baseline}, other seeds")
        rows.append([name, *[Cell("-" if np.isnan(v) else f"{v:.3f}", v) for v in values]])
    header = ["variant", *[f"{kind} {layer}" for kind, layer in places]]
    return [Found("How far from the baseline's representations", [note(analysis)], Rows(header, rows))]


def note(analysis: Analysis) -> str:
    """What is shown."""
    return (
        f"Debiased linear CKA of each layer with that of `{analysis.config.baseline}` of the same seed (same start, "
        "same stories), at the same tokens: 1 is the same representation but for rotation and scale, 0 an unrelated "
        "one. Below what two seeds of the baseline reach, a method has changed the layer by more than a seed does."
    )


def layers(analysis: Analysis) -> Iterator[tuple[str, str, np.ndarray]]:
    """Variant, kind of site, and ``[layer, layer]`` CKA between the layers, mean over seeds."""
    found: dict[tuple[str, str], list[np.ndarray]] = {}
    for (variant, _), evaluation in analysis.found.evaluations.items():
        try:
            arrays = evaluation.part("geometry").arrays
            for key in (key for key in arrays if key.startswith("cka/")):
                found.setdefault((variant, key.removeprefix("cka/")), []).append(arrays[key])
        except (ValueError, LookupError):
            continue  # said when its metrics were read
    for (variant, kind), matrices in found.items():
        if len({matrix.shape for matrix in matrices}) == 1 and len(matrices[0]) > 1:
            yield variant, kind, np.mean(matrices, axis=0)


def _samples(analysis: Analysis, evaluation: Evaluation) -> dict[str, torch.Tensor]:
    """Site -> ``[token, width]``; with the places of the tokens, so that only equal ones are compared."""
    try:
        arrays = evaluation.part("geometry").arrays
        wanted = [key for key in arrays if key.endswith(SAMPLE) and _chosen(analysis, key.removesuffix(SAMPLE))]
        samples = {key.removesuffix(SAMPLE): torch.from_numpy(arrays[key].astype(np.float32)) for key in wanted}
        return samples | {"": torch.from_numpy(arrays["sample/place"])} if samples else {}
    except (ValueError, LookupError) as error:
        remark = f"no CKA between runs: {shortened(str(error), evaluation)}"
        if remark not in analysis.remarks:
            analysis.remarks.append(remark)
        return {}


def _chosen(analysis: Analysis, site: str) -> bool:
    return any(fnmatch.fnmatchcase(site, glob) for glob in analysis.config.figures.similarity)


def _compared(variant: str, ours: Samples, theirs: Samples) -> list[dict[str, Any]]:
    if not ours or not theirs or not torch.equal(ours[""], theirs[""]):
        return []
    return [
        {"variant": variant, "kind": kind, "layer": layer, "cka": float(debiased_cka(ours[site], theirs[site]))}
        for site in ours
        if site and site in theirs
        for layer, kind in [_place(site)]
    ]


def _place(site: str) -> tuple[int, str]:
    found = re.fullmatch(r"blocks\.(\d+)\.(.+)", site)
    return (int(found[1]), found[2]) if found else (0, site)
