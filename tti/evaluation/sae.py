"""SAE quality: post-hoc autoencoders at a site, and the advantage of a jointly trained one."""

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from functools import partial

import numpy as np
from torch import Tensor

from tti.autoencoders.base import SparseAutoencoder
from tti.autoencoders.fit import Fit
from tti.autoencoders.kinds import sweep
from tti.evaluation.base import SitePart, Subject, by_layer
from tti.evaluation.splicing import Quality, quality, recorded, references
from tti.evaluation.stories import TRAINING
from tti.evaluation_folder import Array, Result
from tti.models.taps import choose, kind_of
from tti.regularizers.online_sae import OnlineSAE

COMPARED = ("variance_explained", "loss_recovered")
BESIDE = 0.02  # of L0: tolerance beyond the range of the post-hoc ones
TINY = 1e-6


class SAEQuality(SitePart):
    """Post-hoc autoencoders at several sparsities and seeds, trained on the training split, measured on another.

    ``<figure>/<kind>_<sparsity>`` is the mean over seeds of every figure of :class:`tti.evaluation.splicing.Quality`.
    ``ablation_increase`` is the cost of mean-ablating the site in nats, and so how much there is to recover.

    If the run's checkpoint has a jointly trained autoencoder at a site (``regularizer=online_sae``), that site is
    measured too. ``cotrained/<figure>`` is the jointly trained autoencoder's; ``fresh/<figure>`` is what post-hoc ones
    of its kind and width reach *at its L0*, interpolated over log L0 between sparser and denser ones, spaced by
    ``gap_factors`` (for top-k, the one of equal ``k`` decides; NaN outside their range); ``gap/<figure>`` is the
    difference. A model that pleases only its own autoencoder has a large gap. But a jointly trained autoencoder has
    also seen different tokens, from a model that moved under it: compare the gap with that of a run with
    ``gradient_into_model=false``, which shows this effect alone.

    How it can be gamed: activations of low rank or with a few dominant directions are easy to reconstruct (read
    ``loss_recovered`` alongside ``variance_explained``, and compare both with ``random_init``); at a site that does not
    matter, every autoencoder loses nothing (read ``ablation_increase``).

    Cost: ``4 tokens x width`` bytes per site; training of all autoencoders on ``tokens`` tokens; one forward pass over
    ``measured_tokens`` for each. None of it grows with the splits.

    Args:
        sites: globs.
        layers: number of the matching layers to use, evenly spaced; 1 is the middle one, None all.
        kind: names of the kinds to train (``tti.autoencoders.kinds``).
        seeds: seeds of their initialization.
        expansion: latents divided by the site's width.
        dead_after: training tokens without firing after which a latent counts as dead and is revived.
        tokens: tokens of randomly drawn whole stories of the training split to train on.
        measured_tokens: tokens of whole stories of the evaluated split that all figures are measured on.
        fit: how the autoencoders are trained.
        gap_factors: sparsity factors, relative to the jointly trained autoencoder, of the post-hoc ones it is compared
            with.
        sparsities: for a kind's ``sparsity_argument``, its values; one autoencoder is trained for each.
    """

    streams = False
    needs_regularizers = True

    def __init__(
        self,
        sites: str | Iterable[str],
        layers: int | None,
        kind: Sequence[str],
        seeds: Sequence[int],
        expansion: float,
        dead_after: int,
        tokens: int,
        measured_tokens: int,
        fit: Fit,
        gap_factors: Sequence[float],
        **sparsities: Sequence[float],
    ) -> None:
        super().__init__(sites)
        self.layers, self.seeds, self.expansion, self.dead_after = layers, seeds, expansion, dead_after
        self.makes = sweep(kind, sparsities)
        self.tokens, self.measured_tokens, self.fit, self.gap_factors = tokens, measured_tokens, fit, gap_factors

    def sites(self, widths: Mapping[str, int]) -> tuple[str, ...]:
        matching: dict[str, list[str]] = defaultdict(list)
        for site in choose(self.patterns, widths):
            matching[kind_of(site)].append(site)
        return tuple(site for each in matching.values() for site in spaced(each, self.layers))

    def inapplicable(self, subject: Subject) -> str:
        return "it trains on the split that is evaluated here" if subject.stories.split == TRAINING else ""

    def attach(self, subject: Subject) -> None:
        self.subject, widths = subject, subject.widths
        self.fresh = {site: self._fresh(widths[site]) for site in self.sites(widths)}
        self.cotrained = cotrained(subject)
        self.around = {site: self._around(own) for site, own in self.cotrained.items()}

    def _fresh(self, width: int) -> dict[tuple[str, int], SparseAutoencoder]:
        common = {"d_in": width, "d_sae": round(self.expansion * width), "dead_after": self.dead_after}
        return {(name, seed): make(**common, seed=seed) for name, make in self.makes.items() for seed in self.seeds}

    def _around(self, own: SparseAutoencoder) -> dict[tuple[int, float], SparseAutoencoder]:
        return {
            (seed, factor): own.again(seed=seed, dead_after=self.dead_after, **own.sparser(factor))
            for seed in self.seeds
            for factor in self.gap_factors
        }

    def compute(self) -> Result:
        net = self.subject.net
        sites = tuple(dict.fromkeys([*self.fresh, *self.cotrained]))
        training = self.subject.stories.training().subset(self.tokens)
        stories = self.subject.stories.subset(self.measured_tokens)
        self.say("recording activations")
        acts = recorded(net, training, sites)
        self.say("the sites without autoencoders")
        reference = references(net, stories, sites)
        values: dict[str, dict[str, float]] = {}
        arrays: dict[str, Array] = {}
        for site in sites:
            fresh, around = self.fresh.get(site, {}), self.around.get(site, {})
            self._fit(site, [*fresh.values(), *around.values()], acts.pop(site))
            self.say(f"{site}: measuring")
            measure = partial(quality, net, stories, site, reference=reference[site])
            measured = {key: measure(autoencoder=each) for key, each in fresh.items()}
            values[site] = {"ablation_increase": reference[site].ablated_loss - reference[site].loss}
            values[site] |= over_seeds(measured)
            arrays |= table(site, measured.values())
            if site in self.cotrained:
                beside = {key: measure(autoencoder=each) for key, each in around.items()}
                values[site] |= against(measure(autoencoder=self.cotrained[site]), beside)
        metrics = by_layer(values) | {"tokens": float(training.tokens), "measured_tokens": float(stories.tokens)}
        return Result(metrics, arrays | which(self.makes, self.seeds), self._notes(training.tokens))

    def _fit(self, site: str, autoencoders: Sequence[SparseAutoencoder], acts: Tensor) -> None:
        title = f"{site}: training {len(autoencoders)} autoencoders"
        self.fit(autoencoders, acts, lambda text: self.say(f"{title}, {text}"))

    def _notes(self, tokens: int) -> dict[str, str]:
        trained = (
            f"post-hoc ones: {tokens} tokens of the training split, {self.fit.passes} times; seeds {[*self.seeds]}"
        )
        own = {site: f"{type(each).__name__} {each.arguments}" for site, each in self.cotrained.items()}
        return {"training": trained} | {f"cotrained/{site}": text for site, text in own.items()}


