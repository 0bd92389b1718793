"""``table=evaluation``: what evaluating costs, against plain loops as in the original project, and part by part."""

import heapq
from collections.abc import Iterator, Mapping
from functools import partial

import numpy as np
import torch
from hydra.utils import instantiate
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from tti.benchmarking.clocks import Clock
from tti.benchmarking.memory import available, resident_mib
from tti.benchmarking.pairing import CONFIDENCE, estimate, take_turns
from tti.benchmarking.progress import shown
from tti.benchmarking.section import Section
from tti.benchmarking.setting import Setting, composed
from tti.evaluation.base import Part
from tti.evaluation.contexts import Extremes, Windows
from tti.evaluation.run_through import examine, unchanged
from tti.evaluation.stories import SEED, StorySet
from tti.measures import add_gram, mean_abs_cosine, mirrored
from tti.models.gpt import GPT
from tti.models.taps import Recorder

Chunks = list[Float[Tensor, "token width"]]


class Evaluation:
    """Contexts and cosines of one site's recorded activations, plain and ours in turn; then every part alone.

    The network is not trained: what its arithmetic costs does not depend on that.

    Args:
        site: whose activations.
        split: of the training's data.
        tokens: of the split, at most, for the loops; for the parts, and a quarter of them, to see what memory does.
        tokens_per_chunk: as in ``conf/evaluate.yaml``.
        k: contexts a neuron.
        reservoir: tokens that the plain loop keeps.
        rounds: how often plain and ours take turns.
    """

    def __init__(
        self, site: str, split: str, tokens: int, tokens_per_chunk: int, k: int, reservoir: int, rounds: int
    ) -> None:
        self.site, self.split, self.tokens, self.tokens_per_chunk = site, split, tokens, tokens_per_chunk
        self.k, self.reservoir, self.rounds = k, reservoir, rounds

    def __call__(self, setting: Setting, clock: Clock) -> Iterator[Section]:
        """The sections, the last one again after each row."""
        setting.seed()
        net: GPT = instantiate(setting.config.model).to(setting.fabric.device).eval()
        stories = StorySet(setting.data, self.split, self.tokens_per_chunk).subset(self.tokens)
        acts, story = self._recorded(net, stories)
        yield self._against_loops(acts, story, clock)
        yield from self._parts(net, stories, clock)

    @torch.no_grad()
    def _recorded(self, net: GPT, stories: StorySet) -> tuple[Chunks, list[Tensor]]:
        acts, story = [], []
        for chunk in stories:
            chunk = chunk.to(net.embed.weight.device)
            recorder = Recorder([self.site])
            net(chunk.batch.tokens, chunk.batch.stories, recorder)
            acts.append(recorder.activations[self.site].flatten(1))
            story.append(chunk.story)
        return acts, story

    # -- against plain loops ----------------------------------------------------------------------------------------

    def _against_loops(self, acts: Chunks, story: list[Tensor], clock: Clock) -> Section:
        pairs = {
            f"top-{self.k} contexts": {
                "plain": partial(plain_contexts, acts, self.k, self.reservoir),
                "ours": partial(our_contexts, acts, story, self.k),
            },
            "mean abs cosine": {"plain": partial(plain_cosine, acts), "ours": partial(our_cosine, acts)},
        }
        tokens, width = sum(map(len, acts)), acts[0].shape[1]
        rows = []
        for name, pair in pairs.items():
            turns = {which: partial(_timed, work, clock) for which, work in pair.items()}
            seconds = take_turns(turns, self.rounds, name)
            ratio = estimate(seconds["plain"] / seconds["ours"])
            milliseconds = [f"{1e8 * np.median(seconds[which]) / tokens:,.0f}" for which in ("plain", "ours")]
            rows.append([name, *milliseconds, ratio.spelled(1, unit="×"), self._agreement(pair)])
        header = ["of one site", "plain, ms per 100k tokens", "ours", "times faster", "plain's result against ours"]
        return Section(
            "Against plain loops",
            header,
            rows,
            (
                f"`{self.site}`, {tokens:,} tokens, {width} neurons; {self.rounds} rounds in turn, median and "
                f"{CONFIDENCE:.0%} bootstrap interval.",
                f"Plain contexts: a reservoir of {self.reservoir:,} tokens filled token by token, then the best "
                f"{self.k} neuron by neuron. Ours are exact over all tokens and keep the activation around each.",
                "Plain cosines: all activations held, normalised, multiplied. Ours hold a chunk.",
            ),
        )

    def _agreement(self, pair: Mapping[str, partial[Tensor]]) -> str:
        plain, ours = pair["plain"](), pair["ours"]()
        if plain.ndim:
            found = torch.stack([torch.isin(a, b).double().mean() for a, b in zip(ours, plain, strict=True)]).mean()
            return f"{float(found):.0%} of the true ones found"
        return f"difference {abs(float(plain) - float(ours)):.0e}"

    # -- part by part -----------------------------------------------------------------------------------------------

    def _parts(self, net: GPT, stories: StorySet, clock: Clock) -> Iterator[Section]:
        quarter = stories.subset(stories.tokens // 4)
        config = composed((), "evaluate")
        names = [name for name in config.evaluation if not instantiate(config.evaluation[name]).inapplicable(stories)]
        rows: list[list[str]] = []
        for name in shown(names, "parts"):
            part: Part = instantiate(config.evaluation[name])
            seconds = _timed(partial(self._evaluate, part, net, stories, config.calibration_tokens), clock)
            peaks = [
                f"{resident_mib(partial(self._evaluate, part, net, some, config.calibration_tokens)):,.0f}"
                if available()
                else "–"
                for some in (quarter, stories)
            ]
            rows.append([f"`{name}`", f"{seconds:.1f}", f"{part.seconds:.1f}", *peaks])
            yield Section(
                "Part by part",
                ["part", "s, alone", "of it its own work", f"MiB, {quarter.tokens:,} tokens", f"{stories.tokens:,}"],
                rows,
                (
                    "One subject. Alone: with the forward passes and the calibration that parts share where several "
                    "are evaluated. Its own work: wall seconds. Memory: the peak beyond what lies there before.",
                ),
            )

    @torch.no_grad()
    def _evaluate(self, part: Part, net: GPT, stories: StorySet, calibration_tokens: int) -> Tensor:
        everything = {"": [part]}
        examine(net, stories, {"": unchanged}, everything, calibration_tokens, lambda chunks, _: chunks)
        with part.timed():
            part.compute()
        return torch.zeros(())


def _timed(work: partial[Tensor], clock: Clock, turn: int = 0) -> float:
    began = clock()
    work()
    return clock() - began


# -- the plain loops, and ours ----------------------------------------------------------------------------------------


def plain_contexts(acts: Chunks, k: int, reservoir: int) -> Float[Tensor, "width k"]:
    """Tokens into a reservoir one by one (Vitter's algorithm R), then each neuron's best of what it holds."""
    draw = np.random.default_rng(SEED)
    kept: list[Tensor] = []
    seen = 0
    for chunk in acts:
        for token in chunk:
            seen += 1
            if len(kept) < reservoir:
                kept.append(token)
            elif (place := int(draw.integers(seen))) < reservoir:
                kept[place] = token
    held = torch.stack(kept)
    best = []
    for neuron in range(held.shape[1]):
        values = held[:, neuron].tolist()
        best.append(heapq.nlargest(k, values))
    return torch.tensor(best, device=held.device)


def our_contexts(acts: Chunks, story: list[Tensor], k: int) -> Float[Tensor, "width k"]:
    """What :class:`tti.evaluation.contexts.Contexts` does for a site."""
    width, device = acts[0].shape[1], acts[0].device
    offsets = torch.arange(-20, 9, device=device)
    extremes = Extremes(width, 1, k, len(offsets), device)
    first = 0
    for chunk, stories in zip(acts, story, strict=True):
        places = torch.arange(first, first + len(chunk), device=device)
        extremes.update(chunk.float(), places, Windows(stories, offsets))
        first += len(chunk)
    return extremes.values


def plain_cosine(acts: Chunks) -> Float[Tensor, ""]:
    """Everything held, normalised and multiplied."""
    held = F.normalize(torch.cat(acts).float(), dim=0)
    cosine = held.T @ held
    return (cosine.abs().sum() - cosine.diagonal().abs().sum()) / (len(cosine) * (len(cosine) - 1))


def our_cosine(acts: Chunks) -> Float[Tensor, ""]:
    """What :class:`tti.evaluation.geometry.Geometry` does for a site."""
    gram = torch.zeros(acts[0].shape[1], acts[0].shape[1], dtype=torch.float64, device=acts[0].device)
    for chunk in acts:
        add_gram(gram, chunk)
    return mean_abs_cosine(mirrored(gram))
