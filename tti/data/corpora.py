"""Corpora: they turn a split into encoded stories, and say what identifies it."""

import hashlib
import json
import re
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from filelock import FileLock
from rich.console import Console
from tokenizers import Tokenizer

from tti.data import sources, tokenizers
from tti.data.cache import FORMAT, EncodedStory, Maker, PackedStories, cached, tokens_digest
from tti.data.grammar import EDITION, StoryGrammar
from tti.data.sources import Source
from tti.data.truth import Truth
from tti.durable import write_atomically

TRAINING = "train"
PORTION = 1000  # stories encoded at a time: enough to keep every core busy, few enough to fit in memory


class Corpus(ABC):
    """Named splits of stories under one tokenizer, each packed once into ``cache_dir``."""

    def __init__(self, cache_dir: str) -> None:
        self.cache_dir = Path(cache_dir).expanduser()

    @property
    def label_values(self) -> Mapping[str, Sequence[str]]:
        """Names of the values 0, 1, … of its integer arrays, for arrays that have names."""
        return {}

    @property
    def truth(self) -> Truth | None:
        """The known factors of its tokens; None if it has none."""
        return None

    @property
    @abstractmethod
    def splits(self) -> tuple[str, ...]:
        """The available splits, at least ``train`` and ``validation``."""

    @abstractmethod
    def identity(self, split: str) -> dict[str, Any]:
        """Everything that the split's tokens depend on, cheap to compute; JSON values only."""

    @abstractmethod
    def label(self, split: str) -> str:
        """A readable name for messages and the cache folder."""

    @abstractmethod
    def make(self, split: str) -> Maker:
        """How to encode the split; called only if it is not cached."""

    def open(self, split: str) -> PackedStories:
        """The packed split, created first if necessary.

        Raises:
            ValueError: the corpus has no such split or cannot be read, or its cache is damaged.
        """
        if split not in self.splits:
            raise ValueError(f"this corpus has no split {split!r}; it has {', '.join(self.splits)}")
        return cached(self.folder(split), self.identity(split), lambda: self.make(split))

    def digest(self, split: str) -> str:
        """SHA-256 of the tokens of a split, built first if necessary; of an existing cache only the manifest is read.

        Raises:
            ValueError: as for :meth:`open`.
        """
        return tokens_digest(self.folder(split)) or self.open(split).manifest["arrays"]["tokens"]["sha256"]

    def folder(self, split: str) -> Path:
        """Folder of the packed split, existing or not. Its name stands for everything that the tokens depend on."""
        return self.cache_dir / f"{_slug(self.label(split))}-{_digest({'format': FORMAT, **self.identity(split)})}"


class TextCorpus(Corpus):
    """Texts from files or the Hub (``tti.data.sources``), with a tokenizer.

    Args:
        train, validation, test: for each split, a file, folder, glob or Hub dataset, or a list of them.
        tokenizer: a folder, a ``tokenizer.json``, a name on the Hub, or ``bpe:SIZE``, which trains a byte-level BPE on
            the ``train`` split, once.
        cache_dir: folder of the caches.
        column: column of the texts in ``.parquet`` and ``.jsonl`` files and on the Hub.
    """

    def __init__(
        self,
        train: Source,
        validation: Source,
        test: Source | None,
        tokenizer: str,
        cache_dir: str,
        column: str = "text",
    ) -> None:
        super().__init__(cache_dir)
        given = {"train": train, "validation": validation, "test": test}
        self.sources = {split: source for split, source in given.items() if source is not None}
        self.tokenizer, self.column = tokenizer, column

    @property
    def splits(self) -> tuple[str, ...]:
        return tuple(self.sources)

    def identity(self, split: str) -> dict[str, Any]:
        return {"texts": self._texts_identity(split), "tokenizer": self._tokenizer_identity}

    def label(self, split: str) -> str:
        source = sources.title(self.sources[split]).partition(".")[0]
        return f"{source}-{Path(self.tokenizer).name}"

    def make(self, split: str) -> Maker:
        source = self.sources[split]
        title = f"tokenizing {sources.title(source)}"
        return Maker(title, self._loaded_tokenizer, self._portions(split), sources.count(source))

    def _stories(self, split: str) -> Iterator[str]:
        return sources.stories(self.sources[split], self.column)

    def _portions(self, split: str) -> Iterator[list[EncodedStory]]:
        stories, tokenizer = self._stories(split), self._loaded_tokenizer
        first = True
        while portion := list(islice(stories, PORTION)):
            encoded = [story.ids for story in tokenizer.encode_batch_fast(portion)]  # in parallel, in Rust
            if first and (example := tokenizers.altered(tokenizer, portion, encoded)):
                Console(stderr=True).print(
                    f"note: the tokenizer {self.tokenizer} alters texts: {example}", markup=False
                )
            first = False
            yield [{"tokens": np.array(ids)} for ids in encoded]

    def _texts_identity(self, split: str) -> dict[str, Any]:
        return {"files": sources.fingerprint(self.sources[split]), "column": self.column}

    @cached_property
    def _tokenizer_identity(self) -> dict[str, Any]:
        if self.tokenizer.startswith(tokenizers.BPE):
            return {"trained": self.tokenizer, "on": self._texts_identity("train")}
        path = Path(self.tokenizer).expanduser()
        if path.is_file():
            return {"file": sources.sha256(path)}
        if path.is_dir():
            return {"folder": {file.name: sources.sha256(file) for file in sorted(_tokenizer_files(path))}}
        return {"name": self.tokenizer}

    @cached_property
    def _loaded_tokenizer(self) -> Tokenizer:
        if not self.tokenizer.startswith(tokenizers.BPE):
            return tokenizers.load(self.tokenizer)
        name = f"{_slug(self.tokenizer)}-{_digest(self._tokenizer_identity)}.json"
        path = self.cache_dir / name
        path.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(path.with_suffix(".lock")):
            if not path.exists():
                source = sources.title(self.sources["train"])
                Console(stderr=True).print(f"training the tokenizer {self.tokenizer} on {source}", markup=False)
                trained = tokenizers.train_bpe(self.tokenizer, self._stories("train"))
                write_atomically(path, trained.to_str())
        return tokenizers.read(path)


