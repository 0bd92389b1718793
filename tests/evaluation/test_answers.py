"""Answers of networks that know everything, nothing, or the question only."""

from collections.abc import Mapping

import numpy as np
import pytest
import torch
from hydra.utils import instantiate

from tests.evaluation.planted import made, run
from tti.data import tokenizers
from tti.evaluation.answers import asked_of, most_frequent, normalised, overlap, scored
from tti.evaluation.base import Subject
from tti.evaluation.stories import StorySet
from tti.models.network import Network
from tti.models.taps import no_tap


@pytest.fixture(scope="session")
def task_stories(compose):
    """A few hundred items of the grammar's tasks."""
    sizes = ["data.corpus.train=300", "data.corpus.validation=150", "data.corpus.test=10"]
    return StorySet(instantiate(compose("model=tiny", "data=grammar_tasks", *sizes).data), "validation", 2000)


class Knowing(Network):
    """Writes after each known beginning what a table says, and then the end of the text."""

    vocab_size = operations_per_token = 0
    attends_by_layout = False
    context = 256

    def __init__(self, size: int, end: int, table: Mapping[tuple[int, ...], int]) -> None:
        super().__init__()
        self.size, self.end, self.table = size, end, table
        self.unused = torch.nn.Parameter(torch.zeros(1))
        self.sites = {}

    def forward(self, tokens, stories, tap=no_tap):
        after = [self.table.get(tuple(story.tolist()), self.end) for story in tokens.split(stories.lengths)]
        ends = torch.tensor(stories.lengths).cumsum(0) - 1
        hidden = torch.zeros(len(tokens), self.size)
        hidden[ends, torch.tensor(after)] = 1
        return hidden

    def logits(self, hidden):
        return hidden

    def loss(self, hidden, targets):
        raise NotImplementedError


@pytest.fixture
def answers(config, task_stories):
    packed = task_stories.packed
    end = tokenizers.end_of_text(packed.tokenizer())

    def found(table):
        net = Knowing(packed.manifest["vocab_size"], end, table)
        return run(made(config, "answers"), net, task_stories).metrics

    return found


def test_one_that_knows_all_answers_has_1_and_its_baselines_have_not(answers, task_stories):
    asked = asked_of(task_stories, task_stories.members)
    found = answers({tuple(item.prompt): item.answer[0] for item in asked})
    for score in ("exact_match", "f1", "accuracy"):
        for task in ("sentiment", "entailment", "question", "mean"):
            assert found[f"{score}/{task}"] == 1
        assert found[f"promptless_{score}/mean"] == found[f"question_{score}/mean"] == 0
        assert 0.2 < found[f"majority_{score}/mean"] < 0.55  # a third, give or take 4.5 errors of 50 items
    assert sum(found[f"items/{task}"] for task in ("sentiment", "entailment", "question")) == 150


def test_one_that_knows_the_question_only_is_its_own_baseline(answers, task_stories):
    one = task_stories.packed.tokenizer().token_to_id("\u0120one")
    asked = asked_of(task_stories, task_stories.members)
    found = answers({tuple(each): one for item in asked for each in (item.prompt, item.question)})
    assert found["accuracy/mean"] == found["question_accuracy/mean"]
    assert found["promptless_accuracy/mean"] == 0


def test_one_that_ends_at_once_has_0(answers):
    assert answers({})["exact_match/mean"] == 0


def test_texts_without_answers_have_none(config, few_stories, make_net):
    subject = Subject("trained", make_net(), few_stories)
    assert "no answers (data.scored)" in made(config, "answers").inapplicable(subject)


@pytest.mark.parametrize(("said", "wanted", "exact", "f1"), [
    ("The Broncos.", "broncos", 1, 1),
    ("Denver Broncos", "the Denver Broncos team", 0, 0.8),
    ("", "", 1, 1),
    ("", "Denver", 0, 0),
    ("an a", "", 1, 1),
])  # fmt: skip
def test_scores_of_texts(said, wanted, exact, f1):
    texts = {(1,): said, (2,): wanted}
    found = scored([1], [2], lambda ids: texts[tuple(ids)])
    assert (found["exact_match"], found["f1"]) == (exact, pytest.approx(f1))
    assert found["accuracy"] == 0
    assert overlap(normalised(said), normalised(wanted)) == pytest.approx(f1)


def test_an_answer_longer_than_allowed_is_an_error(config, task_stories, make_net):
    part = made(config, "answers", limit=1)
    part._set_limit(1)
    with pytest.raises(ValueError, match=r"an answer has 2 tokens, and evaluation\.answers\.limit=1 allows fewer"):
        part._set_limit(2)
    part = made(config, "answers")
    part._set_limit(2)
    assert part.at_most == 3


def test_the_most_frequent_answers_are_those_of_all_tasks_where_a_corpus_holds_one_after_the_other(task_stories):
    stories = StorySet(task_stories._data, "validation", 2000)
    task = {item.story: item.task for item in asked_of(stories, stories.members)}
    stories.members = np.array(sorted(task, key=lambda story: (task[story], story)))
    assert set(most_frequent(stories, items=30)) == {"sentiment", "entailment", "question"}
