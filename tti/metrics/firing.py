"""Firing rates: the fraction of tokens on which each neuron is on."""

import torch
from jaxtyping import Float
from torch import Tensor

from tti.metrics.sites import SiteMetric
from tti.step import Step

DEAD, ALWAYS_ON = 0.01, 0.99
QUANTILES = {"p05": 0.05, "p25": 0.25, "p50": 0.5, "p75": 0.75, "p95": 0.95}


class FiringRates(SiteMetric):
    """Distribution over neurons of the fraction of tokens on which a neuron *fires*, ``|a| >= threshold``.

    Per neuron, the complement of ``Sparsity`` at the same threshold: ``active_fraction = 1 - sparsity``.

    How it can be gamed: by scale. Shrinking all activations lowers every rate at an absolute threshold, and counts
    neurons as dead that still do their work. ``exactly_zero`` does not depend on scale: it counts the zeros of ReLU and
    top-k; a GELU has hardly any.
    """

    fired: Tensor
    zeros: Tensor
    tokens: Tensor

    def __init__(self, width: int, n_types: int, threshold: float) -> None:
        super().__init__(width, n_types)
        self.threshold = threshold
        self.add_state("fired", torch.zeros(width, dtype=torch.int64), dist_reduce_fx="sum")
        self.add_state("zeros", torch.zeros(width, dtype=torch.int64), dist_reduce_fx="sum")
        self.add_state("tokens", torch.zeros((), dtype=torch.int64), dist_reduce_fx="sum")

    def update(self, acts: Float[Tensor, "token width"], step: Step) -> None:
        self.fired += (acts.abs() >= self.threshold).sum(0, dtype=torch.int32)
        self.zeros += (acts == 0).sum(0, dtype=torch.int32)
        self.tokens += len(acts)

    def compute(self) -> dict[str, Tensor]:
        """Fractions of :func:`distribution`, and ``exactly_zero``: of (token, neuron) pairs, those with ``a = 0``."""
        zeros = self.zeros.double().mean() / self.tokens
        return {**distribution(self.fired.double() / self.tokens), "exactly_zero": zeros}


def distribution(rates: Float[Tensor, "width"]) -> dict[str, Float[Tensor, ""]]:
    """Statistics of firing rates over neurons.

    ``active_fraction`` is the mean firing rate: the fraction of (token, neuron) pairs that fire. ``dead`` and
    ``always_on`` are the fractions of neurons that fire on less than 1 % and on more than 99 % of the tokens.
    ``firing_rate_p05`` to ``firing_rate_p95`` are percentiles over neurons.
    """
    percentiles = rates.quantile(rates.new_tensor(list(QUANTILES.values()))).unbind()
    return {
        "active_fraction": rates.mean(),
        "dead": (rates < DEAD).double().mean(),
        "always_on": (rates > ALWAYS_ON).double().mean(),
        **{f"firing_rate_{name}": rate for name, rate in zip(QUANTILES, percentiles, strict=True)},
    }
