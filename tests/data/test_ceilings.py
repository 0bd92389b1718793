"""Ceilings: the best scores from one token, from two, and from the whole context."""

from itertools import pairwise

import numpy as np
import pytest

from tti.data.ceilings import DETECTORS, best_set, best_type, ceilings, conditional_entropy, f1_of, last_two
from tti.data.corpora import GrammarCorpus
from tti.data.floor import floor
from tti.data.grammar import STORY_FACTORS


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    return GrammarCorpus(train=3, validation=150, test=3, seed=0, cache_dir=str(tmp_path_factory.mktemp("ceilings")))


@pytest.fixture(scope="module")
def packed(corpus):
    return corpus.open("validation")


@pytest.fixture(scope="module")
def found(corpus, packed):
    return ceilings(packed, corpus.grammar)


def of_factor(corpus, found, detector, factor):
    names = [name for name, values in corpus.grammar.factors.items() for _ in values]
    return float(np.nanmean(found.f1[detector][np.array(names) == factor]))


def test_more_context_tells_more(found):
    means = [np.nanmean(found.f1[detector]) for detector in DETECTORS]
    assert means[0] < 0.35 < min(means[1:3])
    assert max(means[1:3]) < 0.7
    assert means[3] > 0.98
    nats = [found.entropy[name] for name in ("prior", "token", "two_tokens", "context")]
    for more, less in pairwise(nats):
        assert (more >= less - 1e-9).all()


def test_the_ideal_reader_knows_story_factors_and_two_tokens_do_not(corpus, found):
    for factor in STORY_FACTORS:
        assert of_factor(corpus, found, "context", factor) == 1
        assert of_factor(corpus, found, "two_tokens", factor) < 0.8
        assert found.entropy["two_tokens"][list(corpus.grammar.factors).index(factor)] > 0.4


def test_the_token_does_not_tell_its_sense(corpus, found):
    assert of_factor(corpus, found, "token", "sense") < 0.7
    assert of_factor(corpus, found, "context", "sense") > 0.95


def test_the_floor_is_that_of_these_stories(corpus, packed, found):
    reader = corpus.grammar.reader()
    spans = zip(packed.offsets[:-1], packed.offsets[1:], strict=True)
    assert found.floor == floor(reader.read(packed.tokens[start : end - 1].tolist()) for start, end in spans)
    assert found.floor.stories == len(packed)


def test_ceilings_are_computed_once(corpus, packed, found, monkeypatch):
    monkeypatch.setattr(corpus.grammar, "reader", lambda: pytest.fail("read again"))
    again = ceilings(packed, corpus.grammar)
    assert (again.guess == found.guess).all()
    assert again.floor == found.floor
    assert all(np.array_equal(again.f1[name], found.f1[name], equal_nan=True) for name in DETECTORS)
    assert all((again.entropy[name] == found.entropy[name]).all() for name in found.entropy)


def test_a_damaged_file_is_an_error(corpus, found):
    packed = corpus.open("test")
    (packed.folder / "ceilings.npz").write_bytes(b"PK nothing")
    with pytest.raises(ValueError, match="delete it"):
        ceilings(packed, corpus.grammar)


def test_best_detectors_by_hand():
    known = np.array([0, 0, 0, 1, 1, 2, 0, 1, 2, 2])
    value = np.array([1, 1, 0, 1, 1, 0, 1, 1, 0, 1], dtype=bool)
    odd = np.array([0, 0, 0, 0, 0, 0, 1, 1, 1, 1], dtype=bool)
    assert best_type(known, value, odd) == pytest.approx(2 * 1 / (1 + 3))  # type 0: 2*2/(3+4); type 1: 2*2/(2+4) wins
    assert best_set(known, value, odd) == pytest.approx(2 * 2 / (2 + 3))  # types 0 and 1
    assert f1_of(np.zeros(3, bool), np.zeros(3, bool)) == 0
    assert conditional_entropy(np.array([0, 0, 1, 1]), np.array([0, 1, 1, 1])) == pytest.approx(np.log(2) / 2)


def test_last_two_tokens_do_not_cross_stories(packed):
    pairs = last_two(packed)
    first = packed.offsets[:-1]
    assert len(np.unique(pairs[first])) == len(np.unique(packed.tokens[first]))
    assert not np.isin(pairs[first], np.delete(pairs, first)).any()
    same = (packed.tokens[1:-1] == packed.tokens[5]) & (packed.tokens[:-2] == packed.tokens[4])
    assert len(np.unique(pairs[1:-1][same])) == 1
