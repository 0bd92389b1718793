"""The data module: it streams packed stories as flat batches, for any number of processes and from any position."""

import json
import logging
import signal
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Int
from lightning import LightningDataModule
from tokenizers import Tokenizer
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from tti.data import ngrams, tokenizers
from tti.data.cache import PackedStories
from tti.data.corpora import Corpus, require_same_tokens
from tti.durable import write_atomically
from tti.measures import type_entropy
from tti.models.stories import Stories
from tti.step import Batch

log = logging.getLogger(__name__)
COUNTED = 2**24  # tokens counted at a time


class StoryData(LightningDataModule):
    """Streams a corpus as flat batches of whole stories.

    Training draws stories without replacement, epoch after epoch, in an order that depends on ``seed`` only: the
    stories of optimizer step ``n`` do not depend on the number of processes or accumulated micro-batches. The position
    (optimizer steps taken) is part of the checkpoint.

    Args:
        corpus: the source of the stories.
        stories_per_step: stories per optimizer step, over all processes and accumulated micro-batches.
        max_length: maximum number of tokens per story; longer stories are truncated.
        validation_tokens: approximate number of tokens per validation batch.
        layout: how stories attend to themselves (``tti.models.stories``).
        seed: seed of the order.
        num_workers: loader processes; 0 loads in the training process.
        labels: arrays of the corpus, one entry per token, which batches carry as ``Batch.labels``. For each integer
            array, validation reports the loss by its value.
        scored: the array of the corpus that is nonzero at tokens in the loss (those from which the next token is
            predicted); None for all tokens.
        group: the integer array of the corpus whose value at a story's first token becomes ``Stories.group``, by which
            a router may choose experts; None for no groups.

    Raises:
        ValueError: there are fewer stories than in a step, a step cannot be divided among the processes, the corpus
            lacks an array, or a story has no token in the loss.
    """

    def __init__(
        self,
        corpus: Corpus,
        stories_per_step: int,
        max_length: int,
        validation_tokens: int,
        layout: Callable[[Sequence[int]], Stories],
        seed: int,
        num_workers: int,
        labels: Sequence[str] = (),
        scored: str | None = None,
        group: str | None = None,
    ) -> None:
        super().__init__()
        self.corpus = corpus
        self.stories_per_step = stories_per_step
        self.max_length = max_length
        self.validation_tokens = validation_tokens
        self.layout = layout
        self.seed = seed
        self.num_workers = num_workers
        self.labels = tuple(labels)
        self.scored = scored
        self.group = group
        self.splits: dict[str, PackedStories] = {}
        self._first_step = 0

    def prepare_data(self) -> None:
        """Build the caches, once for all processes of a machine; the training split, the longest, comes last.

        Raises:
            ValueError: a split cannot be read, or splits have different tokenizers. Missing files are found before any
                cache is built.
        """
        for split in self.corpus.splits:
            self.corpus.identity(split)
        for split in reversed(self.corpus.splits):
            self.split(split)
        if len({packed.manifest["tokenizer_sha256"] for packed in self.splits.values()}) > 1:
            folders = ", ".join(str(packed.folder) for packed in self.splits.values())
            raise ValueError(f"the splits were made with different tokenizers; delete {folders}, and start again")

    def split(self, name: str) -> PackedStories:
        """A packed split, opened and checked on first use."""
        if name not in self.splits:
            self.splits[name] = packed = self.corpus.open(name)
            _say_what_is_cut(name, packed.lengths, self.max_length)
        return self.splits[name]

    @property
    def tokenizer(self) -> Tokenizer:
        """The tokenizer of every split."""
        return self.split("train").tokenizer()

    def n_types(self, split: str) -> int:
        """Number of token types that occur in a split."""
        return len(present_types(self.split(split))[0])

    def label_values(self) -> dict[str, tuple[str, ...]]:
        """Names of the values of every integer label, from the corpus or else ``<label>_<value>``."""
        arrays = {name: self.split("train").extra(name) for name in self.labels}
        return {
            name: tuple(self.corpus.label_values.get(name) or (f"{name}_{i}" for i in range(int(array.max()) + 1)))
            for name, array in arrays.items()
            if array.ndim == 1 and array.dtype.kind in "biu"
        }

    def require_groups(self, known: int) -> None:
        """Compare the groups of the stories with the number that a network tells apart; 0 if it needs none.

        Raises:
            ValueError: there are more.
        """
        if not known or self.group is None:
            return
        for name in self.digests:
            packed = self.split(name)
            most = int(packed.extra(self.group)[packed.offsets[:-1]].max())
            if most >= known:
                raise ValueError(
                    f"data.group={self.group} has values up to {most} in {name}, but the router has experts for 0 to "
                    f"{known - 1}: model.mlp.router.groups={most + 1}"
                )

    def unigram_entropy(self, split: str) -> float:
        """Entropy in nats of a split's tokens, without each story's first: the loss of an ideal unigram model."""
        packed = self.split(split)
        counts = np.bincount(np.delete(packed.tokens, packed.offsets[:-1])).astype(float)
        entropy, _ = type_entropy(torch.from_numpy(counts)[:, None])
        return float(entropy)

    def ngram_losses(self, split: str, steps: int) -> dict[str, list[float]]:
        """Losses of n-gram models (``tti.data.ngrams``) by order, in nats per token, on the model's own predictions.

        Args:
            split: the split to predict.
            steps: number of training steps.

        Returns:
            ``seen``: estimated from the stories of these steps, each once, up to ``ngrams.MOST`` tokens; ``split``:
            estimated from all of ``train`` and stored in its cache, omitted if that is more than ``ngrams.MOST``.
        """
        train, held_out = self.split("train"), self.split(split)
        asked, counted = self._documents(held_out, np.arange(len(held_out)))
        vocabulary = train.manifest["vocab_size"]
        order = TrainingOrder(train.lengths, self.stories_per_step, steps, self.seed)
        drawn = np.concatenate([order.step(step) for step in range(steps)])
        seen = drawn[np.sort(np.unique(drawn, return_index=True)[1])]
        seen = seen[: np.searchsorted(np.cumsum(train.lengths[seen]), ngrams.MOST) + 1]
        found = {"seen": ngrams.losses(self._documents(train, seen)[0], asked, vocabulary, counted=counted)}
        if len(train.tokens) > ngrams.MOST:
            return found
        what = "-".join(filter(None, (held_out.folder.name, str(self.max_length), self.scored)))
        kept = train.folder / f"ngrams-{what}.json"
        if not kept.exists():
            whole = self._documents(train, np.arange(len(train)))[0]
            write_atomically(kept, json.dumps(ngrams.losses(whole, asked, vocabulary, counted=counted)))
        return found | {"split": json.loads(kept.read_text())}

    def _documents(
        self, packed: PackedStories, stories: Int[np.ndarray, "chosen"]
    ) -> tuple[ngrams.Documents, Bool[np.ndarray, "prediction"] | None]:
        """Stories as n-gram models see them, and the predictions in the loss (None for all).

        If only some tokens are in the loss, a story begins at the first token that an n-gram model of the highest order
        needs for them.
        """
        whole = ngrams.Documents(packed.tokens, packed.offsets).take(stories, self.max_length)
        if self.scored is None:
            return whole, None
        rows = ngrams.Documents(packed.extra(self.scored) != 0, packed.offsets).take(stories, self.max_length)
        starts, places = rows.offsets[:-1], np.flatnonzero(rows.tokens)
        begin = (places[np.searchsorted(places, starts)] - starts - ngrams.ORDERS).clip(0)
        whole, rows = whole.beginning(begin), rows.beginning(begin)
        return whole, np.delete(np.roll(rows.tokens, 1), rows.offsets[:-1])  # a row predicts the next token

    def train_dataloader(self) -> DataLoader[Batch]:
        trainer = self.trainer
        assert trainer is not None
        require_divisible(self.stories_per_step, trainer.world_size, trainer.accumulate_grad_batches)
        stories = self._batches("train")
        order = TrainingOrder(
            stories.rows,
            self.stories_per_step,
            trainer.max_steps,
            self.seed,
            self._first_step,
            trainer.accumulate_grad_batches,
            trainer.world_size,
            trainer.global_rank,
        )
        return self._loader(stories, order)

    def val_dataloader(self) -> DataLoader[Batch]:
        return self.evaluation_dataloader("validation")

    def test_dataloader(self) -> DataLoader[Batch]:
        return self.evaluation_dataloader("test")

    def evaluation_dataloader(self, split: str) -> DataLoader[Batch]:
        """Every story of a split once, sorted by length, divided among the processes of a trainer, if any."""
        stories = self.evaluation_stories(split)
        world, rank = (self.trainer.world_size, self.trainer.global_rank) if self.trainer else (1, 0)
        return self._loader(stories, EvaluationOrder(stories.lengths, self.validation_tokens, world, rank))

    def evaluation_stories(self, split: str) -> "StoryBatches":
        """The stories of a split, with token types numbered over all of it (``StoryBatches.present``)."""
        packed = self.split(split)
        return self._batches(split, *present_types(packed))

    def _batches(
        self,
        split: str,
        present: Int[np.ndarray, "type"] | None = None,
        places: Int[np.ndarray, "vocab"] | None = None,
    ) -> "StoryBatches":
        packed = self.split(split)
        return StoryBatches(packed, self.max_length, self.layout, places, present, self.labels, self.scored, self.group)

    @property
    def digests(self) -> dict[str, str]:
        """SHA-256 of the tokens of the training and validation splits."""
        return {name: self.split(name).manifest["arrays"]["tokens"]["sha256"] for name in ("train", "validation")}

    @property
    def caches(self) -> dict[str, str]:
        """Names of the caches of these splits; a name stands for everything the tokens depend on."""
        return {name: self.split(name).folder.name for name in self.digests}

    def state_dict(self) -> dict[str, Any]:
        """The position in the data: optimizer steps taken. The order follows from the run's configuration."""
        assert self.trainer is not None
        return {"step": self.trainer.global_step, "tokens": self.digests}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Continue from the checkpoint's position."""
        self._first_step = state_dict["step"]

    def require_same_tokens(self, state_dict: dict[str, Any]) -> None:
        """Compare the tokens with those in a checkpoint's state, before its weights meet a different vocabulary.

        Raises:
            ValueError: the checkpoint was trained on different tokens.
        """
        require_same_tokens(state_dict.get("tokens", {}), self.digests)  # checkpoints up to 0.1 do not record them

    def _loader(self, stories: "StoryBatches", order: Sampler["Portion"]) -> DataLoader[Batch]:
        return DataLoader(
            stories,
            batch_size=None,
            sampler=order,
            num_workers=self.num_workers,
            persistent_workers=self.num_workers > 0,
            pin_memory=torch.cuda.is_available(),
            # A separate generator: creating a loader must not draw from the generator that dropout uses.
            generator=torch.Generator(),
            worker_init_fn=_ignore_interruptions,
        )


