"""Three tasks on real text in a common form (text, question, answer): SST-2, SNLI and SQuAD, or files like theirs."""

import csv
import glob
import gzip
import hashlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import cycle, islice
from pathlib import Path
from typing import Any, Final

import numpy as np
from rich.console import Console
from tokenizers import Tokenizer

from tti.data import sources
from tti.data.cache import EncodedStory, Maker
from tti.data.corpora import PORTION, TRAINING, TextCorpus
from tti.data.tasks import TASKS, encoded, require_weights

Row = Mapping[str, Any]
SENTIMENTS: Final = ("negative", "positive")
VERDICTS: Final = ("entailment", "neutral", "contradiction")
HELD_OUT: Final = {"validation": 0, "test": 1}  # of SHARES; the others are for training
SHARES: Final = 20


@dataclass(frozen=True)
class Item:
    """One item of a task.

    Attributes:
        text, question, answer: the parts, written in this order.
        key: items with the same key are in the same split.
    """

    text: str
    question: str
    answer: str
    key: str


class MultiTask(TextCorpus):
    """Items of three tasks, of which only the answers enter the loss; arrays as in ``tti.data.tasks.GrammarTasks``.

    All splits come from one source per task and are divided by the hash of a key, which keeps related items in one
    split: the sentence (sentiment), the picture's caption (entailment) or the article (question). One twentieth of the
    keys is held out for validation, and one for test.

    Args:
        sources: task -> a file (``.tsv``, ``.jsonl``, SQuAD's ``.json``, any of them ``.gz``; ``.parquet``) or a
            dataset of the Hub as ``name@split``.
        train, validation, test: number of items of each split, divided according to ``weights``. In training, the items
            of a task are repeated if there are fewer than its share; in other splits they are not.
        weights: task -> relative share of the items; 0 for none.
        tokenizer: see :class:`~tti.data.corpora.TextCorpus`.
        longest: tokens of an item; longer ones are left out.
        cache_dir: folder of the caches.

    Raises:
        ValueError: a task is unknown, has no source, or none has any items. When the splits are made: a source cannot
            be read, a task has no items that are short enough, or the tokenizer alters an answer.
    """

    label_values: Mapping[str, Sequence[str]] = {"task": TASKS}

    def __init__(
        self,
        sources: Mapping[str, str],
        train: int,
        validation: int,
        test: int,
        weights: Mapping[str, float],
        tokenizer: str,
        longest: int,
        cache_dir: str,
    ) -> None:
        self.weights = {task: weight for task, weight in require_weights(weights, TASKS).items() if weight}
        if missing := [task for task in self.weights if not sources.get(task)]:
            raise ValueError(f"no source of the task {', '.join(missing)}: give data.corpus.sources.{missing[0]}")
        self.of_task = {task: sources[task] for task in self.weights}
        given = list(self.of_task.values())
        super().__init__(given, given, given, tokenizer, cache_dir)
        self.items = {"train": train, "validation": validation, "test": test}
        self.longest = longest

    def identity(self, split: str) -> dict[str, Any]:
        return {**super().identity(split), "split": split, "longest": self.longest}

    def label(self, split: str) -> str:
        return f"multitask-{split}"

    def make(self, split: str) -> Maker:
        count = self.items[split]
        return Maker(f"tokenizing {split} items", self._loaded_tokenizer, self._encoded_portions(split), count)

    def _texts_identity(self, split: str) -> dict[str, Any]:
        return {"sources": self._fingerprints, "weights": self.weights, "items": self.items[split]}

    @cached_property
    def _fingerprints(self) -> dict[str, str]:
        return {task: fingerprint(task, source) for task, source in self.of_task.items()}

    def _stories(self, split: str) -> Iterator[str]:
        """The texts on which a tokenizer is trained."""
        for task in self.weights:
            for item in self._items(task, split):
                yield f"{item.text}\n{item.question}\nanswer: {item.answer}"

    def _items(self, task: str, split: str) -> Iterator[Item]:
        return (item for item in items_of(task, self.of_task[task]) if split_of(item.key) == split)

    def _share(self, task: str, split: str) -> int:
        return round(self.items[split] * self.weights[task] / sum(self.weights.values()))

    def _encoded_portions(self, split: str) -> Iterator[list[EncodedStory]]:
        for task in self.weights:
            wanted = self._share(task, split)
            kept = list(islice(self._short(task, split), wanted))
            if not kept:
                raise ValueError(
                    f"the task {task} has no {split} item of at most {self.longest} tokens in {self.of_task[task]}: "
                    "give more items, or raise data.corpus.longest"
                )
            if split == TRAINING:
                kept = list(islice(cycle(kept), wanted))
            for start in range(0, len(kept), PORTION):
                yield kept[start : start + PORTION]

    def _short(self, task: str, split: str) -> Iterator[EncodedStory]:
        left_out = 0
        for item in self._items(task, split):
            story = self._as_tokens(item, task)
            left_out += len(story["tokens"]) > self.longest
            if len(story["tokens"]) <= self.longest:
                yield story
        if left_out:
            note = f"note: {task}: {left_out:,} {split} items of more than {self.longest} tokens are left out"
            Console(stderr=True).print(note, markup=False)

    def _as_tokens(self, item: Item, task: str) -> EncodedStory:
        tokenizer = self._loaded_tokenizer
        text, question, answer = (
            tokenizer.encode(part).ids for part in (item.text, f"\n{item.question}\nanswer:", f" {item.answer}")
        )
        require_whole(tokenizer, answer, f" {item.answer}", task)
        mark = len(text) + len(question) - 1
        return encoded(np.array([*text, *question, *answer]), len(text), mark, TASKS.index(task))


