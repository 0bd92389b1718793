"""What a sentence autoencoder reads and writes, as text."""

from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Int
from sacrebleu.metrics.bleu import BLEU
from tokenizers import Tokenizer
from torch import Tensor

from tti.data.sentences import START
from tti.data.tokenizers import end_of_text
from tti.models.autoencoder import Autoencoder, written
from tti.models.stories import Stories

AT_ONCE = 512  # sentences per forward pass


class Sentences(NamedTuple):
    """Some sentences as a flat batch: tokens, the token that follows each of them, and their layout."""

    tokens: Int[Tensor, "token"]
    targets: Int[Tensor, "token"]
    layout: Stories


class Writing:
    """An autoencoder with its tokenizer.

    Args:
        net: the autoencoder, in evaluation mode.
        words: the tokenizer of its sentences.
        layout: makes the layout of a batch from the lengths.
    """

    def __init__(self, net: Autoencoder, words: Tokenizer, layout: Callable[[Sequence[int]], Stories]) -> None:
        self.net, self.words, self.layout = net, words, layout
        self.start, self.end = words.encode(START).ids[0], end_of_text(words)

    def batches(self, texts: list[str]) -> Iterator[list[str]]:
        """The sentences in portions for one forward pass."""
        return (texts[first : first + AT_ONCE] for first in range(0, len(texts), AT_ONCE))

    def batch(self, texts: list[str]) -> Sentences:
        """Sentences as a batch on the network's device."""
        stories = [each.ids for each in self.words.encode_batch([START + text for text in texts])]
        tokens = torch.tensor([token for story in stories for token in story])
        targets = torch.tensor([token for story in stories for token in [*story[1:], self.end]])
        device = self.net.device
        return Sentences(tokens.to(device), targets.to(device), self.layout([len(s) for s in stories]).to(device))

    def read(self, texts: list[str], code: Float[np.ndarray, "sentence latent"]) -> tuple[float, float]:
        """Cross-entropy in nats per token, and accuracy, of sentences given codes and their preceding tokens."""
        nats = right = count = 0.0
        for number, some in enumerate(self.batches(texts)):
            batch = self.batch(some)
            given = self._latent(code[number * AT_ONCE :][: len(some)])
            hidden = self.net.decoded(given, batch.tokens, batch.layout)
            nats += float(self.net.loss(hidden, batch.targets)[1].double().sum())
            right += float((self.net.logits(hidden).argmax(-1) == batch.targets).sum())
            count += len(batch.targets)
        return nats / count, right / count

    def write(self, code: Float[np.ndarray, "sentence latent"]) -> list[str]:
        """The sentences that the decoder writes from codes, greedily."""
        parts = (code[first : first + AT_ONCE] for first in range(0, len(code), AT_ONCE))
        return [
            self.words.decode(tokens)
            for part in parts
            for tokens in written(self.net, self._latent(part), self.start, self.end)
        ]

    def _latent(self, code: Float[np.ndarray, "sentence latent"]) -> Float[Tensor, "sentence latent"]:
        return torch.from_numpy(code).to(self.net.device, self.net.dtype)


def bleu(said: list[str], texts: list[str]) -> float:
    """Corpus BLEU, 0 to 100 (Papineni et al. 2002; Post 2018: sacrebleu's, on words separated by spaces)."""
    return float(BLEU(tokenize="none").corpus_score(said, [texts]).score)
