"""Three tasks about passages of the built-in grammar, in one prompt frame, with one set of three answers.

A *passage* is the beginning of a story (``tti.data.grammar``), without the wish: who the heroes are, where they go,
whom they meet, who walks past. It is followed by a question of six words, the mark ``Answer``, and one of the words
"one", "two" and "three". All tasks share the passages, the length of the question and the answers, so only the words
of the question reveal the task. All answers to a question are equally likely: chance is 1/3.

    sentiment   how the adult feels. The passer-by's mood is a distractor
    entailment  whether the passage agrees with the question's claim about the weather, contradicts it, or is silent
                about it; the three are equally likely given the question, which by itself reveals nothing. The weather
                is sunny or rainy, and the claim is "sunny" in four of five items: where both are equally likely, small
                models have nothing to begin with, as with exclusive or. Ignoring the claim gives an accuracy of 13/15
    question    the hero or the place of the story; each answer stands for two of its values

The words for these facts are those of the grammar: several for each fact, many of them ambiguous.
"""

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from tti.data import lexicon
from tti.data.cache import EncodedStory
from tti.data.corpora import GrammarCorpus
from tti.data.grammar import StoryGrammar, rules, words
from tti.data.templates import Words

ANSWERS: Final = ("one", "two", "three")
FACTS: Final = {  # fact -> the values for which each answer stands
    "feeling": (("sad",), ("angry",), ("afraid",)),
    "verdict": (("agrees",), ("contradicts",), ("silent",)),
    "hero": (("girl", "boy"), ("dog", "cat"), ("rabbit", "bear")),
    "place": (("park", "beach"), ("forest", "farm"), ("garden", "river")),
}
QUERIES: Final = {  # task -> fact -> question
    "sentiment": {"feeling": "Say how the {adult} is now?"},
    "entailment": {"verdict": "Say if the day is {claim}?"},
    "question": {
        "hero": "Say who the story is of?",
        "place": "Say where the story is now?",
    },
}
TASKS: Final = tuple(QUERIES)
ASKED: Final = {  # word of a question -> the fact that it asks for
    query.split()[1]: fact for queries in QUERIES.values() for fact, query in queries.items()
}
ANSWERED: Final = tuple(f"{fact}={'|'.join(values)}" for fact in ASKED.values() for values in FACTS[fact])
WORDS: Final = {"answer": "noun_singular", "three": "determiner", "if": "conjunction", "how": "adverb"}
USUAL: Final = 4  # claims that the day is sunny, for each one that it is rainy
MARKED: Final = 2  # last tokens of an item: the mark, from which the answer is predicted, and the answer
LENGTH: Final = 7  # tokens of a question, before the mark


@dataclass(frozen=True)
class Item:
    """A prompt with its answer.

    Attributes:
        tokens: uint16 [token], without the end-of-text token; the last one is the answer.
        factors: int16 [token, factor], the factors of the passage (``GrammarStory.factors``).
        answered: what the answer says about the fact that is asked for, an index into ``ANSWERED``.
    """

    tokens: np.ndarray
    factors: np.ndarray
    answered: int


class TaskGrammar(StoryGrammar):
    """The grammar of the items of all tasks."""

    def __init__(self) -> None:
        known = words()
        super().__init__({**rules(), **task_rules()}, Words({**known.roles, **WORDS}, known.verbs, known.categories))
        self._text = {number: text.strip() for text, number in self._vocabulary.items()}

    def item(self, index: int, seed: int, task: str, training: bool = False) -> Item:
        """The item of a task with this index in the stream of this seed; deterministic.

        Args:
            index: number of the item, from 0.
            seed: seed of the stream.
            task: one of ``TASKS``.
            training: whether to exclude the held-out pairs of hero and place.
        """
        story = self.story(index, seed, training, {"task": task})
        question = len(story.tokens) - MARKED - LENGTH
        fact = list(ASKED).index(self._text[story.tokens[question + 1]])
        answer = ANSWERS.index(self._text[story.tokens[-1]])
        return Item(story.tokens, story.factors, len(ANSWERS) * fact + answer)