def over_seeds(measured: Mapping[tuple[str, int], Quality]) -> dict[str, float]:
    """``<figure>/<name>``: the mean over seeds."""
    figures: dict[str, list[float]] = defaultdict(list)
    for (name, _), each in measured.items():
        for figure, value in asdict(each).items():
            figures[f"{figure}/{name}"].append(value)
    return {name: float(np.mean(each)) for name, each in figures.items()}


def table(site: str, measured: Iterable[Quality]) -> dict[str, Array]:
    """``<site>/<figure>`` of every autoencoder."""
    rows = [asdict(each) for each in measured]
    names = rows[0] if rows else {}
    return {f"{site}/{name}": Array(np.array([row[name] for row in rows]), ("autoencoder",)) for name in names}


def which(names: Iterable[str], seeds: Sequence[int]) -> dict[str, Array]:
    """Name and seed of the autoencoder in each row of the tables."""
    rows = [(name, seed) for name in names for seed in seeds]
    return {
        "autoencoder/name": Array(np.array([name for name, _ in rows]), ("autoencoder",)),
        "autoencoder/seed": Array(np.array([seed for _, seed in rows]), ("autoencoder",)),
    }


def against(own: Quality, fresh: Mapping[tuple[int, float], Quality]) -> dict[str, float]:
    """A jointly trained autoencoder, post-hoc ones at its L0, and the gap between them."""
    by_seed: dict[int, list[Quality]] = defaultdict(list)
    for (seed, _), each in fresh.items():
        by_seed[seed].append(each)
    values = {f"cotrained/{figure}": value for figure, value in asdict(own).items()}
    for figure in COMPARED:
        reached = float(np.mean([at_l0(own.l0, each, figure) for each in by_seed.values()]))
        values |= {f"fresh/{figure}": reached, f"gap/{figure}": getattr(own, figure) - reached}
    return values


def at_l0(l0: float, measured: Sequence[Quality], figure: str) -> float:
    """A figure at an L0, linear in log L0 between the nearest autoencoders; NaN outside their range."""
    ordered = sorted(measured, key=lambda each: each.l0)
    known = np.array([each.l0 for each in ordered])
    if not known[0] * (1 - BESIDE) <= l0 <= known[-1] * (1 + BESIDE):
        return math.nan
    return float(
        np.interp(math.log(max(l0, TINY)), np.log(known.clip(TINY)), [getattr(each, figure) for each in ordered])
    )


def cotrained(subject: Subject) -> dict[str, SparseAutoencoder]:
    """The jointly trained autoencoders, by site."""
    online = [each for each in subject.regularizers.values() if isinstance(each, OnlineSAE)]
    return {site: each.at(site) for each in online for site in each.sites}


def spaced(sites: Sequence[str], count: int | None) -> list[str]:
    """``count`` of the sites, evenly spaced; 1 is the middle one (the later of two). All if there are fewer."""
    if count is None or count >= len(sites):
        return list(sites)
    return [sites[(2 * i + 1) * len(sites) // (2 * count)] for i in range(count)]
