"""``table=evaluation``: the cost of an evaluation, against plain loops like the seed project's, and part by part."""

import heapq
from collections.abc import Iterator, Mapping, Sequence
from functools import partial

import numpy as np
import torch
from hydra.utils import instantiate
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from tti.benchmarking import parts
from tti.benchmarking.clocks import Clock
from tti.benchmarking.memory import in_a_process
from tti.benchmarking.pairing import CONFIDENCE, estimate, take_turns
from tti.benchmarking.progress import shown
from tti.benchmarking.section import Section
from tti.benchmarking.setting import Setting
from tti.evaluation.base import Seen, Subject
from tti.evaluation.contexts import Contexts
from tti.evaluation.stories import SEED, StorySet
from tti.measures import add_gram, mean_abs_cosine, mirrored
from tti.models.network import Network
from tti.models.taps import Recorder
from tti.step import Step

Chunks = list[Float[Tensor, "token width"]]
BEFORE, AFTER = 20, 8  # tokens of a context
PART_BY_PART = (
    "One model, each part in a process of its own. Alone: including the forward passes and the calibration, which "
    "parts share when several are evaluated. Own work: wall-clock seconds. Memory: the peak beyond what was in use "
    "before, on a quarter of the tokens and on all."
)


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
        parts: the parts to measure one by one; all if empty.
    """

    def __init__(
        self,
        site: str,
        split: str,
        tokens: int,
        tokens_per_chunk: int,
        k: int,
        reservoir: int,
        rounds: int,
        parts: Sequence[str] = (),
    ) -> None:
        self.site, self.split, self.tokens, self.tokens_per_chunk = site, split, tokens, tokens_per_chunk
        self.k, self.reservoir, self.rounds, self.parts = k, reservoir, rounds, list(parts)

    def __call__(self, setting: Setting, clock: Clock) -> Iterator[Section]:
        """Yield the sections, the last one again after each row."""
        setting.seed()
        net: Network = instantiate(setting.config.model).to(setting.fabric.device).eval()
        stories = StorySet(setting.data, self.split, self.tokens_per_chunk).subset(self.tokens)
        yield self._against_loops(self._recorded(net, stories), net, stories, clock)
        yield from self._parts(setting, clock)

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

    def _parts(self, setting: Setting, clock: Clock) -> Iterator[Section]:
        """The table again after each part."""
        rows: list[list[str]] = []
        left_out: list[str] = []
        for name in shown(self.parts or parts.names(), "parts"):
            few, whole = (
                in_a_process(parts.cost, name, setting, self.split, tokens, self.tokens_per_chunk, clock)
                for tokens in (self.tokens // 4, self.tokens)
            )
            if whole.left_out:
                left_out.append(f"`{name}` is left out: {whole.left_out}.")
            else:
                rows.append([f"`{name}`", f"{whole.seconds:.1f}", f"{whole.own:.1f}", few.peak, whole.peak])
            header = ["part", "s, alone", "own work, s", f"MiB, {few.tokens:,} tokens", f"{whole.tokens:,}"]
            yield Section("Part by part", header, rows, (PART_BY_PART, *left_out))


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
