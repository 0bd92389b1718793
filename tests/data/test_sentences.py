"""Sentences: the parser inverts the generator, factors are independent, and no tuple is in two splits."""

import re
from itertools import islice, pairwise

import numpy as np
import pytest
from hydra.utils import instantiate
from hypothesis import given
from hypothesis import strategies as st

from tti.data.sentences import (
    FACTORS,
    FOLDS,
    HELD_OUT,
    STYLE,
    TABLE,
    drawn,
    encode,
    entropy,
    held_out,
    parse,
    require_independent,
    tokenizer,
    values_of,
    write,
)
from tti.data.tokenizers import UNKNOWN

COLUMNS = (*TABLE, "rank")
any_values = st.fixed_dictionaries({name: st.sampled_from(values) for name, values in TABLE.items()})


def table(split, sentences, seed=0):
    blocks, rows = [], 0
    for block in drawn(seed, split):
        blocks.append(block)
        rows += len(block)
        if rows >= sentences:
            return np.concatenate(blocks)[:sentences]


def test_there_are_enough_factors():
    two = [name for name, values in FACTORS.items() if len(values) == 2]
    assert len(two) >= 4
    assert len(FACTORS) - len(two) >= 4
    assert entropy() == pytest.approx(np.log(np.prod([len(values) for values in TABLE.values()], dtype=float)))


@given(any_values)
def test_the_parser_recovers_every_factor_and_the_style(values):
    assert parse(write(values)) == values


@given(any_values)
def test_the_tokenizer_knows_every_word(values):
    text, words = write(values), tokenizer()
    tokens = encode(words, text)
    assert words.token_to_id(UNKNOWN) not in tokens
    assert words.decode(tokens) == text
    assert 14 <= len(tokens) <= 20


@given(any_values, st.data())
def test_a_sentence_with_one_word_changed_says_something_else_or_is_rejected(values, data):
    text = write(values)
    words = sorted({word for block in islice(drawn(0, "train"), 1) for row in block[:200]
                    for word in re.findall(r"\w+", write(values_of(row)))})  # fmt: skip
    place = data.draw(st.sampled_from(list(re.finditer(r"\w+", text))))
    other = data.draw(st.sampled_from(words))
    changed = text[: place.start()] + other + text[place.end() :]
    found = parse(changed)
    if found is not None:
        assert write(found) == changed
        assert (found == values) == (changed == text)


@pytest.mark.parametrize("text", [
    "", "The doctor.", "the glad doctor carried the lamp quietly near the river at dawn.",
    "The lamp were carried quietly by the glad doctor near the river at dawn.",
    "The glad doctor carried the lamp quietly near the river at dawn. ",
    "The glad doctor carried the lamp near the river at dawn.",
])  # fmt: skip
def test_what_is_never_written_is_rejected(text):
    assert parse(text) is None


def test_a_sentence_has_sixteen_paraphrases_all_different():
    meaning = {name: values[0] for name, values in FACTORS.items()}
    styles = [dict(zip(STYLE, each, strict=True)) for each in np.array(np.meshgrid(*STYLE.values())).reshape(3, -1).T]
    texts = {write(meaning | style) for style in styles}
    assert len(texts) == 16
    assert all({name: parse(text)[name] for name in FACTORS} == meaning for text in texts)


@pytest.mark.parametrize("split", ["validation", "test"])
def test_factors_style_and_rank_are_independent(split):
    require_independent(table(split, 15_000), COLUMNS)


def test_dependence_is_found():
    dependent = table("validation", 3000)
    copied = np.random.default_rng(0).random(len(dependent)) < 0.3
    dependent[copied, 1] = dependent[copied, 0]
    with pytest.raises(ValueError, match=r"tense and polarity depend on each other in a table of 3,000 .* nats"):
        require_independent(dependent, COLUMNS)


def test_independence_is_seldom_denied_in_small_tables():
    for seed in range(20):
        require_independent(table("validation", 400, seed), COLUMNS)


def test_no_tuple_is_in_two_splits_and_held_out_pairs_are_not_in_training():
    tables = {split: table(split, 20_000) for split in FOLDS}
    tuples = {split: set(map(tuple, rows[:, : len(FACTORS)])) for split, rows in tables.items()}
    assert not tuples["train"] & tuples["validation"]
    assert not tuples["train"] & tuples["test"]
    assert not tuples["validation"] & tuples["test"]
    assert not held_out(tables["train"]).any()
    assert held_out(tables["test"]).mean() == pytest.approx(len(HELD_OUT) / 256, rel=0.2)
    for values, column in zip(TABLE.values(), tables["train"].T, strict=False):
        assert set(column) == set(range(len(values)))


@pytest.fixture
def data(compose):
    sizes = ("data.corpus.train=60", "data.corpus.validation=30", "data.corpus.test=10", "data.stories_per_step=6")
    return instantiate(compose("model=tiny", "data=sentences", *sizes, "data.labels=[agent,rank]").data)


def test_batches_have_the_labels_of_their_sentences(data):
    batches = data.evaluation_stories("validation")
    batch = batches[next(iter(data.evaluation_dataloader("validation").sampler))]
    words = data.tokenizer
    starts = np.cumsum([0, *batch.stories.lengths])
    for start, end in pairwise(starts):
        found = parse(words.decode(batch.tokens[start:end].tolist()))
        assert {FACTORS["agent"][label] for label in batch.labels["agent"][start:end]} == {found["agent"]}
        assert len(set(batch.labels["rank"][start:end].tolist())) == 1
    assert data.label_values()["agent"] == FACTORS["agent"]


def test_the_first_word_is_predicted_from_the_start_token(data):
    packed = data.split("train")
    assert set(packed.tokens[packed.offsets[:-1]]) == {data.tokenizer.token_to_id("<|start|>")}


def test_a_split_that_is_not_there():
    with pytest.raises(ValueError, match="no split 'dev'; they have train, validation, test"):
        next(drawn(0, "dev"))
