"""The one pass: a network goes through all stories, and every part sees what it asked for."""

import time
from collections.abc import Callable, Iterable, Mapping, Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from tti.autoencoders.base import SparseAutoencoder
from tti.evaluation.base import Part, Seen, Subject, View
from tti.evaluation.calibration import Calibration
from tti.evaluation.stories import SEED, Chunk, StorySet
from tti.models.gpt import GPT
from tti.models.taps import Recorder, natural
from tti.step import Step

Progress = Callable[[Iterable[Chunk], int], Iterable[Chunk]]


class Rotation:
    """A fixed random rotation of every site's basis (Haar measure): the same for every run of that width."""

    def __init__(self) -> None:
        self._matrices: dict[int, Float[Tensor, "width width"]] = {}

    def __call__(self, site: str, acts: Float[Tensor, "token width"]) -> Float[Tensor, "token width"]:
        width = acts.shape[1]
        if width not in self._matrices:
            normal = torch.randn(width, width, generator=torch.Generator().manual_seed(SEED), dtype=torch.float64)
            q, r = torch.linalg.qr(normal)
            self._matrices[width] = (q * r.diagonal().sign()).float().to(acts.device)
        return acts.float() @ self._matrices[width]


def unchanged(site: str, acts: Float[Tensor, "token width"]) -> Float[Tensor, "token width"]:
    """The view that does nothing."""
    return acts


@torch.no_grad()
def calibrated(
    net: GPT, stories: StorySet, views: Mapping[str, View], sites: Sequence[str], tokens: int
) -> dict[str, dict[str, Calibration]]:
    """View -> site -> calibration, from one forward pass over about that many tokens; a site at a time in memory."""
    found: dict[str, dict[str, Calibration]] = {name: {} for name in views}

    def calibrating(site: str, activation: Tensor) -> Tensor:
        if site in sites:
            for name, view in views.items():
                found[name][site] = Calibration.of(view(site, activation.flatten(1)))
        return activation

    chunk = stories.drawn(tokens).to(net.embed.weight.device)
    net(chunk.batch.tokens, chunk.batch.stories, calibrating)
    return found


@torch.no_grad()
def run_through(
    net: GPT, stories: StorySet, views: Mapping[str, View], parts: Mapping[str, Sequence[Part]], progress: Progress
) -> None:
    """One pass of ``net`` over all stories.

    Args:
        net: the network, in evaluation mode.
        stories: the split.
        views: name -> what becomes of activations.
        parts: name of a view -> the attached parts that see it.
        progress: wraps the chunks, of which there are that many.
    """
    everyone = [part for each in parts.values() for part in each if part.streams]
    if not everyone:
        return
    wanted = {name: _union(part.sites(net.widths) for part in each if part.streams) for name, each in parts.items()}
    recorded = _union(wanted.values())
    with_nll = any(part.needs_nll for part in everyone)
    for chunk in progress(stories, len(stories)):
        chunk = chunk.to(net.embed.weight.device)
        batch = chunk.batch
        recorder = Recorder(recorded)
        hidden = net(batch.tokens, batch.stories, recorder)
        nll = net.loss(hidden, batch.targets)[1] if with_nll else torch.full_like(hidden[:, 0], torch.nan)
        for name, view in views.items():
            acts = {site: view(site, recorder.activations[site].flatten(1)) for site in wanted[name]}
            seen = Seen(Step(batch, nll, acts, net), chunk.places, chunk.stories, chunk.story, chunk.first)
            for part in parts[name]:
                if part.streams:
                    with part.timed():
                        part.update(seen)


def _union(sites: Iterable[Iterable[str]]) -> tuple[str, ...]:
    return tuple(sorted({site for each in sites for site in each}, key=natural))


def examine(
    net: GPT,
    stories: StorySet,
    views: Mapping[str, View],
    parts: Mapping[str, Sequence[Part]],
    calibration_tokens: int,
    progress: Progress,
    cotrained: Mapping[str, SparseAutoencoder] | None = None,
) -> float:
    """Attach the parts to the views of a network and run it through all stories once; then they can ``compute``.

    Args:
        cotrained: the autoencoders that were trained with the network, by site.
        (for the others see :func:`run_through` and :func:`calibrated`)

    Returns:
        Seconds that went into what the parts share: forward passes and views.
    """
    began = time.perf_counter()
    sites = _union(part.sites(net.widths) for each in parts.values() for part in each)
    calibration = calibrated(net, stories, views, sites, calibration_tokens) if sites else {name: {} for name in views}
    for name, each in parts.items():
        subject = Subject(name, net, stories, views[name], calibration[name], cotrained or {})
        for part in each:
            part.seconds = 0.0
            part.attach(subject)
    run_through(net, stories, views, parts, progress)
    return time.perf_counter() - began - sum(part.seconds for each in parts.values() for part in each)
