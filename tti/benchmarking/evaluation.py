"""``table=evaluation``: the cost of an evaluation, against plain loops like the seed project's, and part by part."""

import heapq
from collections.abc import Callable, Iterator, Mapping
from functools import partial

import numpy as np
import torch
from hydra.utils import instantiate
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from tti.benchmarking.clocks import Clock
from tti.benchmarking.memory import NONE, available, resident_mib
from tti.benchmarking.pairing import CONFIDENCE, estimate, take_turns
from tti.benchmarking.progress import shown
from tti.benchmarking.section import Section
from tti.benchmarking.setting import Setting, composed
from tti.evaluation.base import Part, Seen, Subject
from tti.evaluation.contexts import Contexts
from tti.evaluation.run_through import examine
from tti.evaluation.runner import made
from tti.evaluation.stories import SEED, StorySet
from tti.measures import add_gram, mean_abs_cosine, mirrored
from tti.models.network import Network
from tti.models.taps import Recorder
from tti.step import Step

Chunks = list[Float[Tensor, "token width"]]
BEFORE, AFTER = 20, 8  # tokens of a context


class Evaluation:
    """Cost of contexts and cosines at one site, plain loops and ours in turn; then the cost of every part alone.

    The network is not trained: the cost of its arithmetic does not depend on its weights.

    Args:
        site: whose activations are used.
        split: of the training's data.
        tokens: maximum number of tokens of the split. The parts are also run on a quarter of them, to show how memory
            grows.
        tokens_per_chunk: as in ``conf/evaluate.yaml``.
        k: contexts per neuron.
        reservoir: tokens in the random sample.
        rounds: number of rounds in which plain loops and ours take turns.
    """

    def __init__(
        self, site: str, split: str, tokens: int, tokens_per_chunk: int, k: int, reservoir: int, rounds: int
    ) -> None:
        self.site, self.split, self.tokens, self.tokens_per_chunk = site, split, tokens, tokens_per_chunk
        self.k, self.reservoir, self.rounds = k, reservoir, rounds

    def __call__(self, setting: Setting, clock: Clock) -> Iterator[Section]:
        """Yield the sections, the last one again after each row."""
        setting.seed()
        net: Network = instantiate(setting.config.model).to(setting.fabric.device).eval()
        stories = StorySet(setting.data, self.split, self.tokens_per_chunk).subset(self.tokens)
        yield self._against_loops(self._recorded(net, stories), net, stories, clock)
        yield from self._parts(net, stories, clock)

    @torch.no_grad()
    def _recorded(self, net: Network, stories: StorySet) -> list[Seen]:
        seen = []
        for chunk in stories:
            chunk = chunk.to(net.device)
            recorder = Recorder([self.site])
            hidden = net(chunk.batch.tokens, chunk.batch.stories, recorder)
            acts = {self.site: recorder.activations[self.site].flatten(1)}
            step = Step(chunk.batch, torch.full_like(hidden[:, 0], torch.nan), acts, net)
            seen.append(Seen(step, chunk.places, chunk.stories, chunk.story, chunk.first))
        return seen

    # -- against plain loops ----------------------------------------------------------------------------------------

    def _against_loops(self, seen: list[Seen], net: Network, stories: StorySet, clock: Clock) -> Section:
        acts = [each.step.activations[self.site] for each in seen]
        tokens_of = [each.step.batch.tokens for each in seen]
        subject = Subject("", net, stories)
        pairs = {
            f"top-{self.k} contexts": {
                "plain": partial(plain_contexts, acts, tokens_of, self.k, self.reservoir),
                "ours": partial(our_contexts, seen, subject, self.site, self.k, self.reservoir),
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
        header = ["of one site", "plain, ms per 100k tokens", "ours", "times faster", "results"]
        return Section(
            "Against plain loops",
            header,
            rows,
            (
                f"`{self.site}`, {tokens:,} tokens, {width} neurons; plain and ours take turns for {self.rounds} "
                f"rounds; median and {CONFIDENCE:.0%} bootstrap interval.",
                f"Contexts: both find the {self.k} strongest activations of every neuron over all tokens and a random "
                f"sample of {self.reservoir:,} tokens, with their surroundings. Plain goes token by token and neuron "
                "by neuron, and keeps the surrounding token ids. Ours is the part `contexts`, which keeps the neuron's "
                "surrounding activations.",
                "Cosines: plain holds, normalizes and multiplies all activations at once. Ours holds one chunk.",
            ),
        )

    def _agreement(self, pair: Mapping[str, partial[Tensor]]) -> str:
        plain, ours = pair["plain"](), pair["ours"]()
        if plain.ndim:
            same = (ours.nan_to_num(0) - plain).abs() <= 1e-6 * plain.abs()
            return f"{float(same.double().mean()):.1%} equal"
        return f"difference {abs(float(plain) - float(ours)):.0e}"

    # -- part by part -----------------------------------------------------------------------------------------------

    def _parts(self, net: Network, stories: StorySet, clock: Clock) -> Iterator[Section]:
        quarter = stories.subset(stories.tokens // 4)
        config = composed((), "evaluate")
        subject = Subject("", net, stories)
        names = [name for name, each in config.evaluation.items() if not made(each).inapplicable(subject)]
        rows: list[list[str]] = []
        # Not measured: the allocator keeps the memory of a process's first evaluation for later ones.
        self._evaluate(made(config.evaluation[names[0]]), net, quarter, config.calibration_tokens)
        for name in shown(names, "parts"):
            of_few, of_all = (made(config.evaluation[name]) for _ in range(2))
            peaks = [_peak(partial(self._evaluate, of_few, net, quarter, config.calibration_tokens))]
            began = clock()
            peaks.append(_peak(partial(self._evaluate, of_all, net, stories, config.calibration_tokens)))
            rows.append([f"`{name}`", f"{clock() - began:.1f}", f"{of_all.seconds:.1f}", *peaks])
            yield Section(
                "Part by part",
                ["part", "s, alone", "own work, s", f"MiB, {quarter.tokens:,} tokens", f"{stories.tokens:,}"],
                rows,
                (
                    "One model. Alone: including the forward passes and the calibration, which parts share when "
                    "several are evaluated. Own work: wall-clock seconds. Memory: the peak beyond what was in use "
                    "before.",
                ),
            )

    @torch.no_grad()
    def _evaluate(self, part: Part, net: Network, stories: StorySet, calibration_tokens: int) -> None:
        examine({Subject("", net, stories): [part]}, calibration_tokens)
        with part.timed():
            part.compute()


def _peak(work: Callable[[], object]) -> str:
    if available():
        return f"{resident_mib(work):,.0f}"
    work()
    return NONE


def _timed(work: partial[Tensor], clock: Clock, turn: int = 0) -> float:
    began = clock()
    work()
    return clock() - began


# -- the plain loops, and ours ----------------------------------------------------------------------------------------


def plain_contexts(acts: Chunks, tokens: list[Tensor], k: int, reservoir: int) -> Float[Tensor, "width k"]:
    """The ``k`` strongest activations of every neuron, by a heap per neuron; plus a reservoir sample of tokens.

    The sample is drawn token by token (Vitter's algorithm R). The token ids around each entry are kept with it.
    """
    draw = np.random.default_rng(SEED)
    sample: list[tuple[Tensor, list[int]]] = []
    heaps: list[list[tuple[float, int, list[int]]]] = [[] for _ in range(acts[0].shape[1])]
    seen = 0
    for chunk, ids in zip(acts, tokens, strict=True):
        first = seen
        for row, activation in enumerate(chunk):
            seen += 1
            place = len(sample) if len(sample) < reservoir else int(draw.integers(seen))
            if place < reservoir:
                sample[place : place + 1] = [(activation.clone(), around(ids, row))]
        for neuron, heap in enumerate(heaps):
            best = chunk[:, neuron].topk(min(k, len(chunk)))
            for value, row in zip(best.values.tolist(), best.indices.tolist(), strict=True):
                entry = (value, first + row, around(ids, row))
                if len(heap) < k:
                    heapq.heappush(heap, entry)
                else:
                    heapq.heappushpop(heap, entry)
    return torch.tensor([sorted((value for value, *_ in heap), reverse=True) for heap in heaps])


def around(ids: Tensor, row: int) -> list[int]:
    """The token ids of a context."""
    return ids[max(0, row - BEFORE) : row + AFTER + 1].tolist()


def our_contexts(seen: list[Seen], subject: Subject, site: str, k: int, sample: int) -> Float[Tensor, "width k"]:
    """The evaluation's part ``contexts``, up to its arrays."""
    part = Contexts(site, [], k, BEFORE, AFTER, sample, 2)
    part.attach(subject)
    for each in seen:
        part.update(each)
    return torch.from_numpy(part.compute().arrays[f"{site}/top_activation"].values)


def plain_cosine(acts: Chunks) -> Float[Tensor, ""]:
    """The mean absolute cosine, with all activations held, normalized and multiplied at once."""
    held = F.normalize(torch.cat(acts).float(), dim=0)
    cosine = held.T @ held
    return (cosine.abs().sum() - cosine.diagonal().abs().sum()) / (len(cosine) * (len(cosine) - 1))


def our_cosine(acts: Chunks) -> Float[Tensor, ""]:
    """The mean absolute cosine as :class:`tti.evaluation.geometry.Geometry` computes it for a site."""
    gram = torch.zeros(acts[0].shape[1], acts[0].shape[1], dtype=torch.float64, device=acts[0].device)
    for chunk in acts:
        add_gram(gram, chunk)
    return mean_abs_cosine(mirrored(gram))
