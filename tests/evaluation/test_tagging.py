"""Tags of tokens: by hand, compared with a slow reference, and by spaCy if it is installed."""

from collections import Counter
from functools import cache
from importlib import metadata
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tti.data import tokenizers
from tti.evaluation.tagging import TAGS, PartsOfSpeech, decoded, tags

TEXTS = ["Once upon a time.", "Él comió una piña 🍍.", "She didn't like it.", "tabs\tand\nlines  and   spaces"]


@pytest.fixture(scope="module")
def bpe():
    return tokenizers.train_bpe("bpe:300", iter(TEXTS * 3))


def pieces(tokenizer, text):
    return [tokenizer_texts(tokenizer)[id_] for id_ in tokenizer.encode(text).ids]


@cache
def tokenizer_texts(tokenizer):
    return tokenizers.token_texts(tokenizer)


def words(*spans):
    return [(start, end, tag) for start, end, tag in spans]


def named(found):
    return [None if number < 0 else TAGS[number] for number in found]


def test_tokens_take_the_tag_of_their_word():
    text = [b"un", b"happy", b" do", b"gs", b"!", b"\n"]
    found = tags(text, words((0, 7, "ADJ"), (8, 12, "NOUN"), (12, 13, "PUNCT"), (13, 14, "SPACE")))
    assert named(found) == ["ADJ", "ADJ", "NOUN", "NOUN", "PUNCT", None]


def test_of_several_words_the_one_with_most_of_the_token_then_the_first():
    assert named(tags([b"don", b"'t"], words((0, 2, "AUX"), (2, 5, "PART")))) == ["AUX", "PART"]
    assert named(tags([b"ab"], words((0, 1, "NOUN"), (1, 2, "VERB")))) == ["NOUN"]
    assert named(tags([b" abc d"], words((1, 2, "NOUN"), (2, 4, "VERB")))) == ["VERB"]


def test_white_space_ends_of_text_and_unknown_tags_have_none():
    assert named(tags([b"  ", b"x", b"", b"y"], words((0, 2, "SPACE"), (2, 3, ""), (3, 4, "X")))) == [
        None,
        None,
        None,
        "X",
    ]


def test_pieces_of_a_character_have_its_tag():
    text = "a 🍍".encode()
    found = tags([text[:1], text[1:4], text[4:]], words((0, 1, "DET"), (2, 3, "NOUN")))
    assert named(found) == ["DET", "NOUN", "NOUN"]


def test_bytes_that_are_no_text_stand_for_a_character_each():
    text, width = decoded("é".encode() + b"\xff\xc3" + "🍍".encode())
    assert text == "é\ufffd\ufffd🍍"
    assert width.tolist() == [2, 1, 1, 4]


def by_characters(text, parts, spans):
    """The word that each byte belongs to, by a loop over bytes."""
    owner = []
    for place, character in enumerate(text):
        word = next((tag, start) for start, end, tag in [*spans, (0, len(text), None)] if start <= place < end)
        owner += [word if not character.isspace() else (None, 0)] * len(character.encode())
    found = []
    for part in parts:
        mine, owner = owner[: len(part)], owner[len(part) :]
        votes = Counter(word for word in mine if word[0])
        found.append(min(votes, key=lambda word: (-votes[word], word[1]))[0] if votes else None)
    return found


@settings(max_examples=50, deadline=None)
@given(text=st.text(alphabet="abn't .\té🍍日", max_size=30), cuts=st.sets(st.integers(1, 29)))
def test_real_tokens_of_any_text_follow_the_slow_reference(bpe, text, cuts):
    bounds = [0, *sorted(cut for cut in cuts if cut < len(text)), len(text)]
    spans = [(a, b, TAGS[a % len(TAGS)]) for a, b in pairwise(bounds) if a < b]
    parts = pieces(bpe, text)
    assert b"".join(parts).decode() == text
    assert named(tags(parts, spans)) == by_characters(text, parts, spans)


def test_gpt2s_tokens(real_data):
    parts = pieces(tokenizers.load(str(real_data / "gpt2")), "“I can't,” said Zoë.")
    assert len(parts) > 8
    assert b"".join(parts).decode() == "“I can't,” said Zoë."
    spans = words((0, 1, "PUNCT"), (1, 2, "PRON"), (3, 5, "AUX"), (5, 8, "PART"), (8, 10, "PUNCT"), (11, 15, "VERB"),
                  (16, 19, "PROPN"), (19, 20, "PUNCT"))  # fmt: skip
    assert named(tags(parts, spans)) == by_characters("“I can't,” said Zoë.", parts, spans)


def test_without_spacy_it_says_what_to_install(few_stories, monkeypatch):
    def missing(name):
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(metadata, "version", missing)
    reason = PartsOfSpeech(["en_core_web_sm"]).inapplicable(few_stories)
    assert "pip install 'training-time-interpretability[probes]'" in reason
    assert "spacy download en_core_web_sm" in reason


@pytest.fixture(scope="module")
def parts_of_speech(config):
    source = PartsOfSpeech(config.evaluation.probes.labels.models)
    if not source.installed:
        pytest.skip("spaCy or its model is not installed")
    return source


@pytest.mark.slow
def test_spacys_tags_are_made_once_and_shared(parts_of_speech, few_stories, capsys):
    stories = few_stories.subset(1500)  # a subset that no other test uses
    before = set(stories.packed.folder.glob("pos-*.npy"))
    offsets = stories.packed.offsets
    places = np.concatenate([np.arange(offsets[i], offsets[i + 1]) for i in stories.members])
    first = parts_of_speech.of(stories, places)
    assert "tagging" in capsys.readouterr().err
    texts = tokenizers.token_texts(stories.packed.tokenizer())
    tagged = Counter(
        zip([texts[token] for token in stories.packed.tokens[places]], named(first.values[:, 0]), strict=True)
    )
    assert {tag for text, tag in tagged if text == b""} == {None}  # the end-of-text token
    for text, tag in ((b" the", "DET"), (b".", "PUNCT"), (b" and", "CCONJ")):
        assert tagged[text, tag] > 0.9 * sum(count for (each, _), count in tagged.items() if each == text)
    again = parts_of_speech.of(stories, places[::2])
    assert capsys.readouterr().err == ""
    assert (again.values == first.values[::2]).all()
    assert len(set(stories.packed.folder.glob("pos-*.npy")) - before) == 1
