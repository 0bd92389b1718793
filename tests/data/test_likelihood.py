"""Exact probabilities, compared with brute force over every derivation of small grammars."""

import math
from collections import defaultdict
from random import Random

import numpy as np
import pytest

from tti.data.features import FeatureGrammar
from tti.data.floor import floor
from tti.data.likelihood import Reader
from tti.data.templates import Compiler, Verb, Words

PLAIN = "a it he she they Ann Bo cold dull here so and we go is are was were"
WORDS = Words(
    roles=dict.fromkeys(PLAIN.split(), "word"),
    verbs={"be": Verb("are", "is", "was", "were")},
    categories={"ill": "quality", "icy": "quality"},
)
RULES = {
    # "cold" is an illness or weather, which usually stays open; the greeting is drawn first and decides the last word.
    "text": ("{who} [be] so {how}{again}.", "tense=past it [be:s] {how} and {who} [be] here."),
    "who": ("number=singular who=ann Ann~h", "number=singular who=bo Bo~h", "number=plural Ann~h and Bo"),
    "how": ("mood=ill cold@ill", "mood=icy cold@icy", "dull"),
    "again": ("", " and {he} [be] {how}", " and so {how}"),
    "he": ("number=singular who=ann she", "number=singular who=bo he", "number=plural they"),
}
SENSES = ["none", "ill", "icy"]


def compiled(rules=RULES, forbidden=()):
    compiler = Compiler(rules, WORDS, "text")
    pairs = frozenset((compiler.ask(*one), compiler.ask(*other)) for one, other in forbidden)
    cells = list(compiler.cells)
    texts = sorted({cell.text for cell in cells})
    grammar = FeatureGrammar(compiler.symbols, len(compiler.features), pairs)
    return compiler, cells, texts, grammar, Reader(grammar, [texts.index(cell.text) for cell in cells])


@pytest.fixture(scope="module", params=[(), ((("mood", "ill"), ("who", "ann")),)], ids=["free", "forbidden"])
def small(request):
    compiler, cells, texts, grammar, reader = compiled(forbidden=request.param)
    exact = defaultdict(float)
    derivations = list(grammar.derivations())
    for probability, said, _ in derivations:
        exact[tuple(texts.index(cells[terminal].text) for terminal in said)] += probability
    return compiler, cells, texts, grammar, reader, derivations, dict(exact)


def test_derivations_are_ambiguous_and_their_probabilities_sum_to_one(small):
    *_, derivations, exact = small
    assert math.fsum(exact.values()) == pytest.approx(1)
    assert len(derivations) > len(exact) > 50


def test_every_text_has_the_probability_of_all_its_derivations(small):
    *_, reader, _, exact = small
    for tokens, probability in exact.items():
        assert math.exp(reader.read(tokens).log_probs.sum()) == pytest.approx(probability, rel=1e-12)


def test_every_token_has_the_conditional_probability_of_brute_force(small):
    *_, reader, _, exact = small
    prefixes = defaultdict(float)
    for tokens, probability in exact.items():
        for end in range(len(tokens) + 1):
            prefixes[tokens[:end]] += probability
    for tokens in exact:
        conditional = [prefixes[tokens[: end + 1]] / prefixes[tokens[:end]] for end in range(len(tokens))]
        conditional.append(exact[tokens] / prefixes[tokens])
        assert np.exp(reader.read(tokens).log_probs) == pytest.approx(conditional, rel=1e-12)


def test_beliefs_are_those_of_brute_force(small):
    """Beliefs about the sense of the last token read, and about whether the mood has been drawn."""
    compiler, cells, texts, grammar, reader, _, exact = small
    mood = list(compiler.features).index("mood")
    senses, total = defaultdict(float), defaultdict(float)
    for probability, said, _ in grammar.derivations():
        tokens = tuple(reader.token_of[terminal] for terminal in said)
        for end in range(1, len(tokens) + 1):
            senses[tokens[:end], cells[said[end - 1]].sense] += probability
            total[tokens[:end]] += probability
    unsure = 0
    for tokens in exact:
        reading = reader.read(tokens)
        found = np.zeros((len(tokens), 3))
        for place, weight, terminal in zip(reading.place, reading.weight, reading.terminal, strict=True):
            found[place, SENSES.index(cells[terminal].sense)] += weight
        for place in range(len(tokens)):
            prefix = tokens[: place + 1]
            expected = [senses[prefix, sense] / total[prefix] for sense in SENSES]
            assert found[place] == pytest.approx(expected, rel=1e-12)
            unsure += max(expected) < 0.9
        cold = [place for place, token in enumerate(tokens) if texts[token] == " cold"]
        assert (reading.state[np.isin(reading.place, cold), mood] > 0).all()
    assert unsure > 10


def test_the_floor_is_the_entropy_of_brute_force(small):
    *_, grammar, reader, _, exact = small
    first = defaultdict(float)
    for tokens, probability in exact.items():
        first[tokens[0]] += probability
    entropy = -math.fsum(p * math.log(p) for p in exact.values()) + math.fsum(p * math.log(p) for p in first.values())
    length = math.fsum(p * len(tokens) for tokens, p in exact.items())
    token_of = reader.token_of
    said = (grammar.say(Random(seed).random)[0] for seed in range(4000))
    found = floor(reader.read([token_of[terminal] for terminal in text]) for text in said)
    assert found.stories == 4000
    assert 0 < found.error < 0.01
    assert abs(found.nats - entropy / length) < 4 * found.error


def test_texts_are_drawn_with_their_probabilities(small):
    *_, grammar, reader, _, exact = small
    draws = 20000
    counts = defaultdict(int)
    for seed in range(draws):
        counts[tuple(reader.token_of[terminal] for terminal in grammar.say(Random(seed).random)[0])] += 1
    assert set(counts) <= set(exact)
    for tokens, probability in exact.items():
        assert abs(counts[tokens] - draws * probability) < 5 * math.sqrt(draws * probability) + 1


def test_a_text_that_the_grammar_cannot_say_is_an_error(small):
    _, _, texts, _, reader, _, _ = small
    with pytest.raises(ValueError, match="cannot generate token"):
        reader.read([texts.index("."), texts.index(".")])


def test_a_forbidden_pair_never_occurs():
    forbidden = ("number", "plural"), ("tense", "past")
    compiler, _, _, grammar, _ = compiled(forbidden=(forbidden,))
    columns = [list(compiler.features).index(name) for name in ("number", "tense")]
    pairs = {tuple(state[column] for column in columns) for *_, state in grammar.derivations()}
    two, past = compiler.ask(*forbidden[0])[1], compiler.ask(*forbidden[1])[1]
    assert (two, past) not in pairs
    assert {number for number, _ in pairs} == {1, 2}


def test_a_rule_without_an_open_alternative_is_an_error():
    *_, grammar, _ = compiled({"text": ("who=ann {rest}",), "rest": ("who=bo here",)})
    with pytest.raises(ValueError, match="no alternative"):
        grammar.say(Random(0).random)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{nobody} here", "no rule 'nobody'"),
        ("here (so|we", "not closed"),
        ("elephant", "not in"),
        ("here $", "cannot read"),
    ],
)
def test_a_template_that_cannot_be_read_is_an_error(text, message):
    with pytest.raises(ValueError, match=message):
        compiled({"text": (text,)})
