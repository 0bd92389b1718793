"""Pictures of an evaluation's neurons as a whole: firing rates, cosines, a map."""

import base64
import io
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib as mpl
import matplotlib.image
import numpy as np

from tti.evaluation_folder import Part
from tti.reporting import similarity, tables
from tti.reporting.analysis import Analysis
from tti.reporting.given import is_a_site

BINS = 25
MOST_MAPPED = 250  # maximum neurons of a variant
CANNOT = "not shown"


@dataclass(frozen=True)
class Pictures:
    """Pictures of the neurons of an evaluation.

    Attributes:
        firing: charts of firing rates.
        heatmaps: images of cosines.
        map: charts of a map of neurons.
        note: the map's note.
        layers: variant, kind of site and CKA between layers.
        remarks: on what could not be read.
    """

    firing: list[dict[str, Any]]
    heatmaps: list[Mapping[str, str]]
    map: list[dict[str, Any]]
    note: str
    layers: list[tuple[str, str, np.ndarray]]
    remarks: list[str]


def draw(analysis: Analysis) -> Pictures:
    """Make all pictures for which there are data."""
    remarks: list[str] = []
    points, note = neuron_map(analysis, remarks)
    layers, unread = similarity.between_layers(analysis.found.evaluations, analysis.selection)
    firing, images = firing_rates(analysis, remarks), heatmaps(analysis, remarks)
    return Pictures(firing, images, points, note, layers, list(dict.fromkeys([*remarks, *unread])))


def firing_rates(analysis: Analysis, remarks: list[str]) -> list[dict[str, Any]]:
    """Histogram of the neurons' firing rates, one line per variant."""
    rates: dict[str, list[np.ndarray]] = {}
    pattern = analysis.config.figures.histograms
    for variant, _, _, rate in _sites(analysis, pattern, "/neuron/firing_rate", remarks):
        rates.setdefault(variant, []).append(rate)
    edges = np.linspace(0, 1, BINS + 1)
    series = []
    for variant, values in rates.items():
        counts = np.histogram(np.concatenate(values), edges)[0]
        points = zip((edges[:-1] + edges[1:]) / 2, counts / counts.sum(), strict=True)
        series.append({"variant": variant, "points": [[round(float(x), 4), round(float(y), 5)] for x, y in points]})
    chart = {"kind": "lines", "x": "firing rate: share of tokens", "y": "share of neurons", "zero": True,
             "title": f"Share of the neurons of {pattern}", "series": series}  # fmt: skip
    return [chart] if series else []


def heatmaps(analysis: Analysis, remarks: list[str]) -> list[Mapping[str, str]]:
    """One picture per layer, for one seed of each variant."""
    images: list[Mapping[str, str]] = []
    seen = set()
    for variant, site, _, cosine in _sites(analysis, analysis.config.figures.heatmaps, "/cosine", remarks):
        if (variant, site) not in seen:
            seen.add((variant, site))
            step = -(-len(cosine) // analysis.config.figures.most_neurons)
            some = f", every {step}. neuron" if step > 1 else ""
            source = picture(cosine[::step, ::step])
            images.append({"variant": variant, "source": source, "caption": f"{variant} · {site}{some}"})
    return images


def picture(cosine: np.ndarray) -> str:
    """``[d, d]`` in -1..1 as a PNG in a data URI."""
    buffer = io.BytesIO()
    colours = mpl.colormaps["RdBu_r"]((np.clip(cosine.astype(float), -1, 1) + 1) / 2, bytes=True)
    mpl.image.imsave(buffer, colours)
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()


def neuron_map(analysis: Analysis, remarks: list[str]) -> tuple[list[dict[str, Any]], str]:
    """The neurons of the last mapped layer in two dimensions, and a note on the method.

    A neuron is represented by its standardized activations at the same fixed tokens in every run, so that all variants
    share one map.
    """
    samples: dict[str, np.ndarray] = {}
    places: dict[str, np.ndarray] = {}
    owners: dict[str, Path] = {}
    mapped = ""
    for variant, site, part, sample in _sites(analysis, analysis.config.figures.map, similarity.SAMPLE, remarks):
        if (
            similarity.PLACE in part.arrays and owners.setdefault(variant, part.path) == part.path
        ):  # from the first seed; the last site is kept
            mapped = site
            samples[variant], places[variant] = standardised(sample)[:MOST_MAPPED], part.arrays[similarity.PLACE]
    if not samples:
        return [], ""
    first = next(iter(places.values()))
    samples = {variant: s for variant, s in samples.items() if np.array_equal(places[variant], first)}
    flat, method = projected(np.concatenate(list(samples.values())))
    rows = np.split(flat, np.cumsum([len(s) for s in samples.values()])[:-1])
    series = [
        {"variant": v, "points": np.round(points, 3).tolist(), "front": False, "mean": None}
        for v, points in zip(samples, rows, strict=True)
    ]
    note = (
        f"{method} of the neurons of {mapped}, one seed of each variant, by their standardized activations at "
        f"{len(first):,} tokens that all runs share; at most {MOST_MAPPED} neurons per variant. Distances between "
        "groups mean little."
    )
    chart = {"kind": "scatter", "title": f"Neurons of {mapped}", "wide": True, "unitless": True,
             "x": f"{method}, two dimensions without a unit", "y": method, "series": series}  # fmt: skip
    return [chart], note


def standardised(sample: np.ndarray) -> np.ndarray:
    """``[token, width]`` -> ``[neuron, token]`` of mean 0 and norm 1, without constant neurons."""
    values = sample.astype(np.float32).T
    values = values - values.mean(axis=1, keepdims=True)
    norms = np.linalg.norm(values, axis=1, keepdims=True)
    return np.asarray((values / np.where(norms > 0, norms, 1))[norms[:, 0] > 1e-6])


def projected(points: np.ndarray) -> tuple[np.ndarray, str]:
    """``[n, d]`` -> ``[n, 2]`` by UMAP if umap-learn (the extra ``umap``) is installed, else by PCA; and which."""
    try:
        import umap
    except ImportError:
        centred = points - points.mean(axis=0)
        u, s, _ = np.linalg.svd(centred, full_matrices=False)
        return np.asarray(u[:, :2] * s[:2]), "PCA"
    return np.asarray(umap.UMAP(metric="cosine", random_state=0, n_jobs=1).fit_transform(points)), "UMAP"


def _sites(
    analysis: Analysis, pattern: str, ending: str, remarks: list[str]
) -> Iterator[tuple[str, str, Part, np.ndarray]]:
    """Variant, site, part and array of every ``<site><ending>`` whose site matches the pattern."""
    for key, name, values, part in tables.arrays(analysis.found.evaluations, f"{pattern}{ending}", remarks, CANNOT):
        if is_a_site(site := name.removesuffix(ending)):
            yield analysis.selection.name(key), site, part, values
