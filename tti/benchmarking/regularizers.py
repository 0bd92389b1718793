"""``table=regularizers``: the cost that each regularizer adds to a step."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial

import numpy as np
import torch
from hydra.errors import InstantiationException

from tti.benchmarking.clocks import Clock
from tti.benchmarking.loop import TURN, second_of_two, seconds_a_token, warm_up
from tti.benchmarking.ours import Ours
from tti.benchmarking.pairing import CONFIDENCE, estimate, take_turns
from tti.benchmarking.sample import Sample
from tti.benchmarking.section import Section
from tti.benchmarking.setting import Setting
from tti.configuration import options
from tti.modules.assembly import assembled
from tti.step import Batch, Step

HEADER = ["regularizer", "sites", "with", "ms per step without", "costs %", "by itself %"]


def regularizers() -> list[str]:
    """The options of the group ``regularizer``, without ``none``."""
    return sorted(options("regularizer").keys() - {"none"})


class Regularizers:
    """Every YAML file of ``conf/regularizer``, at its own sites and at further ones that it can be attached to.

    Args:
        sites: glob patterns of the further sites.
        needs: regularizer -> overrides that it requires. The step it is compared with has them too, and it is measured
            at its own sites only.
        at: glob pattern -> regularizer -> overrides for the regularizer at these sites.
        rounds: number of rounds in which the steps with and without take turns.
    """

    def __init__(
        self,
        sites: Sequence[str],
        needs: Mapping[str, Sequence[str]],
        at: Mapping[str, Mapping[str, Sequence[str]]],
        rounds: int,
    ) -> None:
        self.sites, self.needs, self.at, self.rounds = sites, needs, at, rounds

    def __call__(self, setting: Setting, clock: Clock) -> Iterator[Section]:
        """Yield the whole table again after each row."""
        rows: list[list[str]] = []
        for name in regularizers():
            without = setting.having(*self.needs.get(name, ()), "regularizer=none")
            for sites in self._sites(without, name):
                added = list(self.at.get(sites, {}).get(name, ()))
                rows.append(self._row(without, name, sites, added, clock))
                yield Section("Cost of each regularizer", HEADER, rows, self._notes(setting))

    def _sites(self, without: Setting, name: str) -> list[str]:
        own = own_sites(without, name)
        further = [] if name in self.needs else [sites for sites in self.sites if sites != own]
        return [own, *(sites for sites in further if attaches(without, name, sites))]

    def _row(self, without: Setting, name: str, sites: str, added: list[str], clock: Clock) -> list[str]:
        samples, own = without.samples, sites == own_sites(without, name)
        attached = [f"regularizer={name}"] if own else with_regularizer(name, sites)
        loops = {"without": Ours(without), "with": Ours(without.having(*attached, *added))}
        for loop in loops.values():
            warm_up(loop, samples)
        turns = {which: partial(seconds_a_token, loop, samples, clock) for which, loop in loops.items()}
        turns["by itself"] = partial(Penalties(loops["with"], samples).seconds_a_token, clock)
        seconds = take_turns(turns, self.rounds, f"{name} at {sites}")
        cost = estimate(100 * (seconds["with"] / seconds["without"] - 1))
        by_itself = estimate(100 * seconds["by itself"] / seconds["without"])
        tokens = np.mean([len(sample.batch) for sample in samples])
        spelled = " ".join([*self.needs.get(name, ()), *(override.rpartition(".")[2] for override in added)])
        shown = [f"`{name}`", f"`{sites}`", spelled and f"`{spelled}`"]
        step = f"{1e3 * tokens * np.median(seconds['without']):,.1f}"
        return [*shown, step, cost.spelled(1, sign="+"), by_itself.spelled(1)]

    def _notes(self, setting: Setting) -> tuple[str, ...]:
        tokens = ", ".join(str(len(sample.batch)) for sample in setting.samples)
        return (
            f"{self.rounds} rounds without and with the regularizer, each with {TURN}. Ratios are taken within a "
            f"round; shown are their median and its {CONFIDENCE:.0%} bootstrap interval. Steps of {tokens} tokens.",
            "By itself: the penalty alone, forward and backward to a step's activations, relative to the step without "
            "it in the same rounds. This is not a difference of two large numbers, but it misses the optimizer's work "
            "on a regularizer's own parameters, and what the penalty evicts from the caches.",
            "Gradient ratios, which a training measures every `task.grad_ratio_every` steps, are not included. The "
            "step without the regularizer has the overrides under `with` too, unless they configure the regularizer.",
        )


class Penalties:
    """The penalties of a training, forward and backward, on activations stored from one step per sample."""

    def __init__(self, loop: Ours, samples: Sequence[Sample]) -> None:
        self.loop = loop
        self.steps = [self._kept(sample.batch) for sample in samples]

    def _kept(self, batch: Batch) -> Step:
        with self.loop.fabric.autocast():
            _, step = self.loop.net.run(batch, self.loop.net.objective.sites)
        leaves = {site: activation.detach().requires_grad_() for site, activation in step.activations.items()}
        return replace(step, activations=leaves)

    def seconds_a_token(self, clock: Clock, turn: int) -> float:
        """Seconds per token of the penalties, as :func:`tti.benchmarking.loop.seconds_a_token` for a step."""
        step = self.steps[turn % len(self.steps)]
        return second_of_two(partial(self.take, step), clock) / len(step.batch)

    def take(self, step: Step) -> None:
        """Compute the penalties of a step, and their gradient to its activations."""
        net = self.loop.net
        net.on_train_batch_start(step.batch, 0)
        with self.loop.fabric.autocast():
            coefficients = net.objective.coefficients(net.progress)
            weighted = [net.objective.terms[name].weighted(step, value)[1] for name, value in coefficients.items()]
        torch.autograd.backward(weighted)
        net.zero_grad()
        for activation in step.activations.values():
            activation.grad = None


def own_sites(setting: Setting, name: str) -> str:
    """The sites in a regularizer's YAML file, as they are shown."""
    sites = setting.having(f"regularizer={name}").config.regularizer[name].sites
    return sites if isinstance(sites, str) else ", ".join(sites)


def with_regularizer(name: str, sites: str) -> list[str]:
    """Overrides that add a regularizer at these sites."""
    return [f"regularizer={name}", f"regularizer.{name}.sites='{sites}'"]


def attaches(setting: Setting, name: str, sites: str) -> bool:
    """Whether a regularizer can be attached to these sites."""
    config = setting.having(*with_regularizer(name, sites)).config
    try:
        with torch.device("meta"):
            assembled(config)
    except (InstantiationException, ValueError) as error:
        if isinstance(error, ValueError) or isinstance(error.__cause__, ValueError):
            return False
        raise
    return True
