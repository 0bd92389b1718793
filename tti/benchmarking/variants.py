"""``table=objectives``: the cost of a step of each variant of an experiment, compared with its baseline."""

from collections.abc import Iterator
from functools import partial
from pathlib import Path

import numpy as np
from omegaconf import OmegaConf

from tti.benchmarking import memory
from tti.benchmarking.clocks import Clock
from tti.benchmarking.loop import TURN, seconds_a_token, warm_up
from tti.benchmarking.ours import Ours
from tti.benchmarking.pairing import CONFIDENCE, estimate, take_turns
from tti.benchmarking.progress import shown
from tti.benchmarking.section import Section
from tti.benchmarking.setting import Setting
from tti.configuration import conf_dir

HEADER = ["variant", "parameters, M", "ms per step", "costs %", "peak MiB", "%"]


class Variants:
    """Steps of all variants, in turn with those of the reference.

    Args:
        experiment: a file of ``conf/experiment``.
        reference: the variant that the others are compared with.
        rounds: number of rounds in which they take turns.
        with_memory: also measure peak memory, each variant in its own process.

    Raises:
        ValueError: the experiment has no such variant.
    """

    def __init__(self, experiment: str, reference: str, rounds: int, with_memory: bool) -> None:
        self.variants = variants_of(experiment)
        if reference not in self.variants:
            raise ValueError(
                f"experiment={experiment} has no variant {reference!r}; it has: {', '.join(self.variants)}"
            )
        self.experiment, self.reference, self.rounds, self.with_memory = experiment, reference, rounds, with_memory

    def __call__(self, setting: Setting, clock: Clock) -> Iterator[Section]:
        """Yield the table."""
        makes = {name: partial(Ours, overrides=overrides) for name, overrides in self.variants.items()}
        peaks = memory.peaks(makes, setting, "memory") if self.with_memory else {}
        setting.seed()
        loops = {name: make(setting) for name, make in makes.items()}
        for name in shown(list(loops), "warm-up"):
            warm_up(loops[name], setting.samples)
        turns = {name: partial(seconds_a_token, loop, setting.samples, clock) for name, loop in loops.items()}
        seconds = take_turns(turns, self.rounds, "rounds")
        tokens = np.mean([len(sample.batch) for sample in setting.samples])
        rows = []
        for name, loop in loops.items():
            cost = estimate(100 * (seconds[name] / seconds[self.reference] - 1))
            parameters = sum(parameter.numel() for parameter in loop.net.parameters()) / 1e6
            step = f"{1e3 * tokens * np.median(seconds[name]):,.1f}"
            figures = [f"{parameters:,.1f}", step, cost.spelled(1, sign="+")]
            rows.append([f"`{name}`", *figures, *memory.cells(peaks, name, self.reference)])
        yield Section(f"Cost of a step of {self.experiment}", HEADER, rows, self._notes(setting))

    def _notes(self, setting: Setting) -> tuple[str, ...]:
        tokens = ", ".join(str(len(sample.batch)) for sample in setting.samples)
        return (
            f"{self.rounds} rounds in which all variants take turns, each with {TURN}. Ratios to `{self.reference}` "
            f"are taken within a round; shown are their median and its {CONFIDENCE:.0%} bootstrap interval. Steps of "
            f"{tokens} tokens.",
            "Parameters: all that are trained, including those of regularizers; with AdamW each takes 16 bytes in "
            "float32 (weight, gradient, two moments).",
            "Gradient ratios, which a training measures every `task.grad_ratio_every` steps, are not included.",
            memory.MEANING,
        )


def variants_of(experiment: str) -> dict[str, list[str]]:
    """An experiment's variants, each a list of overrides.

    Raises:
        ValueError: there is no such experiment, or it declares no variants.
    """
    path = Path(conf_dir(), "experiment", f"{experiment}.yaml")
    if not path.is_file():
        known = ", ".join(sorted(other.stem for other in path.parent.glob("*.yaml")))
        raise ValueError(f"no experiment {experiment!r}; there are: {known}")
    variants = OmegaConf.select(OmegaConf.load(path), "hydra.sweeper.variants")
    if variants is None:
        raise ValueError(f"experiment={experiment} declares no variants")
    return {str(name): list(overrides) for name, overrides in variants.items()}
