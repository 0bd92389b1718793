"""Utilisation and sparsity: how often and how strongly neurons fire, and how many."""

from collections.abc import Iterable
from functools import partial

import torch
from jaxtyping import Float
from torch import Tensor

from tti.evaluation.base import Seen, SitePart, Subject, array, by_layer, mean_defined, per_neuron
from tti.evaluation.influence import fraction_in_use, weighted, without
from tti.evaluation_folder import Array, Result
from tti.metrics.firing import FiringRates, distribution


class Utilisation(SitePart):
    """Moments, firing rates at an absolute and at a scale-free threshold, and a histogram of every neuron.

    ``dead`` and ``always_on`` depend on the threshold; ``silent`` neurons are exactly 0 on every token. ``density`` has
    no threshold: ``(E|a|)^2 / E[a^2]`` over tokens (Treves & Rolls 1991), 1 for a constant magnitude and ``p`` for a
    neuron that is 0 except for one value on a fraction ``p`` of the tokens; ``token_density`` is the same over the
    neurons of a token. ``no_effect`` is the fraction of neurons that affect no prediction. ``influence_fraction`` is
    ``(sum i)^2 / sum i^2`` over the width, with ``i`` the neurons' :mod:`~tti.evaluation.influence`: 1 if all have the
    same. ``density_weighted`` weights neurons by their share of the influence. Memory: ``4 width x bins`` bytes per
    site.

    How it can be gamed: everything with the absolute threshold follows scale; ``_relative`` metrics and ``density`` do
    not.

    Args:
        sites: globs.
        threshold: absolute threshold; the seed project's is 0.01.
        relative_threshold: threshold in units of a neuron's own root mean square (on the calibration sample).
        bins: bins of the histogram, of equal width over the range of the calibration sample.
    """

    def __init__(
        self,
        sites: str | Iterable[str],
        threshold: float,
        relative_threshold: float,
        bins: int,
    ) -> None:
        super().__init__(sites)
        self.threshold, self.relative_threshold, self.bins = threshold, relative_threshold, bins

    def attach(self, subject: Subject) -> None:
        self.subject = subject
        widths = subject.widths
        self.statistics = {
            site: NeuronStatistics(
                subject.calibration[site].quantiles[:, [0, -1]],
                subject.calibration[site].rms * self.relative_threshold,
                self.threshold,
                self.bins,
            )
            for site in self.sites(widths)
        }

    def update(self, seen: Seen) -> None:
        for site, statistics in self.statistics.items():
            statistics.update(seen.step.activations[site], seen)

    def compute(self) -> Result:
        arrays: dict[str, Array] = {}
        values: dict[str, dict[str, float]] = {}
        for site, statistics in self.statistics.items():
            influence = self.subject.influence[site]
            table = statistics.table() | {"influence": influence}
            values[site] = {
                **statistics.named(),
                "silent": float((table["zero_rate"] == 1).double().mean()),
                "positive_rate": float(table["positive_rate"].mean()),
                "density": mean_defined(table["density"]),
                "density_weighted": weighted(table["density"], influence),
                "no_effect": without(influence),
                "influence_fraction": fraction_in_use(influence),
                "token_density": float(statistics.token_density / statistics.tokens),
            }
            arrays |= per_neuron(site, **table)
            arrays[f"{site}/histogram"] = array(statistics.histogram.to(torch.uint32), "width", "bin", unit="tokens")
            arrays[f"{site}/histogram_edges"] = array(statistics.edges, "width", "end")
        return Result(by_layer(values), arrays)


class NeuronStatistics:
    """Statistics of one site's neurons.

    Args:
        edges: lower edge of the first bin and upper edge of the last.
        relative: each neuron's own firing threshold.
        threshold: the absolute firing threshold.
        bins: number of bins.
    """

    def __init__(
        self, edges: Float[Tensor, "width 2"], relative: Float[Tensor, "width"], threshold: float, bins: int
    ) -> None:
        width, device = len(edges), edges.device
        self.edges, self.bins = edges.clone(), bins
        self.edges[:, 1] = torch.maximum(self.edges[:, 1], self.edges[:, 0] + torch.finfo(torch.float32).eps)
        self.absolute = FiringRates(width, 0, threshold).to(device)
        # A neuron that was silent in the sample fires whenever it is not 0.
        self.relative = relative.clamp_min(torch.finfo(torch.float32).tiny)
        zeros = partial(torch.zeros, dtype=torch.float64, device=device)
        self.sum, self.sum_abs, self.sum_squares = (zeros(width) for _ in range(3))
        self.fired_relative, self.positive = zeros(width), zeros(width)
        self.low = torch.full((width,), torch.inf, device=device)
        self.high = torch.full((width,), -torch.inf, device=device)
        self.histogram = torch.zeros(width, bins, dtype=torch.int64, device=device)
        self.token_density = zeros(())
        self.tokens = 0

    def update(self, acts: Float[Tensor, "token width"], seen: Seen) -> None:
        """Add some tokens; sums are in float32 within a chunk and float64 over chunks."""
        acts = acts.float()
        size, squares = acts.abs(), acts.square()
        self.absolute.update(acts, seen.step)
        self.fired_relative += (size >= self.relative).sum(0, dtype=torch.int32)
        self.positive += (acts > 0).sum(0, dtype=torch.int32)
        self.sum += acts.sum(0)
        self.sum_abs += size.sum(0)
        self.sum_squares += squares.sum(0)
        self.low, self.high = torch.minimum(self.low, acts.amin(0)), torch.maximum(self.high, acts.amax(0))
        energy = squares.sum(1) * acts.shape[1]
        self.token_density += (size.sum(1).square() / energy.where(energy > 0, 1)).sum(dtype=torch.float64)
        self.tokens += len(acts)
        self._count(acts)

    def _count(self, acts: Float[Tensor, "token width"]) -> None:
        low, high = self.edges.unbind(1)
        bins = ((acts - low) * (self.bins / (high - low))).clamp_(0, self.bins - 1).nan_to_num_(0).long()
        bins += torch.arange(len(self.edges), device=acts.device) * self.bins
        self.histogram += torch.bincount(bins.flatten(), minlength=self.histogram.numel()).view_as(self.histogram)

    def named(self) -> dict[str, float]:
        """Distributions of firing rates at both thresholds, and ``exactly_zero``, which has none."""
        absolute = {name: float(value) for name, value in self.absolute.compute().items()}
        rates = distribution(self.fired_relative / self.tokens)
        relative = {f"{name}_relative": float(value) for name, value in rates.items()}
        return {
            "sparsity": 1 - absolute["active_fraction"],
            "sparsity_relative": 1 - relative["active_fraction_relative"],
            **absolute,
            **relative,
        }

    def table(self) -> dict[str, Float[Tensor, "width"]]:
        """Statistics of each neuron, by name."""
        n = self.tokens
        mean, square = self.sum / n, self.sum_squares / n
        return {
            "mean": mean,
            "std": (square - mean.square()).clamp_min(0).sqrt(),
            "min": self.low,
            "max": self.high,
            "mean_abs": self.sum_abs / n,
            "rms": square.sqrt(),
            "firing_rate": self.absolute.fired / n,
            "firing_rate_relative": self.fired_relative / n,
            "zero_rate": self.absolute.zeros / n,
            "positive_rate": self.positive / n,
            "density": (self.sum_abs / n).square() / square,
        }