def require_divisible(stories_per_step: int, processes: int, accumulated: int) -> None:
    """Check that the stories of a step can be divided evenly.

    Raises:
        ValueError: they cannot.
    """
    if stories_per_step % (processes * accumulated):
        raise ValueError(
            f"data.stories_per_step={stories_per_step} cannot be divided among {processes} processes of {accumulated} "
            "accumulated micro-batches"
        )


@dataclass(frozen=True)
class Portion:
    """The stories of a micro-batch, and its ``Batch.share``."""

    stories: Int[np.ndarray, "story"]
    share: float


class TrainingOrder(Sampler[Portion]):
    """The micro-batches of one process, a pure function of the seed and the position.

    Args:
        lengths: tokens in the loss of each story, which determine a micro-batch's share.
        stories_per_step: stories per optimizer step.
        steps: optimizer steps of the whole training.
        seed: seed of the order.
        first_step: optimizer steps already taken.
        accumulated: micro-batches per step in one process.
        world_size: number of processes.
        rank: number of this process.
    """

    def __init__(
        self,
        lengths: Int[np.ndarray, "story"],
        stories_per_step: int,
        steps: int,
        seed: int,
        first_step: int = 0,
        accumulated: int = 1,
        world_size: int = 1,
        rank: int = 0,
    ) -> None:
        if stories_per_step > len(lengths):
            raise ValueError(
                f"data.stories_per_step={stories_per_step}, but the training split has {len(lengths)} stories"
            )
        self.lengths, self.stories_per_step, self.steps, self.seed = lengths, stories_per_step, steps, seed
        self.first_step, self.accumulated, self.world_size, self.rank = first_step, accumulated, world_size, rank

    def __len__(self) -> int:
        """Micro-batches of the whole training, including those before ``first_step``, as Lightning counts them."""
        return self.steps * self.accumulated

    def __iter__(self) -> Iterator[Portion]:
        micro_batches = self.accumulated * self.world_size
        for step in range(self.first_step, self.steps):
            stories = self.step(step)
            average = self.lengths[stories].sum() / micro_batches
            for i in range(self.accumulated):
                mine = stories[i * self.world_size + self.rank :: micro_batches]
                yield Portion(mine, float(self.lengths[mine].sum() / average))

    def step(self, step: int) -> Int[np.ndarray, "story"]:
        """The stories of an optimizer step; a step that crosses the end of an epoch continues in the next."""
        count, wanted = len(self.lengths), np.arange(step * self.stories_per_step, (step + 1) * self.stories_per_step)
        epochs, places = np.divmod(wanted, count)
        return np.array([self._order(int(epoch))[place] for epoch, place in zip(epochs, places, strict=True)])

    def _order(self, epoch: int) -> Int[np.ndarray, "story"]:
        if getattr(self, "_epoch", None) != epoch:
            self._epoch = epoch
            self._permutation = np.random.default_rng((self.seed, epoch)).permutation(len(self.lengths))
        return self._permutation


