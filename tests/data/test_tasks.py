"""Items of the grammar's tasks: exact answers, known chance, and only the question reveals the task."""

import re
from collections import Counter, defaultdict

import numpy as np
import pytest
import torch
from hydra.utils import instantiate

from tti.data.grammar import HELD_OUT, STORY_FACTORS
from tti.data.lexicon import SENSES
from tti.data.tasks import ANSWERED, ANSWERS, FACTS, TASKS, TaskGrammar, require_weights

ITEMS = 900
QUESTIONS = {"who": "hero", "where": "place"}


@pytest.fixture(scope="module")
def grammar():
    return TaskGrammar()


@pytest.fixture(scope="module")
def items(grammar):
    return [(task, grammar.item(i, 3, task)) for i, task in zip(range(ITEMS), TASKS * ITEMS, strict=False)]


@pytest.fixture(scope="module")
def decode(grammar):
    tokenizer = grammar.tokenizer()
    return lambda tokens: tokenizer.decode(tokens.tolist())


def value(grammar, item, factor):
    """The value of a factor at the end of the passage."""
    return grammar.factors[factor][item.factors[-1, STORY_FACTORS.index(factor)]]


def answered(fact, found):
    return next(answer for answer, values in zip(ANSWERS, FACTS[fact], strict=True) if found in values)


def test_answers_follow_from_the_passage(grammar, items, decode):
    for task, item in items:
        passage, _, query = decode(item.tokens).partition(" Say ")
        question, answer = query.split("? Answer ")
        if task == "entailment":
            claimed = next(w for w, words in SENSES["weather"].items() if question.split()[-1] in words.split())
            known = value(grammar, item, "weather")
            told = any(word in re.findall(r"\w+", passage) for word in SENSES["weather"].get(known, "").split())
            verdict = "silent" if known == "none" else "agrees" if known == claimed else "contradicts"
            fact, found = "verdict", verdict
            assert told == (known != "none")
        else:
            fact = "feeling" if task == "sentiment" else QUESTIONS[question.split()[0]]
            found = value(grammar, item, fact)
        assert answer == answered(fact, found)
        said, _, values = ANSWERED[item.answered].partition("=")
        assert said == fact
        assert found in values.split("|")


def test_questions_are_as_long_and_answers_one_word_in_every_task(items, decode):
    for _, item in items:
        question = decode(item.tokens).partition(" Say ")[2]
        assert len(question.partition("?")[0].split()) == 5
        assert question.split()[-2] == "Answer"


def test_every_answer_of_every_question_is_as_likely(items, decode):
    """Frequencies are within 5 standard errors of a third."""
    counts = defaultdict(Counter)
    for task, item in items:
        counts[task][decode(item.tokens[-1:])] += 1
    for found in counts.values():
        assert sum(found.values()) == ITEMS / 3
        assert all(abs(found[f" {answer}"] - 100) < 5 * (300 * 2 / 9) ** 0.5 for answer in ANSWERS)


def test_a_claim_reveals_nothing_and_most_claims_are_alike(grammar, decode):
    """Frequencies are within 5 standard errors: of a third given the claim, and of four in five."""
    counts = {"sunny": Counter(), "rainy": Counter()}
    for index in range(ITEMS):
        item = grammar.item(index, 0, "entailment")
        question, _, answer = decode(item.tokens).rpartition("? Answer ")
        claimed = next(weather for weather in counts if question.split()[-1] in SENSES["weather"][weather].split())
        counts[claimed][answer] += 1
    for found in counts.values():
        total = found.total()
        assert all(abs(found[answer] - total / 3) < 5 * (total * 2 / 9) ** 0.5 for answer in ANSWERS)
    assert abs(counts["sunny"].total() - 0.8 * ITEMS) < 5 * (ITEMS * 0.16) ** 0.5


def test_passages_of_all_tasks_are_alike(grammar):
    """Up to the question, the same item of two tasks has the same passage."""
    for index in range(20):
        first, second = (grammar.item(index, 3, task).tokens for task in TASKS[:2])
        same = int((first[:40] == second[:40]).sum())
        assert same == 40


def test_held_out_pairs_are_held_out(grammar):
    pairs = {
        training: {
            tuple(value(grammar, grammar.item(i, 0, TASKS[i % 3], training), name) for name in ("hero", "place"))
            for i in range(600)
        }
        for training in (True, False)
    }
    assert not pairs[True] & set(HELD_OUT)
    assert set(HELD_OUT) <= pairs[False]


@pytest.fixture
def data(compose):
    def made(*overrides):
        sizes = ["data.corpus.train=60", "data.corpus.validation=30", "data.corpus.test=10", "data.stories_per_step=6"]
        return instantiate(compose("model=tiny", "data=grammar_tasks", *sizes, *overrides).data)

    return made


def test_only_answers_and_the_ends_after_them_are_in_the_loss(data):
    batches = data().evaluation_stories("validation")
    end = data().split("validation").manifest["vocab_size"] - 1
    batch = batches[next(iter(data().evaluation_dataloader("validation").sampler))]
    answers = {data().tokenizer.token_to_id(f"\u0120{answer}") for answer in ANSWERS}
    assert set(batch.targets[::2].tolist()) <= answers
    assert set(batch.targets[1::2].tolist()) == {end}
    assert len(batch) == 2 * len(batch.stories.lengths)
    assert torch.equal(batch.labels["task"][::2], batch.stories.group)
    assert data().label_values() == {"task": TASKS}


def test_what_the_answer_says_is_known_at_every_token(data, grammar):
    packed = data().split("validation")
    answered = packed.extra("answered")
    assert len(answered) == len(packed.tokens)
    for start, end in zip(packed.offsets[:-1], packed.offsets[1:] - 1, strict=True):
        assert len(set(answered[start:end].tolist())) == 1
        answer = ANSWERS[answered[start] % len(ANSWERS)]
        assert data().tokenizer.decode([int(packed.tokens[end - 1])]) == f" {answer}"
    assert len(set(answered.tolist())) > 10


def test_weights_are_shares_of_the_items(data):
    task = data("data.corpus.weights.sentiment=0", "data.corpus.weights.question=3").split("train")
    counts = np.bincount(task.extra("task")[task.offsets[:-1]], minlength=3)
    assert counts[0] == 0
    assert counts[2] > counts[1] > 0


@pytest.mark.parametrize(("weights", "message"), [
    ({"sentiment": 0}, "gives no task any items: one of sentiment, entailment, question must be above 0"),
    ({"summary": 1}, "has no task summary; there are: sentiment"),
])  # fmt: skip
def test_weights_that_cannot_be(weights, message):
    with pytest.raises(ValueError, match=message):
        require_weights(weights, TASKS)


def test_n_grams_guess_among_the_answers(data):
    """Half of the predictions are answers, which the last tokens do not tell, and half are the ends after them."""
    made = data("data.corpus.train=2000", "data.corpus.validation=500")
    losses = made.ngram_losses("validation", 300)
    assert losses["split"][2:] == pytest.approx([np.log(3) / 2] * 3, abs=0.02)
    assert losses["seen"][2] == pytest.approx(np.log(3) / 2, abs=0.02)
    assert losses["split"][0] > 2 * losses["split"][1]
