"""``table=mixtures``: the cost of mixtures of experts, compared with a dense MLP of as many active weights."""

from collections.abc import Iterator, Mapping, Sequence
from functools import partial

import numpy as np
import torch

from tti.benchmarking.clocks import Clock
from tti.benchmarking.loop import TURN, second_of_two, seconds_a_token, warm_up
from tti.benchmarking.ours import Ours
from tti.benchmarking.pairing import CONFIDENCE, estimate, take_turns
from tti.benchmarking.progress import shown
from tti.benchmarking.sample import Sample
from tti.benchmarking.section import Section
from tti.benchmarking.setting import Setting
from tti.models.gpt import Block
from tti.models.taps import no_tap

HEADER = ["variant", "active weights", "weights", "ms per layer", "ratio", "ms per step", "ratio"]


class Mixtures:
    """One MLP layer, forward and backward, and whole steps, in turn with those of the reference.

    Args:
        variants: name -> overrides of the training.
        reference: the variant that the others are compared with.
        rounds: number of rounds in which they take turns.

    Raises:
        ValueError: there is no such variant.
    """

    def __init__(self, variants: Mapping[str, Sequence[str]], reference: str, rounds: int) -> None:
        if reference not in variants:
            raise ValueError(f"tables.mixtures has no variant {reference!r}; it has: {', '.join(variants)}")
        self.variants, self.reference, self.rounds = variants, reference, rounds

    def __call__(self, setting: Setting, clock: Clock) -> Iterator[Section]:
        """Yield the table."""
        setting.seed()
        loops = {name: Ours(setting, overrides) for name, overrides in self.variants.items()}
        for name in shown(list(loops), "warm-up"):
            warm_up(loops[name], setting.samples)
        layers = {name: Layer(loop) for name, loop in loops.items()}
        samples = setting.samples
        turns = {f"layer {name}": partial(layer.seconds_a_token, samples, clock) for name, layer in layers.items()}
        turns |= {f"step {name}": partial(seconds_a_token, loop, samples, clock) for name, loop in loops.items()}
        seconds = take_turns(turns, self.rounds, "rounds")
        tokens = np.mean([len(sample.batch.tokens) for sample in setting.samples])
        rows = []
        for name, layer in layers.items():
            row = [f"`{name}`", f"{layer.mlp.weights_per_token:,}", f"{layer.weights:,}"]
            for what in ("layer", "step"):
                own, reference = seconds[f"{what} {name}"], seconds[f"{what} {self.reference}"]
                row += [f"{1e3 * tokens * np.median(own):,.1f}", estimate(own / reference).spelled(2)]
            rows.append(row)
        yield Section("Cost of mixtures of experts", HEADER, rows, self._notes(setting))

    def _notes(self, setting: Setting) -> tuple[str, ...]:
        tokens = ", ".join(str(len(sample.batch.tokens)) for sample in setting.samples)
        return (
            f"{self.rounds} rounds in which all variants take turns, each with {TURN}. Ratios to `{self.reference}` "
            f"are taken within a round; shown are their median and its {CONFIDENCE:.0%} bootstrap interval. Steps of "
            f"{tokens} tokens.",
            "Weights: those of one layer's MLP with its router; active are those that multiply a token. Layer: one "
            "MLP, forward and backward on random input. Step: forward, backward, clipping, and AdamW over all weights, "
            "active or not.",
        )


class Layer:
    """The first MLP of a loop's network, forward and backward."""

    def __init__(self, loop: Ours) -> None:
        block = next(module for module in loop.net.net.modules() if isinstance(module, Block))
        self.mlp, self.fabric, self.width = block.mlp, loop.fabric, block.ln2.normalized_shape[0]

    @property
    def weights(self) -> int:
        """Number of weights."""
        return sum(parameter.numel() for parameter in self.mlp.parameters())

    def seconds_a_token(self, samples: Sequence[Sample], clock: Clock, turn: int) -> float:
        """Seconds per token, on as many tokens as the sample whose turn it is."""
        batch = samples[turn % len(samples)].batch
        x = torch.randn(len(batch.tokens), self.width, device=self.fabric.device, requires_grad=True)

        def work() -> None:
            with self.fabric.autocast():
                written = self.mlp.among(x, batch.stories, no_tap)
            written.float().square().sum().backward()
            self.mlp.zero_grad()

        return second_of_two(work, clock) / len(batch.tokens)
