"""Answers: what the network writes after a prompt, by task, compared with baselines that ignore the prompt."""

import re
import string
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Int

from tti.data import tokenizers
from tti.evaluation.base import Part, Subject
from tti.evaluation.stories import SEED, StorySet
from tti.evaluation_folder import Array, Result
from tti.models.generation import greedy

ARTICLES = re.compile(r"\b(a|an|the)\b")
ALL = "all"
QUESTION = "question"  # array of a corpus that is nonzero at the tokens of the question


class Answers(Part):
    """Greedy decoding of the answer after each prompt (``tti.models.generation.greedy``), for data with answers.

    The prompt of a story ends with the first token in the loss; the rest is the answer. Scores per task (the values of
    the first label): ``exact_match`` and ``f1`` of the texts, as in SQuAD's evaluation (Rajpurkar et al. 2016, section
    6.1: in lower case, without punctuation and articles; F1 of bags of words), and ``accuracy``, the fraction of
    answers with exactly the right tokens. ``…/mean`` is the mean over tasks.

    Baselines with the same scores: ``majority_…`` is the most frequent answer of the task in training; ``promptless_…``
    the answer of the same network after only the last token of the prompt; ``question_…`` its answer after only the
    question, if the corpus marks it (array ``question``). The network was not trained on the last two inputs, so they
    show which answers it prefers, not what can be learned without the passage.

    How it can be gamed: an answer that follows from the question alone, or the most frequent answer, needs no passage:
    compare with the baselines. Decoding does not know the set of answers, so a model that knows the answer but writes
    another word for it scores 0.

    Args:
        items: number of items of the split, drawn at random; all if there are fewer.
        limit: maximum number of tokens per answer; None: one more than the longest answer has, so that a longer one is
            known to be wrong.
        at_once: prompts decoded together.
    """

    streams = False

    def __init__(self, items: int, limit: int | None, at_once: int) -> None:
        super().__init__()
        self.items, self.limit, self.at_once = items, limit, at_once

    def inapplicable(self, subject: Subject) -> str:
        return "" if subject.stories.scored is not None else "its texts have no answers (data.scored)"

    def attach(self, subject: Subject) -> None:
        self.subject = subject

    def compute(self) -> Result:
        stories = self.subject.stories
        tokenizer = stories.packed.tokenizer()
        asked = asked_of(stories, drawn(stories, self.items))
        self._set_limit(max(len(item.answer) for item in asked))
        metrics: dict[str, float] = {}
        said = {"": self._decoded(asked, [item.prompt for item in asked])}
        said["promptless_"] = self._decoded(asked, [item.prompt[-1:] for item in asked])
        if QUESTION in stories.packed.manifest["arrays"]:
            said["question_"] = self._decoded(asked, [item.question for item in asked])
        common = most_frequent(stories.training())
        said["majority_"] = [common.get(item.task, []) for item in asked]
        right = np.zeros(len(asked))
        for prefix, answers in said.items():
            pairs = zip(answers, asked, strict=True)
            scores = [scored(answer, item.answer, tokenizer.decode) for answer, item in pairs]
            metrics |= by_task(prefix, scores, asked)
            right = right if prefix else np.array([score["accuracy"] for score in scores])
        for task, count in Counter(item.task for item in asked).items():
            metrics[f"items/{task}"] = float(count)
        arrays = {
            "item/story": Array(np.array([item.story for item in asked]), ("item",)),
            "item/accuracy": Array(right.astype(np.float32), ("item",)),
        }
        return Result(metrics, arrays, {"decoding": f"greedy, {self.at_most} tokens at most"})

    def _set_limit(self, longest: int) -> None:
        if self.limit is not None and self.limit < longest:
            raise ValueError(
                f"an answer has {longest} tokens, and evaluation.answers.limit={self.limit} allows fewer, so that it "
                "could not be given: raise it, or leave it null"
            )
        self.at_most = self.limit or longest + 1

    def _decoded(self, asked: Sequence["Asked"], prompts: Sequence[Sequence[int]]) -> list[list[int]]:
        end = tokenizers.end_of_text(self.subject.stories.packed.tokenizer())
        found: list[list[int]] = []
        for start in range(0, len(prompts), self.at_once):
            self.say(f"answer {start:,} of {len(prompts):,}")
            some = slice(start, start + self.at_once)
            groups = [item.group for item in asked[some]]
            group = None if None in groups else torch.tensor(groups, device=self.subject.device)
            found += greedy(self.subject.net, prompts[some], end, self.at_most, group)
        return found


