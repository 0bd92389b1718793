"""Planted neurons get the scores they must have."""

import math
from itertools import chain

import numpy as np
import pytest
import torch

from tests.evaluation.planted import SITE, Planted, made, run
from tti.data.grammar import StoryGrammar

DETECTOR, ALWAYS, RANDOM, DEAD, UNION, TENSE = range(6)


@pytest.fixture(scope="module")
def grammar():
    return StoryGrammar()


@pytest.fixture(scope="module")
def net(grammar_stories, grammar):
    vocab = grammar.tokenizer().get_vocab()
    the, union = vocab["Ġthe"], [vocab[word] for word in ("Ġand", ".", "Ġto")]
    columns = list(grammar.factors)
    past = grammar.factors["tense"].index("past")

    def plant(tokens, factors):
        noise = torch.sin(tokens * 0 + torch.arange(len(tokens)) * 12.9898 + float(tokens.sum()))
        hidden = torch.zeros(len(tokens), 6)
        hidden[:, DETECTOR] = (tokens == the) * 2.0
        hidden[:, ALWAYS] = 1
        hidden[:, RANDOM] = noise
        hidden[:, UNION] = torch.isin(tokens, torch.tensor(union)).float()
        hidden[:, TENSE] = -(factors[:, columns.index("tense")] == past).float()
        return hidden

    return Planted(grammar_stories, plant)


@pytest.fixture(scope="module")
def selectivity(config, net, grammar_stories):
    return run(made(config, "selectivity", sites=SITE), net, grammar_stories)


@pytest.fixture(scope="module")
def ground_truth(config, net, grammar_stories):
    return run(made(config, "ground_truth", sites=SITE, causal_tokens=0), net, grammar_stories)


def neurons(result, name):
    return result.arrays[f"{SITE}/neuron/{name}"].values


@pytest.mark.parametrize("level", ["top5", "top1"])
def test_selectivity_of_planted_neurons(selectivity, level):
    scores = neurons(selectivity, f"selectivity_{level}")
    assert scores[DETECTOR] == pytest.approx(1, abs=1e-6)
    assert scores[UNION] == pytest.approx(1, abs=1e-6)
    assert abs(scores[RANDOM]) < 0.01
    assert math.isnan(scores[ALWAYS])
    assert math.isnan(scores[DEAD])
    assert 0 < scores[TENSE] < 0.5  # verbs reveal their tense, most other words do not


def test_neurons_that_are_never_or_always_on_are_counted_and_score_0(selectivity):
    assert selectivity.metrics["selectivity_undefined/mlp.post/layer_0"] == 2 / 6
    scores = neurons(selectivity, "selectivity_top5")
    assert selectivity.metrics["selectivity_top5/mlp.post/layer_0"] == pytest.approx(np.nansum(scores) / 6)


def test_a_neuron_is_on_where_it_is_highest(selectivity, grammar_stories):
    """On at 5 % of the tokens; where it is active, if that is rarer; at its highest value, if that is more common."""
    rates = neurons(selectivity, "on_rate_top5")
    assert rates[RANDOM] == pytest.approx(0.05, abs=0.001)
    assert neurons(selectivity, "on_rate_top1")[RANDOM] == pytest.approx(0.01, abs=0.001)
    union = [chunk.batch.tokens for chunk in grammar_stories]
    words = torch.tensor([grammar_stories.packed.tokenizer().token_to_id(word) for word in ("Ġand", ".", "Ġto")])
    assert rates[UNION] == pytest.approx(float(torch.isin(torch.cat(union), words).float().mean()))
    assert rates[UNION] > 0.05
    assert rates[DEAD] == rates[ALWAYS] == 0


def test_entropy_of_planted_neurons(selectivity, grammar_stories):
    entropy, null = neurons(selectivity, "type_entropy"), neurons(selectivity, "type_entropy_null")
    assert entropy[DETECTOR] == pytest.approx(0, abs=1e-6)
    assert 0 < entropy[UNION] < math.log(3) + 1e-6
    assert entropy[ALWAYS] == pytest.approx(null[ALWAYS], abs=1e-5)
    assert entropy[RANDOM] == pytest.approx(null[RANDOM], abs=0.05)
    assert math.isnan(entropy[DEAD])
    above, null = neurons(selectivity, "type_entropy_above"), neurons(selectivity, "type_entropy_above_null")
    assert above[DETECTOR] == pytest.approx(0, abs=1e-6)
    assert above[RANDOM] == pytest.approx(null[RANDOM], abs=0.05)
    assert math.isnan(above[ALWAYS])
    assert neurons(selectivity, "effective_types")[DETECTOR] == pytest.approx(1, abs=1e-5)


def test_top_types_of_planted_neurons(selectivity, grammar):
    vocab = grammar.tokenizer().get_vocab()
    ids = selectivity.arrays[f"{SITE}/top_types"].values
    share = selectivity.arrays[f"{SITE}/top_types_share"].values
    assert ids[DETECTOR, 0] == vocab["Ġthe"]
    assert share[DETECTOR, 0] == pytest.approx(1)
    assert (ids[DETECTOR, 1:] == -1).all()
    assert set(ids[UNION, :3]) == {vocab["Ġand"], vocab["."], vocab["Ġto"]}
    assert (ids[DEAD] == -1).all()


