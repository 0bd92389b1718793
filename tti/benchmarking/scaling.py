"""``table=scaling``: seconds and peak memory against the amount of work, for a user who plans."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from itertools import product
from pathlib import Path

import numpy as np

from tti.benchmarking import parts
from tti.benchmarking.clocks import Clock
from tti.benchmarking.growth import MEANING, Panel, Point
from tti.benchmarking.growth_figure import draw
from tti.benchmarking.loop import seconds_a_token, warm_up
from tti.benchmarking.memory import in_a_process, peak_of, peak_of_steps
from tti.benchmarking.ours import Ours
from tti.benchmarking.progress import shown
from tti.benchmarking.regularizers import Penalties, attaches, regularizers
from tti.benchmarking.section import Section
from tti.benchmarking.setting import Setting

FIGURE = "scaling.png"
PER_MILLION = "s per million tokens"
AMOUNTS: dict[str, Callable[[Ours, Setting], float]] = {
    "parameters": lambda loop, setting: sum(parameter.numel() for parameter in loop.net.net.parameters()),
    "stories per step": lambda loop, setting: setting.stories,
    "tokens per story": lambda loop, setting: _tokens(setting) / setting.stories,
}
Kind = Callable[[Setting, Clock], Panel]


class Scaling:
    """A panel for each kind of work; every point is measured in a process of its own, one after the other.

    Args:
        to: folder of the figure.
        kinds: name -> what makes a panel.
    """

    def __init__(self, to: str, kinds: Mapping[str, Kind]) -> None:
        self.to, self.kinds = Path(to), kinds

    def __call__(self, setting: Setting, clock: Clock) -> Iterator[Section]:
        """Yield a section for each kind of work, and the figure, drawn anew after each."""
        panels: list[Panel] = []
        for kind in self.kinds.values():
            panels.append(kind(setting, clock))
            draw(panels, self.to / FIGURE)
            yield panels[-1].section()
            yield Section("Figure", ["seconds and memory against work"], [[f"![]({FIGURE})"]], (MEANING,))


class Steps:
    """Steps of a training.

    Args:
        title: of the panel.
        amount: what is counted, one of ``AMOUNTS``.
        variants: overrides of each training.
        stories: stories per step, for each of the variants; the benchmark's own if empty.
        rounds: timed steps of each point; the median counts.
        grows: how the cost should grow.
    """

    def __init__(
        self,
        title: str,
        amount: str,
        variants: Sequence[Sequence[str]],
        rounds: int,
        grows: str,
        stories: Sequence[int] = (),
    ) -> None:
        self.title, self.amount, self.variants, self.stories = title, amount, variants, stories
        self.rounds, self.grows = rounds, grows

    def __call__(self, setting: Setting, clock: Clock) -> Panel:
        """The panel, by ascending amounts."""
        settings = [
            replace(setting.having(*overrides), stories=stories)
            for overrides, stories in product(self.variants, self.stories or [setting.stories])
        ]
        points = [in_a_process(step, each, self.amount, self.rounds, clock) for each in shown(settings, self.title)]
        points.sort(key=lambda point: point.amount)
        return Panel(self.title, self.amount, PER_MILLION, tuple(points), (self.grows,))


class Sites:
    """Penalties by themselves, forward and backward, on one activation of each of several blocks.

    Args:
        title: of the panel.
        site: with ``*`` for the number of the block.
        blocks: numbers of blocks.
        overrides: of the training.
        apart: regularizers that want another network or other data.
        rounds: timed penalties of each point; the median counts.
        grows: how the cost should grow.
    """

    def __init__(
        self,
        title: str,
        site: str,
        blocks: Sequence[int],
        overrides: Sequence[str],
        apart: Mapping[str, object],
        rounds: int,
        grows: str,
    ) -> None:
        self.title, self.site, self.blocks, self.overrides = title, site, sorted(blocks), overrides
        self.apart, self.rounds, self.grows = apart, rounds, grows

    def __call__(self, setting: Setting, clock: Clock) -> Panel:
        """The panel, with a line for each regularizer that can be attached there."""
        setting = setting.having(*self.overrides, "regularizer=none")
        names = [name for name in regularizers() if name not in self.apart and attaches(setting, name, self.site)]
        points = [
            in_a_process(penalty, setting, name, self._sites(count), self.rounds, clock)
            for name, count in shown(list(product(names, self.blocks)), self.title)
        ]
        return Panel(self.title, "sites", PER_MILLION, tuple(points), (self.grows,))

    def _sites(self, count: int) -> list[str]:
        return [self.site.replace("*", str(block)) for block in range(count)]


class Parts:
    """Parts of the evaluation, each alone: with the forward passes that parts share when several are evaluated.

    Args:
        title: of the panel.
        amount: what is counted, ``tokens`` or ``neurons`` (of all MLPs).
        names: of the parts.
        tokens: numbers of tokens that they see.
        variants: overrides of the training whose network is evaluated.
        split: of the data.
        tokens_per_chunk: as in ``conf/evaluate.yaml``.
        grows: how the cost should grow.
    """

    def __init__(
        self,
        title: str,
        amount: str,
        names: Sequence[str],
        tokens: Sequence[int],
        variants: Sequence[Sequence[str]],
        split: str,
        tokens_per_chunk: int,
        grows: str,
    ) -> None:
        self.title, self.amount, self.names, self.tokens, self.variants = title, amount, names, sorted(tokens), variants
        self.split, self.tokens_per_chunk, self.grows = split, tokens_per_chunk, grows

    def __call__(self, setting: Setting, clock: Clock) -> Panel:
        """The panel, with a line for each part."""
        settings = [setting.having(*overrides) for overrides in self.variants]
        points = [
            self._point(name, each, tokens, clock)
            for name, each, tokens in shown(list(product(self.names, settings, self.tokens)), self.title)
        ]
        return Panel(self.title, self.amount, PER_MILLION, tuple(points), (self.grows,))

    def _point(self, name: str, setting: Setting, tokens: int, clock: Clock) -> Point:
        cost = in_a_process(parts.cost, name, setting, self.split, tokens, self.tokens_per_chunk, clock)
        amount = {"tokens": cost.tokens, "neurons": cost.neurons}[self.amount]
        return Point(name, amount, 1e6 * cost.seconds / cost.tokens, cost.mib)


def step(setting: Setting, amount: str, rounds: int, clock: Clock) -> Point:
    """The cost of a training step."""
    setting.seed()
    loop, samples = Ours(setting), setting.samples
    warm_up(loop, samples)
    seconds = np.median([seconds_a_token(loop, samples, clock, turn) for turn in range(rounds)])
    return Point("step", AMOUNTS[amount](loop, setting), 1e6 * float(seconds), peak_of_steps(loop, samples))


def penalty(setting: Setting, name: str, sites: Sequence[str], rounds: int, clock: Clock) -> Point:
    """The cost of a regularizer by itself at some sites."""
    setting.seed()
    loop = Ours(setting.having(f"regularizer={name}", f"regularizer.{name}.sites=[{','.join(sites)}]"))
    penalties = Penalties(loop, setting.samples)
    seconds = np.median([penalties.seconds_a_token(clock, turn) for turn in range(rounds)])
    return Point(name, len(sites), 1e6 * float(seconds), peak_of(partial(penalties.take, penalties.steps[0])))


def _tokens(setting: Setting) -> float:
    """Mean tokens of a step."""
    return float(np.mean([len(sample.batch) for sample in setting.samples]))