@dataclass(frozen=True)
class Asked:
    """A prompt with its answer, in token ids."""

    story: int
    task: str
    prompt: list[int]
    question: list[int]
    answer: list[int]
    group: int | None


def asked_of(stories: StorySet, members: Int[np.ndarray, "story"]) -> list[Asked]:
    """The prompts and answers of some stories of a split; stories that are truncated are skipped."""
    packed, scored = stories.packed, stories.scored
    assert scored is not None
    named = stories.label_values
    label = next(iter(named), None)
    labels = None if label is None else packed.extra(label)
    questions = packed.extra(QUESTION) if QUESTION in packed.manifest["arrays"] else None
    found = []
    for member in members.tolist():
        start, end = packed.offsets[member], packed.offsets[member + 1] - 1
        if end - start > stories.max_length:
            continue
        first = start + int(np.flatnonzero(scored[start:end])[0]) + 1
        prompt = packed.tokens[start:first].tolist()
        question = prompt if questions is None else packed.tokens[start:first][questions[start:first] != 0].tolist()
        task = ALL if labels is None or label is None else named[label][int(labels[start])]
        group = None if stories.group is None else int(stories.group[member])
        found.append(Asked(member, task, prompt, question, packed.tokens[first:end].tolist(), group))
    return found


def drawn(stories: StorySet, items: int) -> Int[np.ndarray, "story"]:
    """Members of a split, drawn at random, since a corpus may hold one task after the other."""
    return np.sort(np.random.default_rng(SEED).permutation(stories.members)[:items])


def most_frequent(stories: StorySet, items: int = 5000) -> Mapping[str, list[int]]:
    """The most frequent answer of each task among some items of a split; a task without any is left out."""
    counts: dict[str, Counter[tuple[int, ...]]] = {}
    for item in asked_of(stories, drawn(stories, items)):
        counts.setdefault(item.task, Counter())[tuple(item.answer)] += 1
    return {task: list(each.most_common(1)[0][0]) for task, each in counts.items()}


def scored(said: Sequence[int], answer: Sequence[int], decode: Callable[[list[int]], str]) -> dict[str, float]:
    """The three scores of one answer."""
    ours, wanted = normalised(decode(list(said))), normalised(decode(list(answer)))
    return {
        "exact_match": float(ours == wanted),
        "f1": overlap(ours, wanted),
        "accuracy": float(list(said) == list(answer)),
    }


def normalised(text: str) -> list[str]:
    """The words of a text in lower case, without punctuation and articles."""
    plain = "".join(character for character in text.lower() if character not in string.punctuation)
    return ARTICLES.sub(" ", plain).split()


def overlap(said: Sequence[str], wanted: Sequence[str]) -> float:
    """F1 of two bags of words; 1 if both are empty, 0 if only one is."""
    if not said or not wanted:
        return float(said == wanted)
    return 2 * sum((Counter(said) & Counter(wanted)).values()) / (len(said) + len(wanted))


def by_task(prefix: str, scores: Sequence[Mapping[str, float]], asked: Sequence[Asked]) -> dict[str, float]:
    """The mean of each score over the items of each task, and over the tasks."""
    metrics: dict[str, float] = {}
    tasks = sorted({item.task for item in asked})
    for name in scores[0]:
        of = {
            task: float(np.mean([each[name] for each, item in zip(scores, asked, strict=True) if item.task == task]))
            for task in tasks
        }
        metrics |= {f"{prefix}{name}/{task}": value for task, value in of.items()}
        metrics[f"{prefix}{name}/mean"] = float(np.mean(list(of.values())))
    return metrics
