"""Performance: loss, perplexity and bits per byte over every token in the loss, with intervals over stories."""

import math
from functools import partial

import numpy as np
import torch
from jaxtyping import Float, Int

from tti.evaluation.base import Part, Seen, Subject, array
from tti.evaluation.stories import SEED
from tti.evaluation_folder import Result

CONFIDENCE = 0.95
AT_ONCE = 100  # resamples held in memory at a time


class Performance(Part):
    """Cross-entropy in nats per token, including the end-of-text token, and under the reference protocol.

    The reference protocol is that of the seed project. It truncates stories at 512 tokens, and scores neither a story's
    first token nor its end. If a story fits, the last position (which predicts the end) is dropped; if it is longer,
    the last position that the truncation leaves without a target.

    Args:
        resamples: resamples of the stories for the bootstrap interval (percentiles; ratio of summed nats to tokens).
        original_length: tokens of a story that the reference protocol sees.
    """

    needs_nll = True

    def __init__(self, resamples: int, original_length: int) -> None:
        super().__init__()
        self.resamples, self.original_length = resamples, original_length

    def attach(self, subject: Subject) -> None:
        stories, device = subject.stories, subject.device
        zeros = partial(torch.zeros, dtype=torch.float64, device=device)
        self.token_bytes = torch.from_numpy(stories.token_bytes).to(device)
        count, length = len(stories.packed), int(stories.lengths.max())
        self.nll, self.tokens = zeros(count), zeros(count)
        self.bytes = zeros(count)
        self.original_nll, self.original_tokens = zeros(count), zeros(count)
        self.position_nll, self.position_tokens = zeros(length), zeros(length)

    def update(self, seen: Seen) -> None:
        batch, nll = seen.step.batch, seen.step.nll.double()
        story, position = seen.stories[seen.story], batch.rows(batch.stories.positions)
        lengths = torch.tensor(batch.stories.lengths, device=nll.device)
        original = (position < lengths.clamp_max(self.original_length)[seen.story] - 1).double()
        ones = torch.ones_like(nll)
        self.nll.index_add_(0, story, nll)
        self.tokens.index_add_(0, story, ones)
        self.bytes.index_add_(0, story, self.token_bytes[batch.targets].double())
        self.original_nll.index_add_(0, story, nll * original)
        self.original_tokens.index_add_(0, story, original)
        self.position_nll.index_add_(0, position, nll)
        self.position_tokens.index_add_(0, position, ones)

    def compute(self) -> Result:
        seen = self.tokens > 0
        nats, tokens, size = (values[seen].cpu().numpy() for values in (self.nll, self.tokens, self.bytes))
        original = self.original_nll[seen].cpu().numpy(), self.original_tokens[seen].cpu().numpy()
        metrics: dict[str, float] = {"stories": len(nats), "tokens": tokens.sum(), "bytes": size.sum()}
        for name, value in interval(nats, tokens, self.resamples).items():
            metrics[f"loss{name}"], metrics[f"perplexity{name}"] = value, math.exp(value)
        for name, value in interval(nats / math.log(2), size, self.resamples).items():
            metrics[f"bits_per_byte{name}"] = value
        for name, value in interval(*original, self.resamples).items():
            metrics[f"original/loss{name}"], metrics[f"original/perplexity{name}"] = value, math.exp(value)
        metrics["original/tokens"] = original[1].sum()
        arrays = {
            "story/nll": array(self.nll, "story", unit="nats"),
            "story/tokens": array(self.tokens.int(), "story"),
            "story/bytes": array(self.bytes.int(), "story"),
            "story/original_nll": array(self.original_nll, "story", unit="nats"),
            "story/original_tokens": array(self.original_tokens.int(), "story"),
            "position/nll": array(self.position_nll, "position", unit="nats"),
            "position/tokens": array(self.position_tokens.long(), "position"),
        }
        notes = {"interval": f"{CONFIDENCE:.0%} bootstrap over stories, {self.resamples} resamples, percentiles"}
        return Result(metrics, arrays, notes)


def interval(
    numerator: Float[np.ndarray, "story"], denominator: Float[np.ndarray, "story"], resamples: int
) -> dict[str, float]:
    """The ratio of two sums over stories, ``""``, and the ends of its bootstrap interval, ``_low`` and ``_high``."""
    draw, count = np.random.default_rng(SEED), len(numerator)
    ratios = []
    for start in range(0, resamples, AT_ONCE):
        weights: Int[np.ndarray, "resample story"] = draw.multinomial(
            count, np.full(count, 1 / count), size=min(AT_ONCE, resamples - start)
        )
        ratios.append((weights @ numerator) / np.maximum(weights @ denominator, 1))
    low, high = np.quantile(np.concatenate(ratios), ((1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2))
    return {"": float(numerator.sum() / max(denominator.sum(), 1)), "_low": float(low), "_high": float(high)}
