"""Similarity of a model's layers, and of two models layer by layer: debiased linear CKA."""

import fnmatch
import re
from collections.abc import Mapping, Sequence
from itertools import combinations
from typing import Any

import numpy as np
import pandas as pd
import torch

from tti.evaluation_folder import Evaluation
from tti.measures import debiased_cka
from tti.reporting import tables
from tti.reporting.given import Key, is_a_site
from tti.reporting.selection import Selection

SAMPLE, PLACE, CKA = "/sample", "sample/place", "cka/"
Samples = Mapping[str, torch.Tensor]


def between_runs(
    evaluations: Mapping[Key, Evaluation], selection: Selection, baselines: Sequence[str], sites: Sequence[str]
) -> tuple[pd.DataFrame, list[str]]:
    """CKA of each run with its experiment's baseline of the same seed, and of the baseline's seeds with each other.

    Computed at the stored tokens, which all runs with the same data share. The value for two baseline seeds shows
    whether a method changes a layer's representation more than a seed does.

    Returns:
        ``variant, kind, layer, cka``, one row per pair of runs and layer, where the variant of two baseline seeds is
        ""; and remarks on what could not be read.
    """
    remarks: list[str] = []
    rows: list[dict[str, Any]] = []
    references = {key: loaded for key in evaluations if selection.name(key) in baselines
                  if (loaded := _samples(evaluations, key, sites, remarks))}  # fmt: skip
    for (one, ours), (other, theirs) in combinations(references.items(), 2):
        if one.experiment == other.experiment:
            rows += _compared("", ours, theirs)
    of_seed = {(key.experiment, key.seed): loaded for key, loaded in references.items()}
    for key in evaluations:
        if key not in references and (reference := of_seed.get((key.experiment, key.seed))):
            rows += _compared(selection.name(key), _samples(evaluations, key, sites, remarks), reference)
    return pd.DataFrame(rows, columns=["variant", "kind", "layer", "cka"]), remarks


def between_layers(
    evaluations: Mapping[Key, Evaluation], selection: Selection
) -> tuple[list[tuple[str, str, np.ndarray]], list[str]]:
    """Variant, kind of site, and ``[layer, layer]`` CKA between the layers, mean over seeds; and remarks."""
    remarks: list[str] = []
    found: dict[tuple[str, str], list[np.ndarray]] = {}
    for key, name, matrix, _ in tables.arrays(evaluations, f"{CKA}*", remarks, "no CKA between layers"):
        found.setdefault((selection.name(key), name.removeprefix(CKA)), []).append(matrix)
    alike = [(*place, np.mean(matrices, axis=0)) for place, matrices in found.items()
             if len({matrix.shape for matrix in matrices}) == 1 and len(matrices[0]) > 1]  # fmt: skip
    return alike, remarks


def _samples(
    evaluations: Mapping[Key, Evaluation], key: Key, sites: Sequence[str], remarks: list[str]
) -> dict[str, torch.Tensor]:
    """Site -> ``[token, width]``; and, under "", the positions of the tokens, so that only equal ones are compared."""
    samples: dict[str, torch.Tensor] = {}
    for _, name, values, part in tables.arrays({key: evaluations[key]}, f"*{SAMPLE}", remarks, "no CKA between runs"):
        site = name.removesuffix(SAMPLE)
        if is_a_site(site) and PLACE in part.arrays and any(fnmatch.fnmatchcase(site, glob) for glob in sites):
            samples[site] = torch.from_numpy(values.astype(np.float32))
            samples[""] = torch.from_numpy(part.arrays[PLACE])
    return samples


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