def test_utilisation_of_planted_neurons(config, net, grammar_stories):
    result = run(made(config, "utilisation", sites=SITE), net, grammar_stories)
    rate, density = neurons(result, "firing_rate"), neurons(result, "density")
    assert rate[ALWAYS] == 1
    assert rate[DEAD] == 0
    assert neurons(result, "firing_rate_relative")[DEAD] == 0
    assert density[ALWAYS] == pytest.approx(1)
    assert density[DETECTOR] == pytest.approx(rate[DETECTOR], rel=1e-6)
    assert math.isnan(density[DEAD])
    assert neurons(result, "positive_rate")[TENSE] == 0
    assert result.metrics["silent/mlp.post/layer_0"] == 1 / 6
    assert result.metrics["always_on/mlp.post/layer_0"] == 2 / 6  # the random neuron is hardly ever within 0.01 of 0
    histogram = result.arrays[f"{SITE}/histogram"].values
    assert (histogram.sum(1) == grammar_stories.tokens).all()
    assert histogram[DETECTOR, 0] == pytest.approx(grammar_stories.tokens * (1 - rate[DETECTOR]))


def test_a_factor_detector_is_found(ground_truth, grammar):
    factors, names = (ground_truth.arrays[f"value/{what}"].values for what in ("factor", "name"))
    (tense,) = np.flatnonzero((factors == "tense") & (names == "past"))
    assert ground_truth.arrays[f"{SITE}/best_f1"].values[tense] == pytest.approx(1)
    assert ground_truth.arrays[f"{SITE}/best_neuron"].values[tense] == TENSE
    assert ground_truth.arrays[f"{SITE}/f1"].values[tense, TENSE] == pytest.approx(1)
    assert ground_truth.metrics["f1_tense/mlp.post/layer_0"] == pytest.approx(1)
    assert ground_truth.metrics["f1_place/mlp.post/layer_0"] < 0.5
    # Past is one bit, which determines tense; about roles it only says that verbs are past.
    assert neurons(ground_truth, "gap")[TENSE] > 0.5
    assert neurons(ground_truth, "gap")[DEAD] == pytest.approx(0)
    assert neurons(ground_truth, "gap")[RANDOM] < 0.02


def only(net, stories, *columns):
    """The planted network with these neurons alone."""
    return Planted(stories, lambda tokens, factors: net.plant(tokens, factors)[:, list(columns)])


@pytest.fixture(scope="module")
def words_and_meanings(config, grammar_stories, grammar):
    """Scores of detectors of homonyms and synonyms: one neuron per word, or one per meaning."""
    vocab = {token.replace("Ġ", " "): number for token, number in grammar.tokenizer().get_vocab().items()}
    senses, column = grammar.factors["sense"], list(grammar.factors).index("sense")
    words = torch.tensor(sorted({vocab[text] for text in [*grammar.homonyms, *chain(*grammar.synonyms.values())]}))
    named = {sense for known in grammar.homonyms.values() for sense in known} | set(grammar.synonyms)
    meanings = torch.tensor([senses.index(sense) for sense in sorted(named)])
    plants = {
        "word": lambda tokens, factors: (tokens[:, None] == words).float(),
        "meaning": lambda tokens, factors: (factors[:, column, None] == meanings).float(),
    }
    part = made(config, "ground_truth", sites=SITE, causal_tokens=0)
    return {name: run(part, Planted(grammar_stories, plant), grammar_stories).metrics for name, plant in plants.items()}


def test_homonyms_tell_a_word_from_its_meaning(words_and_meanings):
    word, meaning = words_and_meanings["word"], words_and_meanings["meaning"]
    assert meaning["homonym_senses/mlp.post/layer_0"] >= 5
    assert meaning["homonym_semantic/mlp.post/layer_0"] == pytest.approx(1)
    assert meaning["homonym_auc/mlp.post/layer_0"] == pytest.approx(1)
    assert word["homonym_semantic/mlp.post/layer_0"] < 0.2
    assert word["homonym_auc/mlp.post/layer_0"] == pytest.approx(0.5)


def test_synonyms_tell_a_word_from_its_meaning(words_and_meanings):
    word, meaning = words_and_meanings["word"], words_and_meanings["meaning"]
    assert meaning["synonym_senses/mlp.post/layer_0"] >= 10
    assert meaning["synonym_evenness/mlp.post/layer_0"] == pytest.approx(1)
    assert word["synonym_evenness/mlp.post/layer_0"] < 0.1


def test_nothing_is_found_in_noise(config, net, grammar_stories):
    part = made(config, "ground_truth", sites=SITE, causal_tokens=0)
    found = run(part, only(net, grammar_stories, RANDOM, DEAD), grammar_stories)
    assert abs(found.metrics["f1_above_chance/mlp.post/layer_0"]) < 0.02
    assert found.metrics["information/mlp.post/layer_0"] < 0.01
    assert found.metrics["matched_correlation/mlp.post/layer_0"] < 0.05
    assert found.metrics["homonym_auc/mlp.post/layer_0"] == pytest.approx(0.5, abs=0.1)


def test_geometry_of_planted_neurons(config, net, grammar_stories):
    settings = {"sites": SITE, "cka": SITE, "heatmaps": SITE}
    result = run(made(config, "geometry", **settings), net, grammar_stories)
    cosine = result.arrays[f"{SITE}/cosine"].values
    assert cosine[DETECTOR, UNION] == pytest.approx(0, abs=1e-5)
    the = grammar_stories.packed.tokenizer().token_to_id("Ġthe")
    scored = torch.cat([chunk.batch.tokens for chunk in grammar_stories])
    assert cosine[DETECTOR, ALWAYS] == pytest.approx(float((scored == the).float().mean()) ** 0.5, abs=1e-3)
    assert (cosine[DEAD] == 0).all()
    assert result.arrays["cka/mlp.post"].values[0, 0] == pytest.approx(1)
