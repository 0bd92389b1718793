"""The stories of a split for evaluation: every token once, in an order that depends on the data alone."""

from collections.abc import Callable, Iterator, Sequence
from copy import copy
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Int
from tokenizers import Tokenizer
from torch import Tensor

from tti.data import tokenizers
from tti.data.module import EvaluationOrder, Portion, StoryData
from tti.data.truth import Truth
from tti.models.stories import Stories
from tti.step import Batch

TRAINING = "train"
SEED = 0  # of every random draw: the same tokens for every run on the same data


@dataclass(frozen=True)
class Chunk:
    """Some whole stories of a split.

    Attributes:
        batch: their tokens; types are numbered over the whole split.
        places: position of each token in the packed split.
        stories: indices of these stories in the split.
        first: number of tokens in the loss that came before in the pass.
    """

    batch: Batch
    places: Int[Tensor, "token"]
    stories: Int[Tensor, "story"]
    first: int

    def to(self, device: torch.device) -> "Chunk":
        """The same chunk on ``device``."""
        return replace(
            self, batch=self.batch.to(device), places=self.places.to(device), stories=self.stories.to(device)
        )

    @cached_property
    def story(self) -> Int[Tensor, "token"]:
        """For each token, the index of its story in the chunk."""
        lengths = torch.tensor(self.batch.stories.lengths, device=self.places.device)
        return torch.repeat_interleave(lengths)


class StorySet:
    """A split of a run's data.

    Args:
        data: the run's data module.
        split: name of the split.
        tokens: approximate tokens per chunk.
    """

    def __init__(self, data: StoryData, split: str, tokens: int) -> None:
        self._data, self.packed = data, data.split(split)
        self.split, self.tokens_per_chunk, self.max_length = split, tokens, data.max_length
        self.layout: Callable[[Sequence[int]], Stories] = data.layout
        self._stories = data.evaluation_stories(split)
        self.members: Int[np.ndarray, "story"] = np.arange(len(self.packed))

    @property
    def scored(self) -> np.ndarray | None:
        """The packed array that is nonzero at tokens in the loss; None if all are."""
        return self._stories.scored

    @property
    def group(self) -> Int[np.ndarray, "story"] | None:
        """The group of each story of the packed split (``Stories.group``); None without groups."""
        return self._stories.group

    @property
    def truth(self) -> Truth | None:
        """The known factors of the tokens; None if there are none."""
        return self._data.corpus.truth

    @cached_property
    def label_values(self) -> dict[str, tuple[str, ...]]:
        """Names of the values of each integer label that batches carry (``data.labels``)."""
        return self._data.label_values()

    @property
    def lengths(self) -> Int[np.ndarray, "story"]:
        """Number of tokens of each story, whether in the loss or not."""
        return self._stories.lengths[self.members]

    def token_places(self) -> Int[np.ndarray, "row"]:
        """Positions in the packed split of the tokens in the loss, ascending."""
        members = np.sort(self.members)
        starts, lengths = self.packed.offsets[members], self._stories.lengths[members]
        places = np.concatenate([np.arange(start, start + n) for start, n in zip(starts, lengths, strict=True)])
        return places if self._stories.scored is None else places[self._stories.scored[places] != 0]

    def subset(self, tokens: int) -> "StorySet":
        """A random subset of whole stories with about ``tokens`` tokens; all stories if there are fewer."""
        part = copy(self)
        part.members = self._drawn(tokens)
        return part

    def require(self, tokenizer: Tokenizer, tokens: str | None, folder: Path) -> None:
        """Compare the data with those that the run in ``folder`` was trained with.

        Args:
            tokenizer: the run's tokenizer.
            tokens: the digest of the run's tokens of this split; None if it is unknown, or if other data are wanted.
            folder: the run's folder.

        Raises:
            ValueError: tokenizer or tokens differ; of a built-in corpus, this version generates another.
        """
        manifest = self.packed.manifest
        other_words = manifest["tokenizer_sha256"] != tokenizers.fingerprint(tokenizer)
        other_tokens = tokens not in (None, manifest["arrays"]["tokens"]["sha256"])
        edition = manifest["identity"].get("edition")
        if edition and (other_words or other_tokens):
            raise ValueError(
                f"{folder} was trained on another text than this version of the built-in corpus (edition {edition}) "
                "generates: train it again, or evaluate it with the version that trained it"
            )
        if other_words:
            raise ValueError(
                f"the data of {folder} now have another tokenizer than the run; name those that it was trained on: "
                "+data.corpus.tokenizer=..., +data.corpus.train=..."
            )
        if other_tokens:
            raise ValueError(
                f"the tokens of {self.split} are not those that {folder} was trained with: its file has changed. "
                "Restore the earlier one, or choose other data: +data.corpus.validation=FILE"
            )

    def training(self) -> "StorySet":
        """The training split of the same data, for parts that fit something to activations first."""
        return StorySet(self._data, TRAINING, self.tokens_per_chunk)

    @property
    def tokens(self) -> int:
        """Number of tokens in the loss."""
        return int(self._stories.rows[self.members].sum())

    @property
    def types(self) -> Int[np.ndarray, "type"]:
        """Ids of the token types that occur in the split, in the order of ``Batch.types``."""
        return self._stories.present

    @cached_property
    def type_counts(self) -> Int[Tensor, "type"]:
        """Occurrences of each of ``types`` in the packed split, including end-of-text tokens and truncated tokens."""
        return torch.from_numpy(np.bincount(self.packed.tokens)[self.types])

    @cached_property
    def vocabulary(self) -> Int[np.ndarray, "id"]:
        """The ids that stand for a token, ascending; a network may have more rows."""
        return np.array(sorted(self.packed.tokenizer().get_vocab(with_added_tokens=True).values()))

    @cached_property
    def token_bytes(self) -> Int[np.ndarray, "vocab"]:
        """UTF-8 bytes of each token."""
        return tokenizers.token_bytes(self.packed.tokenizer())

    def __iter__(self) -> Iterator[Chunk]:
        """Every story once, shortest first."""
        first = 0
        for portion in EvaluationOrder(self.lengths, self.tokens_per_chunk):
            chunk = self._chunk(self.members[portion.stories], first)
            first += len(chunk.batch)
            yield chunk

    def __len__(self) -> int:
        """Number of chunks in a pass."""
        return len(EvaluationOrder(self.lengths, self.tokens_per_chunk))

    def drawn(self, tokens: int) -> Chunk:
        """Random whole stories with about ``tokens`` tokens; all stories if there are fewer."""
        return self._chunk(self._drawn(tokens), 0)

    def sample(self, tokens: int) -> Int[np.ndarray, "token"]:
        """Random token numbers of the pass without replacement, ascending; all tokens if there are fewer."""
        if tokens >= self.tokens:
            return np.arange(self.tokens)
        return np.sort(np.random.default_rng(SEED).choice(self.tokens, tokens, replace=False))

    def _drawn(self, tokens: int) -> Int[np.ndarray, "story"]:
        order = np.random.default_rng(SEED).permutation(self.members)
        count = int(np.searchsorted(np.cumsum(self._stories.lengths[order]), tokens)) + 1
        return np.sort(order[:count])

    def _chunk(self, stories: Int[np.ndarray, "story"], first: int) -> Chunk:
        starts, lengths = self.packed.offsets[stories], self._stories.lengths[stories]
        places = np.concatenate([np.arange(start, start + n) for start, n in zip(starts, lengths, strict=True)])
        return Chunk(
            self._stories[Portion(stories, 1.0)], torch.from_numpy(places), torch.from_numpy(stories.copy()), first
        )