def require_whole(tokenizer: Tokenizer, ids: Sequence[int], answer: str, task: str) -> None:
    """Compare an answer with the text that its tokens decode to.

    Raises:
        ValueError: they differ.
    """
    again = tokenizer.decode(list(ids), skip_special_tokens=False)
    if again != answer:
        raise ValueError(
            f"the tokenizer cannot write the answer {answer.strip()!r} of the task {task}: it becomes "
            f"{again.strip()!r}; take gpt2, or train one on these texts with data.corpus.tokenizer=bpe:8192"
        )


def split_of(key: str) -> str:
    """The split that contains the items with this key."""
    share = int.from_bytes(hashlib.sha256(key.encode()).digest()[:4]) % SHARES
    return next((split for split, held in HELD_OUT.items() if share == held), TRAINING)


# -- the tasks --------------------------------------------------------------------------------------------------------


def items_of(task: str, source: str) -> Iterator[Item]:
    """The items of a source in its order, without unlabeled ones.

    Raises:
        ValueError: it cannot be read, or lacks a column.
    """
    read: Callable[[Row], Item | None] = {"sentiment": sentiment, "entailment": entailment, "question": question}[task]
    for number, row in enumerate(rows(task, source), 1):
        try:
            item = read(row)
        except (KeyError, IndexError, TypeError, ValueError) as error:
            raise ValueError(
                f"{source}, row {number:,}, is no item of the task {task} ({type(error).__name__}: {error}); its "
                f"columns are {', '.join(row)}"
            ) from error
        if item:
            yield item


def sentiment(row: Row) -> Item | None:
    """SST-2: ``sentence``, ``label`` (0 negative, 1 positive)."""
    label, sentence = int(row["label"]), row["sentence"].strip()
    return None if label < 0 else Item(sentence, "How does this feel?", SENTIMENTS[label], sentence)


def entailment(row: Row) -> Item | None:
    """SNLI: ``premise``, ``hypothesis``, ``label`` (0, 1, 2); or ``sentence1``, ``sentence2``, ``gold_label``."""
    if "gold_label" in row:
        premise, hypothesis, label = row["sentence1"], row["sentence2"], row["gold_label"]
    else:
        premise, hypothesis = row["premise"], row["hypothesis"]
        label = ("-", *VERDICTS)[int(row["label"]) + 1]
    if label == "-":
        return None
    return Item(premise, hypothesis, VERDICTS[VERDICTS.index(label)], row.get("captionID", premise))


def question(row: Row) -> Item | None:
    """SQuAD 1.1: ``title``, ``context``, ``question``, ``answers`` with a list ``text``; the first is taken."""
    return Item(row["context"], row["question"].strip(), row["answers"]["text"][0].strip(), row["title"])


# -- where they are from ----------------------------------------------------------------------------------------------


def fingerprint(task: str, source: str) -> str:
    """What identifies a source: the content of a file, or a name on the Hub.

    Raises:
        ValueError: there is no such file.
    """
    path = Path(source).expanduser()
    if path.is_file():
        return sources.sha256(path)
    if sources.is_local(source):
        raise ValueError(f"no such file: {path} (from folder {Path.cwd()}), of data.corpus.sources.{task}")
    return source


def rows(task: str, source: str) -> Iterator[Row]:
    """The rows of a file or a dataset of the Hub.

    Raises:
        ValueError: it cannot be read; the message has the way without network.
    """
    path = Path(source).expanduser()
    if not path.is_file():
        yield from _from_hub(task, source)
        return
    name = path.name.removesuffix(".gz")
    if name.endswith(".parquet"):
        import datasets  # seconds

        yield from datasets.load_dataset("parquet", data_files=glob.escape(str(path)), split="train", streaming=True)
        return
    opened = gzip.open if path.suffix == ".gz" else open
    with opened(path, "rt", encoding="utf-8", newline="") as lines:
        if name.endswith(".tsv"):
            yield from csv.DictReader(lines, delimiter="\t", quoting=csv.QUOTE_NONE)
        elif name.endswith(".jsonl"):
            yield from map(json.loads, lines)
        elif name.endswith(".json"):
            yield from _of_articles(json.load(lines)["data"])
        else:
            raise ValueError(
                f"cannot read {path}: its name must end in .tsv, .jsonl, .json (or that and .gz) or .parquet"
            )


def _of_articles(articles: Sequence[Row]) -> Iterator[Row]:
    """SQuAD's own form as rows."""
    for article in articles:
        for paragraph in article["paragraphs"]:
            for asked in paragraph["qas"]:
                answers = {"text": [answer["text"] for answer in asked["answers"]]}
                text = {"title": article["title"], "context": paragraph["context"]}
                yield {**text, "question": asked["question"], "answers": answers}


def _from_hub(task: str, source: str) -> Iterator[Row]:
    import datasets  # seconds

    name, _, split = source.partition("@")
    try:
        found = datasets.load_dataset(name, split=split or "train")
    except Exception as error:  # the Hub's clients raise a dozen unrelated types when it cannot be reached
        raise ValueError(
            f"cannot load {source!r} from the Hugging Face Hub ({type(error).__name__}: {error}).\n"
            f"Without network: set data.corpus.sources.{task} to a local .tsv, .jsonl, .json or .parquet file, or use "
            "the built-in tasks with data=grammar_tasks."
        ) from error
    yield from found
