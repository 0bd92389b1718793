"""The single pass: a network runs on all stories, and every part sees the activations it asked for."""

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace

import torch
from jaxtyping import Float
from torch import Tensor

from tti.evaluation.base import Part, Seen, Subject
from tti.evaluation.calibration import Calibration
from tti.evaluation.stories import SEED, Chunk
from tti.models.taps import Recorder, natural
from tti.step import Step

Progress = Callable[[Iterable[Chunk], int], Iterable[Chunk]]


class Rotation:
    """A fixed random rotation (Haar measure) of every site's basis, the same for every run of equal width."""

    def __init__(self) -> None:
        self._matrices: dict[int, Float[Tensor, "width width"]] = {}

    def __call__(self, site: str, acts: Float[Tensor, "token width"]) -> Float[Tensor, "token width"]:
        width = acts.shape[1]
        if width not in self._matrices:
            normal = torch.randn(width, width, generator=torch.Generator().manual_seed(SEED), dtype=torch.float64)
            q, r = torch.linalg.qr(normal)
            self._matrices[width] = (q * r.diagonal().sign()).float().to(acts.device)
        return acts.float() @ self._matrices[width]


@torch.no_grad()
def calibrated(subjects: Iterable[Subject], sites: Iterable[str], tokens: int) -> list[Subject]:
    """The subjects with calibration: one forward pass over about ``tokens`` tokens, one site at a time."""
    subjects, wanted = list(subjects), frozenset(sites)
    found: list[dict[str, Calibration]] = [{} for _ in subjects]

    def calibrating(site: str, activation: Tensor) -> Tensor:
        if site in wanted:
            for subject, each in zip(subjects, found, strict=True):
                each[site] = Calibration.of(subject.view(site, batch.rows(activation).flatten(1)))
        return activation

    if wanted:
        batch = subjects[0].stories.drawn(tokens).to(subjects[0].device).batch
        subjects[0].net(batch.tokens, batch.stories, calibrating)
    return [replace(subject, calibration=each) for subject, each in zip(subjects, found, strict=True)]


@torch.no_grad()
def run_through(parts: Mapping[Subject, Sequence[Part]], progress: Progress) -> None:
    """One pass of a network over all stories.

    Args:
        parts: for each subject, the parts attached to it. The subjects share network and stories.
        progress: wraps the chunks and gets their number.
    """
    streaming = {subject: [part for part in each if part.streams] for subject, each in parts.items()}
    everyone = [part for each in streaming.values() for part in each]
    if not everyone:
        return
    first = next(iter(streaming))
    net, stories = first.net, first.stories
    wanted = {subject: _union(part.sites(subject.widths) for part in each) for subject, each in streaming.items()}
    recorded = _union(wanted.values())
    with_nll = any(part.needs_nll for part in everyone)
    for chunk in progress(stories, len(stories)):
        chunk = chunk.to(first.device)
        batch = chunk.batch
        recorder = Recorder(recorded)
        hidden = batch.rows(net(batch.tokens, batch.stories, recorder))
        nll = net.loss(hidden, batch.targets)[1] if with_nll else torch.full_like(hidden[:, 0], torch.nan)
        places, story = batch.rows(chunk.places), batch.rows(chunk.story)
        for subject, each in streaming.items():
            recorded_rows = ((site, batch.rows(recorder.activations[site])) for site in wanted[subject])
            acts = {site: subject.view(site, rows.flatten(1)) for site, rows in recorded_rows}
            seen = Seen(Step(batch, nll, acts, net), places, chunk.stories, story, chunk.first)
            for part in each:
                with part.timed():
                    part.update(seen)


def _union(sites: Iterable[Iterable[str]]) -> tuple[str, ...]:
    return tuple(sorted({site for each in sites for site in each}, key=natural))


def examine(
    parts: Mapping[Subject, Sequence[Part]],
    calibration_tokens: int,
    progress: Progress = lambda chunks, count: chunks,
) -> float:
    """Attach the parts to the subjects, and run the network on all stories once; afterwards, parts can ``compute``.

    Args:
        parts: for each subject, its parts. The subjects share network and stories.
        calibration_tokens: see :func:`calibrated`.
        progress: see :func:`run_through`.

    Returns:
        Seconds spent on work that the parts share: forward passes and views.
    """
    began = time.perf_counter()
    everyone = [part for each in parts.values() for part in each]
    sites = _union(part.sites(subject.widths) for subject, each in parts.items() for part in each)
    attached = dict(zip(calibrated(parts, sites, calibration_tokens), parts.values(), strict=True))
    for subject, each in attached.items():
        for part in each:
            part.seconds = 0.0
            part.attach(subject)
    run_through(attached, progress)
    return time.perf_counter() - began - sum(part.seconds for part in everyone)