OTHERWISE = "train on this one under another name (name=...)"


def require_same_tokens(
    began: Mapping[str, str], now: Mapping[str, str], whose: str = "this run", otherwise: str = OTHERWISE
) -> None:
    """Compare the digests of the tokens that a run was trained on with the present ones.

    Args:
        began: digest by split, as far as the run recorded them.
        now: digest by split.
        whose: the run, for the message.
        otherwise: the alternative to restoring the earlier data, for the message.

    Raises:
        ValueError: they differ.
    """
    if changed := [name for name in now if began.get(name, now[name]) != now[name]]:
        raise ValueError(
            f"the tokens of {' and '.join(changed)} are not those that {whose} was trained with: a file of data.corpus "
            f"or its tokenizer has changed. Restore the earlier one, or {otherwise}"
        )


def _tokenizer_files(folder: Path) -> Iterator[Path]:
    """Files that transformers may read from a tokenizer's folder; never any weights next to them."""
    return (path for path in folder.iterdir() if path.is_file() and path.suffix in {".json", ".txt", ".bpe", ".model"})


class GrammarCorpus(Corpus):
    """Stories from the built-in grammar (``tti.data.grammar``), with the known ``factors`` of every token.

    Some pairs of hero and place occur in validation and test only.

    Args:
        train, validation, test: number of stories of each split; None for no test split.
        seed: seed of the stories; every split has its own stream.
        cache_dir: folder of the caches.
    """

    things = "stories"
    """What it consists of, for progress."""

    def __init__(self, train: int, validation: int, test: int | None, seed: int, cache_dir: str) -> None:
        super().__init__(cache_dir)
        sizes = {"train": train, "validation": validation, "test": test}
        self.stories = {split: size for split, size in sizes.items() if size is not None}
        self.seed = seed
        self.grammar = StoryGrammar()

    @property
    def truth(self) -> Truth | None:
        return self.grammar

    @property
    def splits(self) -> tuple[str, ...]:
        return tuple(self.stories)

    def identity(self, split: str) -> dict[str, Any]:
        # The first stories stand for the rules: another grammar generates different ones, or labels them differently.
        stories = [self.grammar.story(index, self.seed) for index in range(20)]
        sample = b"".join(story.tokens.tobytes() + story.factors.tobytes() for story in stories)
        return {
            "edition": EDITION,
            "grammar": tokenizers.fingerprint(self.grammar.tokenizer()),
            "factors": _digest(self.grammar.factors),
            "sample": hashlib.sha256(sample).hexdigest(),
            "split": split,
            "stories": self.stories[split],
            "seed": self.seed,
        }

    def label(self, split: str) -> str:
        return f"grammar-{split}"

    def make(self, split: str) -> Maker:
        title = f"writing {split} {self.things}"
        return Maker(title, self.grammar.tokenizer(), self._portions(split), self.stories[split])

    def _portions(self, split: str) -> Iterator[list[EncodedStory]]:
        seed = self.seed * len(self.stories) + list(self.stories).index(split)
        for start in range(0, self.stories[split], PORTION):
            indices = range(start, min(start + PORTION, self.stories[split]))
            yield [self._encoded(index, seed, split == TRAINING) for index in indices]

    def _encoded(self, index: int, seed: int, training: bool) -> EncodedStory:
        return vars(self.grammar.story(index, seed, training=training))


def _slug(text: str) -> str:
    return re.sub(r"[^A-Za-z0-9]+", "-", text).strip("-")


def _digest(identity: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()[:12]