def task_rules() -> dict[str, Sequence[str]]:
    """The rules that differ from those of the stories."""
    return {
        "story": ("{opening} {scene} {meeting} {passing} {query} Answer {answer}",),
        "hero_kind": tuple(each for each in rules()["hero_kind"] if not each.startswith("hero=duck")),
        "scene": (
            *(f"told=yes {scene}" for scene in lexicon.RULES["scene"]),
            "told=no One {hour}, {he} [go|walk|run] to the {place}.",
            "told=no {He} [go|walk|run] to the {place} one {hour}.",
        ),
        "query": tuple(
            f"task={task} ({'|'.join(f'asked={fact} {query}' for fact, query in queries.items())})"
            for task, queries in QUERIES.items()
        ),
        "weather": ("weather=sunny {sunny}", "weather=rainy {rainy}"),
        "claim": claims("sunny", "rainy") * USUAL + claims("rainy", "sunny"),
        "answer": tuple(
            f"asked={fact} {fact}={value} {answer}"
            for fact, values in FACTS.items()
            for answer, meant in zip(ANSWERS, values, strict=True)
            for value in meant
        ),
    }


def claims(weather: str, other: str) -> tuple[str, str, str]:
    """Claims that the day has this weather: the passage agrees, contradicts or is silent."""
    return (
        f"told=yes weather={weather} verdict=agrees {{{weather}}}",
        f"told=yes weather={other} verdict=contradicts {{{weather}}}",
        f"told=no verdict=silent {{{weather}}}",
    )


class GrammarTasks(GrammarCorpus):
    """Items of the tasks in random order; only the answers and the end-of-text tokens after them enter the loss.

    Arrays parallel to the tokens: ``answer`` is 1 where the next token belongs to the answer or ends it; ``question``
    is 1 at the question and the mark; ``task`` is the number of the task; ``answered`` is what the item's answer says,
    an index into ``ANSWERED``.
    Some pairs of hero and place occur only in validation and test.

    Args:
        train, validation, test: number of items of each split; None for no test split.
        seed: seed of the items; every split has its own stream.
        weights: task -> relative share of the items; 0 for none.
        cache_dir: folder of the caches.

    Raises:
        ValueError: a task is unknown, or none has any items.
    """

    label_values: Mapping[str, Sequence[str]] = {"task": TASKS}
    things = "items"

    def __init__(
        self,
        train: int,
        validation: int,
        test: int | None,
        seed: int,
        weights: Mapping[str, float],
        cache_dir: str,
    ) -> None:
        super().__init__(train, validation, test, seed, cache_dir)
        self.weights = require_weights(weights, TASKS)
        self.grammar: TaskGrammar = TaskGrammar()

    @property
    def truth(self) -> None:
        return None  # factors are known of passages only, which are not in the loss

    def identity(self, split: str) -> dict[str, Any]:
        return {**super().identity(split), "tasks": list(TASKS), "weights": self.weights, "answered": list(ANSWERED)}

    def label(self, split: str) -> str:
        return f"grammar-tasks-{split}"

    def _encoded(self, index: int, seed: int, training: bool) -> EncodedStory:
        draw = random.Random(f"task/{seed}/{index}")
        (task,) = draw.choices(range(len(TASKS)), list(self.weights.values()))
        item = self.grammar.item(index, seed, TASKS[task], training)
        mark = len(item.tokens) - MARKED
        arrays = encoded(item.tokens, mark - LENGTH, mark, task)
        return arrays | {"answered": np.full(len(item.tokens), item.answered, np.uint8)}


def encoded(tokens: np.ndarray, question: int, mark: int, task: int) -> dict[str, np.ndarray]:
    """The arrays of an item whose question begins at the token ``question`` and whose answer after ``mark``."""
    place = np.arange(len(tokens))
    arrays = {"answer": place >= mark, "question": (question <= place) & (place <= mark)}
    whole = {name: array.astype(np.uint8) for name, array in arrays.items()}
    return {"tokens": tokens, **whole, "task": np.full(len(tokens), task, np.uint8)}


def require_weights(weights: Mapping[str, float], tasks: Sequence[str]) -> dict[str, float]:
    """The weight of every task, in the order of ``tasks``.

    Raises:
        ValueError: a task is unknown, or none has any items.
    """
    if strangers := [name for name in weights if name not in tasks]:
        raise ValueError(f"data.corpus.weights has no task {', '.join(strangers)}; there are: {', '.join(tasks)}")
    whole = {task: float(weights.get(task, 0)) for task in tasks}
    if not any(whole.values()):
        raise ValueError(f"data.corpus.weights gives no task any items: one of {', '.join(tasks)} must be above 0")
    return whole