class EvaluationOrder(Sampler[Portion]):
    """Every story once, in portions of similar length and about ``tokens`` tokens, every ``world_size``-th of them."""

    def __init__(self, lengths: Int[np.ndarray, "story"], tokens: int, world_size: int = 1, rank: int = 0) -> None:
        tokens = max(1, min(tokens, int(lengths.sum()) // world_size))  # at least one portion for every process
        order = np.argsort(lengths, kind="stable")
        ends = np.flatnonzero(np.diff(np.cumsum(lengths[order]) // tokens)) + 1
        self.portions = [Portion(part, 1.0) for part in np.split(order, ends)][rank::world_size]

    def __len__(self) -> int:
        return len(self.portions)

    def __iter__(self) -> Iterator[Portion]:
        return iter(self.portions)


def _say_what_is_cut(split: str, lengths: Int[np.ndarray, "story"], max_length: int) -> None:
    rest = (lengths - max_length).clip(min=0)
    if longer := np.count_nonzero(rest):
        log.info(
            f"{split}: {longer:,} of {len(lengths):,} stories are longer than data.max_length={max_length} and are cut "
            f"there; {rest.sum() / lengths.sum():.1%} of the tokens are not used"
        )


def _ignore_interruptions(worker: int) -> None:
    """Ignore Ctrl-C, which reaches every process: training finishes its step first, then stops the loaders."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def present_types(packed: PackedStories) -> tuple[Int[np.ndarray, "type"], Int[np.ndarray, "vocab"]]:
    """The token types of a split, and for every vocabulary id its index among them."""
    vocab, size = packed.manifest["vocab_size"], len(packed.tokens)
    # In chunks: counting converts to int64, which would take gigabytes for a whole training split.
    counts = sum(
        (np.bincount(packed.tokens[first : first + COUNTED], minlength=vocab) for first in range(0, size, COUNTED)),
        np.zeros(vocab, np.int64),
    )
    present = np.flatnonzero(counts)
    rows = np.zeros(len(counts), np.int64)
    rows[present] = np.arange(len(present))
    return present, rows


class StoryBatches(Dataset[Batch]):
    """Makes a ``Batch`` from a ``Portion``.

    Args:
        packed: the stories.
        max_length: maximum number of tokens per story.
        layout: how stories attend to themselves.
        places: each vocabulary id's index in ``present``; None numbers the ids of each batch.
        present: vocabulary ids, in the order of ``Batch.types``.
        labels: the packed arrays that batches carry.
        scored: the packed array that is nonzero at tokens in the loss; None for all tokens.
        group: the packed array whose value at a story's first token is the story's group; None for no groups.

    Raises:
        ValueError: an array is missing, or ``max_length`` cuts tokens in the loss.
    """

    def __init__(
        self,
        packed: PackedStories,
        max_length: int,
        layout: Callable[[Sequence[int]], Stories],
        places: Int[np.ndarray, "vocab"] | None = None,
        present: Int[np.ndarray, "type"] | None = None,
        labels: Sequence[str] = (),
        scored: str | None = None,
        group: str | None = None,
    ) -> None:
        self.packed, self.layout, self.places = packed, layout, places
        self.present = np.arange(0) if present is None else present
        self.lengths = np.minimum(packed.lengths, max_length)  # tokens of each story
        self.token_bytes = tokenizers.token_bytes(packed.tokenizer())
        self.labels = {name: packed.extra(name) for name in labels}
        self.scored = None if scored is None else packed.extra(scored)
        self.rows = (
            self.lengths if self.scored is None else self._counted(self.scored)
        )  # tokens in the loss of each story
        self.group = None if group is None else packed.extra(group)[packed.offsets[:-1]]

    def _counted(self, scored: Int[np.ndarray, "token"]) -> Int[np.ndarray, "story"]:
        starts = self.packed.offsets[:-1]
        spans = np.stack([starts, starts + self.lengths], 1).ravel()  # each ends before its end-of-text token
        rows: Int[np.ndarray, "story"] = np.add.reduceat(scored != 0, spans, dtype=np.int64)[::2]
        if missing := np.count_nonzero(rows == 0):
            raise ValueError(
                f"{missing:,} of {len(rows):,} stories in {self.packed.folder} have no token in the loss (data.scored) "
                f"among their first {self.lengths.max()}: leave them out of the corpus, or raise data.max_length"
            )
        every = np.add.reduceat(scored != 0, starts, dtype=np.int64)  # none is at an end-of-text token
        if cut := np.count_nonzero(rows < every):
            raise ValueError(
                f"{cut:,} of {len(rows):,} stories in {self.packed.folder} have tokens in the loss (data.scored), such "
                f"as answers, beyond their first {self.lengths.max()}: leave them out of the corpus, or raise "
                "data.max_length"
            )
        return rows

    def __getitem__(self, portion: Portion) -> Batch:
        starts, lengths = self.packed.offsets[portion.stories], self.lengths[portion.stories]
        spans = [slice(start, start + length + 1) for start, length in zip(starts, lengths, strict=True)]
        stories = [self.packed.tokens[span] for span in spans]
        tokens = np.concatenate([story[:-1] for story in stories]).astype(np.int64)
        targets = np.concatenate([story[1:] for story in stories]).astype(np.int64)
        scored = None if self.scored is None else np.flatnonzero(_along(self.scored, spans))
        rows = slice(None) if scored is None else scored
        read, targets = tokens[rows], targets[rows]
        if self.places is None:
            present, types = np.unique(read, return_inverse=True)
            n_types = len(present)
        else:
            types, n_types = self.places[read], len(self.present)
        return Batch(
            tokens=torch.from_numpy(tokens),
            targets=torch.from_numpy(targets),
            stories=self._laid_out(portion, lengths),
            types=torch.from_numpy(types),
            n_types=n_types,
            target_bytes=int(self.token_bytes[targets].sum()),
            share=portion.share,
            scored=None if scored is None else torch.from_numpy(scored),
            labels={name: _label(_along(array, spans)[rows]) for name, array in self.labels.items()},
        )

    def _laid_out(self, portion: Portion, lengths: Int[np.ndarray, "story"]) -> Stories:
        group = None if self.group is None else _label(self.group[portion.stories])
        return replace(self.layout(lengths.tolist()), group=group)


def _along(array: np.ndarray, spans: Sequence[slice]) -> np.ndarray:
    """A per-token array at the input tokens of stories, whose spans are one token longer."""
    return np.concatenate([array[span][:-1] for span in spans])


def _label(values: np.ndarray) -> Tensor:
    return torch.from_numpy(values.astype(np.int64 if values.dtype.kind in "biu" else np.float32))
