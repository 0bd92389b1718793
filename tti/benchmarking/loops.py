"""``table=loops``: seconds per real token of whole training steps, ours against plain ones, at equal dropout."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial

import numpy as np
import torch
from jaxtyping import Float

from tti.benchmarking import flops, memory
from tti.benchmarking.clocks import Clock
from tti.benchmarking.loop import TURN, Loop, seconds_a_token, warm_up
from tti.benchmarking.pairing import CONFIDENCE, estimate, take_turns
from tti.benchmarking.progress import shown
from tti.benchmarking.sample import Sample
from tti.benchmarking.section import Section
from tti.benchmarking.setting import Setting


class Loops:
    """One section per dropout setting.

    Args:
        loops: name -> function that makes a loop from a setting.
        reference: the loop that the others are compared with.
        dropouts: name -> overrides of the training, the same for all loops.
        rounds: number of rounds in which the loops take turns.
        with_memory: also measure peak memory, each loop in its own process.
        runs: number of runs for which the table states the hours.
    """

    def __init__(
        self,
        loops: Mapping[str, Callable[[Setting], Loop]],
        reference: str,
        dropouts: Mapping[str, Sequence[str]],
        rounds: int,
        with_memory: bool,
        runs: int,
    ) -> None:
        self.loops, self.reference, self.dropouts = dict(loops), reference, dropouts
        self.rounds, self.with_memory, self.runs = rounds, with_memory, runs

    def __call__(self, setting: Setting, clock: Clock) -> Iterator[Section]:
        """Yield each section as soon as it is measured."""
        for name, overrides in self.dropouts.items():
            yield from self._sections(f"Dropout: {name}", setting.having(*overrides), clock)

    def _sections(self, title: str, setting: Setting, clock: Clock) -> Iterator[Section]:
        peaks = memory.peaks(self.loops, setting, f"{title}: memory") if self.with_memory else {}
        setting.seed()
        samples = setting.samples
        made = {name: make(setting) for name, make in self.loops.items()}
        for name in shown(list(made), f"{title}: warm-up"):
            warm_up(made[name], samples)
        turns = {name: partial(seconds_a_token, loop, samples, clock) for name, loop in made.items()}
        seconds = take_turns(turns, self.rounds, f"{title}: rounds")
        rows = [
            [f"`{name}`", *self._speed(seconds, name, samples), *memory.cells(peaks, name, self.reference)]
            for name in made
        ]
        header = ["loop", "ms per step", "tokens/s", f"times {self.reference}", "peak MiB", "%"]
        yield Section(title, header, rows, _notes(setting, self.rounds))
        peaks_of = {dtype: flops.peak(clock, dtype) for dtype in dict.fromkeys(loop.dtype for loop in made.values())}
        rows = [[f"`{name}`", *self._whole(setting, seconds[name], peaks_of[made[name].dtype])] for name in made]
        header = ["loop", "h per run", f"h, {self.runs} runs", "MFU"]
        yield Section(f"{title}: whole runs", header, rows, _notes_on_whole(setting, peaks_of))

    def _speed(
        self, seconds: Mapping[str, Float[np.ndarray, "round"]], name: str, samples: Sequence[Sample]
    ) -> list[str]:
        tokens = np.mean([len(sample.batch) for sample in samples])
        own = float(np.median(seconds[name]))
        ratio = estimate(seconds[self.reference] / seconds[name])
        return [f"{1e3 * own * tokens:,.1f}", f"{1 / own:,.0f}", ratio.spelled(2)]

    def _whole(self, setting: Setting, seconds: Float[np.ndarray, "round"], peak: float | None) -> list[str]:
        own = float(np.median(seconds))
        hours = flops.tokens_a_run(setting) * own / 3600
        mfu = f"{flops.per_token(setting) / own / peak:.1%}" if peak else memory.NONE
        return [f"{hours:,.2f}", f"{self.runs * hours:,.1f}", mfu]


def _notes(setting: Setting, rounds: int) -> tuple[str, ...]:
    samples = setting.samples
    tokens = ", ".join(str(len(sample.batch)) for sample in samples)
    padding = ", ".join(f"{sample.padding:.0%}" for sample in samples)
    whole = setting.config.data.stories_per_step
    return (
        f"{rounds} rounds in which all loops take turns, each with {TURN}. Ratios are taken within a round; shown are "
        f"their median and its {CONFIDENCE:.0%} bootstrap interval. Data loading is not included.",
        f"The steps pad about as much as the average step; of each, {setting.stories} stories are used, evenly spaced "
        f"in length among its {whole}: {tokens} real tokens. The seed project's loop (`original`) pads them to the "
        f"longest of all {whole}: {padding} of its positions are padding.",
        "nanoGPT (compiled; bf16 unless it says fp32) and Hugging Face (bf16) train on packed rows of the same "
        "stories, in which a story sees those before it. Only tokens that enter the loss are counted.",
        f"`original` runs at the training's own precision, {setting.config.trainer.precision}, with the seed project's "
        "dropout of 0.1 everywhere; all others have the section's dropout.",
        memory.MEANING,
    )


def _notes_on_whole(setting: Setting, peaks: Mapping[torch.dtype, float | None]) -> tuple[str, ...]:
    data, trainer = setting.config.data, setting.config.trainer
    known = [
        f"{str(dtype).removeprefix('torch.')} {peak / 1e9:,.0f}e9 operations/s, {peak / flops.per_token(setting):,.0f} "
        "tokens/s"
        for dtype, peak in peaks.items()
        if peak is not None
    ]
    notes = (
        f"Hours per run at this speed: {trainer.max_steps:,} steps of {data.stories_per_step} stories, "
        f"{flops.tokens_a_run(setting) / 1e6:,.0f}M tokens, without validation.",
        flops.FORMULA,
    )
    return (*notes, f"MFU: share of the peak {flops.SOURCE}: {'; '.join(known)}.") if known else notes
