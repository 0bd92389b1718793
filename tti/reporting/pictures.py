"""What the page shows of the neurons of an evaluation as a whole: firing rates, cosines, a map."""

import base64
import fnmatch
import io
from collections.abc import Iterator, Mapping
from typing import Any

import matplotlib as mpl
import matplotlib.image
import numpy as np

from tti.evaluation_folder import Part
from tti.reporting.analysis import Analysis
from tti.reporting.tables import shortened

BINS = 25
MOST_MAPPED = 250  # neurons of a variant


def firing_rates(analysis: Analysis) -> list[dict[str, Any]]:
    """Histogram of the neurons' firing rates, a line a variant."""
    rates: dict[str, list[np.ndarray]] = {}
    for variant, _, _, rate in _arrays(analysis, analysis.config.figures.histograms, "neuron/firing_rate"):
        rates.setdefault(variant, []).append(rate)
    edges = np.linspace(0, 1, BINS + 1)
    series = []
    for variant, values in rates.items():
        counts = np.histogram(np.concatenate(values), edges)[0]
        points = zip((edges[:-1] + edges[1:]) / 2, counts / counts.sum(), strict=True)
        series.append({"variant": variant, "points": [[round(float(x), 4), round(float(y), 5)] for x, y in points]})
    chart = {"kind": "lines", "x": "firing rate: share of tokens", "y": "share of neurons", "zero": True,
             "title": f"Share of the neurons of {analysis.config.figures.histograms}", "series": series}  # fmt: skip
    return [chart] if series else []


def heatmaps(analysis: Analysis) -> list[Mapping[str, str]]:
    """A picture a layer of one seed of each variant."""
    images: list[Mapping[str, str]] = []
    seen = set()
    for variant, site, _, cosine in _arrays(analysis, analysis.config.figures.heatmaps, "cosine"):
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


def neuron_map(analysis: Analysis) -> tuple[list[dict[str, Any]], str]:
    """The neurons of the last mapped layer in two dimensions, and how that was done.

    A neuron is its standardised activations at the same fixed tokens in every run, so that all variants share one map.
    """
    samples: dict[str, np.ndarray] = {}
    places: dict[str, np.ndarray] = {}
    owners: dict[str, Part] = {}
    mapped = ""
    for variant, site, part, sample in _arrays(analysis, analysis.config.figures.map, "sample"):
        if owners.setdefault(variant, part) is part:  # of its first seed, the last site stays
            mapped = site
            samples[variant], places[variant] = standardised(sample)[:MOST_MAPPED], part.arrays["sample/place"]
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
        f"{method} of the neurons of {mapped}, one seed of each variant, by their standardised activations at "
        f"{len(first):,} tokens that all runs share; at most {MOST_MAPPED} neurons of a variant. Distances between "
        "groups mean little."
    )
    chart = {"kind": "scatter", "title": f"Neurons of {mapped}", "wide": True, "unitless": True,
             "x": f"{method}, two dimensions without a unit", "y": method, "series": series}  # fmt: skip
    return [chart], note


def standardised(sample: np.ndarray) -> np.ndarray:
    """``[token, width]`` -> ``[neuron, token]`` of mean 0 and norm 1; those that never change are left out."""
    values = sample.astype(np.float32).T
    values = values - values.mean(axis=1, keepdims=True)
    norms = np.linalg.norm(values, axis=1, keepdims=True)
    return np.asarray((values / np.where(norms > 0, norms, 1))[norms[:, 0] > 1e-6])


def projected(points: np.ndarray) -> tuple[np.ndarray, str]:
    """``[n, d]`` -> ``[n, 2]`` by UMAP where umap-learn is installed (the extra ``umap``), else by PCA; and which."""
    try:
        import umap
    except ImportError:
        centred = points - points.mean(axis=0)
        u, s, _ = np.linalg.svd(centred, full_matrices=False)
        return np.asarray(u[:, :2] * s[:2]), "PCA"
    return np.asarray(umap.UMAP(metric="cosine", random_state=0, n_jobs=1).fit_transform(points)), "UMAP"


def _arrays(analysis: Analysis, pattern: str, name: str) -> Iterator[tuple[str, str, Part, np.ndarray]]:
    """Variant, site, part and array of every ``<site>/<name>`` that there is; what cannot be read is remarked."""
    for (variant, _), evaluation in analysis.found.evaluations.items():
        try:
            for part in map(evaluation.part, evaluation.parts()):
                for key in part.arrays:
                    if key.endswith(f"/{name}") and fnmatch.fnmatchcase(site := key.removesuffix(f"/{name}"), pattern):
                        yield variant, site, part, part.arrays[key]
        except (ValueError, LookupError) as error:
            remark = f"not shown: {shortened(str(error), evaluation)}"
            if remark not in analysis.remarks:
                analysis.remarks.append(remark)
