"""Geometry: angles between neurons, the dimensions that a layer uses, and the similarity of layers."""

from collections.abc import Iterable, Mapping
from functools import partial

import torch
from jaxtyping import Float
from torch import Tensor

from tti.evaluation.base import Seen, SitePart, Subject, array, by_layer
from tti.evaluation.sample import Sample
from tti.evaluation_folder import Array, Result
from tti.measures import (
    SimilaritySums,
    add_gram,
    centred,
    cosines,
    mean_abs_cosine,
    mean_squared_correlation,
    mirrored,
    participation_ratio,
    rounding_error,
    unshifted,
    weighted_mean_over_pairs,
)
from tti.models.taps import choose, kind_of


class Geometry(SitePart):
    """Angles and correlations between neurons, exact over all tokens.

    Gram matrices are computed in float32 per chunk and summed in float64. The mean over the calibration sample is
    subtracted from activations first, so that a large mean costs no precision.

    Memory: ``8 width^2`` bytes per site, and ``8 (layers x width)^2`` for each kind of site with CKA.

    ``_weighted`` metrics weight pairs by the product of the neurons' shares of the site's
    :mod:`~tti.evaluation.influence`.

    How it can be gamed: a rotation of the residual stream changes cosines but nothing else about the model, so at sites
    without a basis of their own (``mlp_out``, ``resid_*``) they are display only; dead neurons count as orthogonal.
    Participation ratio and CKA are invariant under rotation.

    Args:
        sites: globs of sites for cosines, correlations and the participation ratio.
        cka: globs of sites for debiased CKA between the layers of each kind.
        heatmaps: globs among ``sites`` whose cosine matrix is kept.
        sample_tokens: number of tokens whose activations are kept, for CKA between runs and maps of neurons.
    """

    def __init__(
        self,
        sites: str | Iterable[str],
        cka: str | Iterable[str],
        heatmaps: str | Iterable[str],
        sample_tokens: int,
    ) -> None:
        super().__init__(sites)
        self.cka, self.heatmaps, self.sample_tokens = cka, heatmaps, sample_tokens

    def sites(self, widths: Mapping[str, int]) -> tuple[str, ...]:
        return tuple(dict.fromkeys((*super().sites(widths), *choose(self.cka, widths))))

    def attach(self, subject: Subject) -> None:
        self.subject = subject
        widths, device = subject.widths, subject.device
        every, self.chosen, compared = self.sites(widths), super().sites(widths), choose(self.cka, widths)
        zeros = partial(torch.zeros, dtype=torch.float64, device=device)
        self.gram = {site: zeros(widths[site], widths[site]) for site in self.chosen}
        self.total = {site: zeros(widths[site]) for site in self.chosen}
        self.tokens, self.longest = 0, 0
        self.centre = {site: subject.calibration[site].mean for site in every}
        kinds = dict.fromkeys(kind_of(site) for site in compared)
        self.layers = {kind: [site for site in compared if kind_of(site) == kind] for kind in kinds}
        self.similarity = {
            kind: SimilaritySums([widths[site] for site in layers], device) for kind, layers in self.layers.items()
        }
        self.sample = Sample(subject.stories, self.sample_tokens, {site: widths[site] for site in every}, device)
        self.drawn = set(choose(self.heatmaps, {site: widths[site] for site in self.chosen}))

    def update(self, seen: Seen) -> None:
        acts = seen.step.activations
        self.tokens += len(seen.step.batch)
        self.longest = max(self.longest, len(seen.step.batch))
        shifted = {site: acts[site].float() - centre for site, centre in self.centre.items()}
        for site in self.chosen:
            add_gram(self.gram[site], shifted[site])
            self.total[site] += shifted[site].sum(0, dtype=torch.float64)
        for kind, layers in self.layers.items():
            self.similarity[kind].add([shifted[site] for site in layers])
        self.sample.update(seen)

    def compute(self) -> Result:
        values: dict[str, dict[str, float]] = {}
        arrays: dict[str, Array] = {}
        rounding = rounding_error(self.longest, torch.float32)
        for site in self.chosen:
            shifted = mirrored(self.gram[site])
            gram = unshifted(shifted, self.total[site], self.tokens, self.centre[site].double())
            covariance = centred(shifted, self.total[site], self.tokens, rounding)
            squared = float(mean_squared_correlation(covariance.clone()))
            ratio = float(participation_ratio(covariance))
            influence = self.subject.influence[site]
            weighted_squared = weighted_mean_over_pairs(cosines(covariance).square(), influence)
            values[site] = {
                "mean_abs_cosine": float(mean_abs_cosine(gram)),
                "mean_abs_cosine_weighted": weighted_mean_over_pairs(cosines(gram).abs(), influence),
                "mean_squared_correlation": squared,
                "mean_squared_correlation_excess": squared - 1 / max(self.tokens - 1, 1),
                "mean_squared_correlation_weighted": weighted_squared,
                "participation_ratio": ratio,
                "participation_fraction": ratio / len(gram),
            }
            eigenvalues = spectrum(covariance / self.tokens)
            arrays[f"{site}/eigenvalues"] = array(eigenvalues.float(), "width")
            if site in self.drawn:
                arrays[f"{site}/cosine"] = array(cosines(gram).half(), "width", "width")
        metrics = by_layer(values)
        for kind, sums in self.similarity.items():
            cka = sums.cka()
            arrays[f"cka/{kind}"] = array(cka.float(), "layer", "layer")
            neighbours = cka.diagonal(1)
            metrics[f"cka_neighbours/{kind}"] = float(neighbours.mean())
        return Result(metrics, arrays | self.sample.arrays())


def spectrum(covariance: Float[Tensor, "width width"]) -> Float[Tensor, "width"]:
    """Eigenvalues, largest first; all NaN if the matrix is not finite."""
    if not bool(covariance.isfinite().all()):
        return torch.full_like(covariance[0], torch.nan)
    return torch.linalg.eigvalsh(covariance).flip(0).clamp_min(0)
