"""What detectors know beyond the last two tokens: planted layers with known answers."""

from functools import cache

import numpy as np
import pytest
import torch

from tests.evaluation.planted import SITE, Planted, made, run
from tti.data.ceilings import ceilings, last_two
from tti.data.grammar import StoryGrammar
from tti.evaluation.beyond import Labelled, one_hot
from tti.evaluation.calibration import Calibration
from tti.evaluation.causal_truth import divergences, odd_stories, specificity
from tti.evaluation.knowledge import Knowledge
from tti.evaluation.stories import StorySet
from tti.evaluation.tails import Tails

GRAMMAR = StoryGrammar()
SIZES = [len(names) for names in GRAMMAR.factors.values()]
STARTS = torch.tensor(np.cumsum([0, *SIZES[:-1]]))
NAMES = ["context_f1", "context_information", "context_coverage", "context_f1_ambiguous", "context_f1_held_out"]


def values(tokens, factors):
    """One neuron per value."""
    rows = factors.long() + STARTS
    return torch.zeros(len(tokens), sum(SIZES)).scatter_(1, rows, 1.0)


def tables(tokens, factors):
    """Single token types, and arbitrary functions of the current token and of the last two tokens."""
    before = torch.cat([torch.tensor([-1]), tokens[:-1]])
    waves = torch.arange(1, 33) * 0.7713
    of_one, of_two = (torch.sin(known[:, None] * waves) for known in (tokens, before * 400 + tokens + 1.0))
    return torch.cat([torch.nn.functional.one_hot(tokens, 400)[:, ::8].float(), of_one, of_two], 1)


@pytest.fixture(scope="module")
def part(config):
    return made(config, "ground_truth", sites=SITE, causal_tokens=0, bins=8)


@pytest.fixture(scope="module")
def scored(part, grammar_stories):
    """Function from a plant to the metrics of its layer."""

    @cache
    def found(plant):
        return run(part, Planted(grammar_stories, plant), grammar_stories).metrics

    return found


def of_site(metrics, name):
    return metrics[f"{name}/mlp.post/layer_0"]


@pytest.mark.parametrize("suffix", ["", "_top1"])
def test_a_planted_layer_knows_everything(scored, suffix):
    for name in NAMES:
        assert of_site(scored(values), f"{name}{suffix}") == pytest.approx(1)


@pytest.fixture(scope="module")
def shuffled(grammar_stories):
    """One neuron per value, of a different token of the split."""
    packed = grammar_stories.packed
    known = by_story(packed, np.random.default_rng(0).permutation(packed.extra("factors")))
    return lambda tokens, factors: values(tokens, known[tokens.numpy().astype(int).tobytes()])


def by_story(packed, factors):
    """Function from the tokens of a story to its rows of an array of the packed split."""
    spans = zip(packed.offsets[:-1], packed.offsets[1:] - 1, strict=True)
    return {
        packed.tokens[start:end].astype(int).tobytes(): torch.from_numpy(factors[start:end]) for start, end in spans
    }


@pytest.mark.parametrize("suffix", ["", "_top1"])
def test_lookup_tables_and_shuffled_labels_know_nothing(scored, shuffled, suffix):
    for plant in (tables, shuffled):
        for name in NAMES:
            assert of_site(scored(plant), f"{name}{suffix}") == pytest.approx(0, abs=0.02), name


def test_the_plain_f1_does_not_tell_a_lookup_table_from_knowledge(scored):
    metrics = scored(tables)
    assert of_site(metrics, "f1") > 0.2
    ceilings_ = [metrics[f"f1_ceiling_{name}"] for name in ("token_type", "token", "context")]
    assert ceilings_ == sorted(ceilings_)


def test_the_ideal_reader_is_at_its_ceiling(part, few_stories):
    packed = few_stories.packed
    known = by_story(packed, ceilings(packed, GRAMMAR).guess)

    def reader(tokens, factors):
        return values(tokens, known[tokens.numpy().astype(int).tobytes()])

    metrics = run(part, Planted(few_stories, reader), few_stories).metrics
    for name in NAMES:
        assert of_site(metrics, name) == pytest.approx(metrics[f"{name}_ceiling"], nan_ok=True)
    assert 0.8 < metrics["context_f1_ceiling"] <= 1
    assert metrics["context_factors"] >= 8
    assert 0.4 < metrics["entropy_floor"] < 0.6


def noisy(tokens, factors, order=slice(None)):
    """Values under noise that depends only on the token's position in its story."""
    noise = torch.sin(torch.arange(len(tokens))[:, None] * 12.9898 + torch.arange(sum(SIZES)) * 78.233 + tokens.sum())
    return (values(tokens, factors) + noise)[:, order]


def test_chunks_and_the_order_of_neurons_change_nothing(part, few_stories):
    found = run(part, Planted(few_stories, noisy), few_stories).metrics
    expected = {name: value for name, value in found.items() if "context" in name}
    assert 0.1 < of_site(expected, "context_f1") < 0.9
    large = StorySet(few_stories._data, "validation", 3000)
    assert len(few_stories) > 2 * len(large)
    order = torch.randperm(sum(SIZES), generator=torch.Generator().manual_seed(0))
    again = run(part, Planted(large, lambda tokens, factors: noisy(tokens, factors, order)), large).metrics
    for name, value in expected.items():
        assert again[name] == pytest.approx(value, abs=1e-9, nan_ok=True), name


@pytest.mark.parametrize("size", [0.0, 1e-4])
def test_a_detector_that_does_nothing_is_no_detector(part, few_stories, size):
    """Idle neurons that know every value, next to a few active ones that know less."""
    in_use = 8

    def with_idle(tokens, factors):
        return torch.cat([noisy(tokens, factors)[:, :in_use], values(tokens, factors)], 1)

    written = {**dict.fromkeys(range(in_use), 1.0), **dict.fromkeys(range(in_use, in_use + sum(SIZES)), size)}
    found = run(part, Planted(few_stories, with_idle, written), few_stories).metrics
    expected = run(part, Planted(few_stories, lambda *given: noisy(*given)[:, :in_use]), few_stories).metrics
    for name in NAMES:
        assert of_site(found, name) == pytest.approx(of_site(expected, name), nan_ok=True)


def test_a_run_on_another_edition_is_refused_by_name(few_stories, tmp_path):
    own, tokens = GRAMMAR.tokenizer(), few_stories.packed.manifest["arrays"]["tokens"]["sha256"]
    few_stories.require(own, None, tmp_path)
    few_stories.require(own, tokens, tmp_path)
    other = GRAMMAR.tokenizer()
    other.add_tokens(["zebra"])
    for tokenizer, digest in ((other, None), (own, "0" * 64)):
        with pytest.raises(ValueError, match=r"another text than .* built-in corpus \(edition 2\) generates: train it"):
            few_stories.require(tokenizer, digest, tmp_path)


def test_scores_by_hand():
    """Two strata of four tokens; the value holds in half of the first and in all of the second."""
    stratum = np.array([0, 0, 0, 0, 1, 1, 1, 1])
    value = np.array([1, 1, 0, 0, 1, 1, 1, 1])
    labelled = Labelled(stratum, value[:, None], 2)
    assert labelled.counts.tolist() == [2, 6]
    assert labelled.unsure == pytest.approx([1, 1])
    exact, wrong, table = value, 1 - value, np.array([0, 0, 0, 0, 1, 1, 1, 1])
    half = np.array([1, 0, 0, 0, 0, 0, 0, 0])
    f1 = labelled.f1(one_hot_columns(exact, wrong, table, half))[1]
    # exact: 6 hits, 5 by chance (1 of 2 in the first stratum), at most 6; half: 1 hit, 0.5 by chance, at most 3.5
    assert f1 == pytest.approx([1, -1 / (4 - 1), 0, (1 - 0.5) / (3.5 - 0.5)])


def one_hot_columns(*columns):
    tokens = np.stack(columns, 1)
    return one_hot(np.arange(tokens.shape[1])[None], tokens.shape[1]).multiply(tokens).tocsr()


def test_information_is_that_of_the_strata():
    generator = np.random.default_rng(0)
    stratum = generator.integers(0, 5, 20000)
    value = (generator.random(20000) < 0.5).astype(int)
    flipped = np.where(generator.random(20000) < 0.1, 1 - value, value)
    labelled = Labelled(stratum, value[:, None], 2)
    on = one_hot(flipped[:, None], 2)
    expected = 1 + (0.1 * np.log(0.1) + 0.9 * np.log(0.9)) / np.log(2)  # a binary symmetric channel
    found = labelled.information_of(on, np.array([False, True]))
    assert np.isnan(found[0])
    assert found[1] == pytest.approx(expected, abs=0.01)
    assert labelled.information_of(one_hot(stratum[:, None] % 2, 2), np.array([False, True]))[1] == pytest.approx(0)


def test_shuffling_stays_within_strata_and_is_a_permutation():
    stratum = np.random.default_rng(1).integers(0, 9, 500)
    labelled = Labelled(stratum, stratum[:, None], 9)
    assert (stratum[labelled.shuffled] == stratum).all()
    assert sorted(labelled.shuffled) == list(range(500))
    assert (labelled.shuffled != np.arange(500)).mean() > 0.9


def test_one_definition_of_on_for_every_network():
    """The top of the activations, but not all zeros of a ReLU; clipping does not change the positive sign."""
    generator = torch.Generator().manual_seed(0)
    gelu = torch.nn.functional.gelu(torch.randn(4000, 1, generator=generator))
    rare = (torch.randn(4000, 1, generator=generator) - 2).relu()
    often = (torch.arange(4000)[:, None] % 2).float()
    acts = torch.cat([gelu, gelu.clamp_min(0), rare, often], 1)
    tails = Tails(Calibration.of(acts), (0.05, 0.01), 4000)
    tails.update(acts, np.arange(4000))
    on = tails.on(np.arange(4000), 0).toarray()
    assert on[:, 0].mean() == pytest.approx(0.05, abs=0.002)
    assert (on[:, 0] == on[:, 1]).all()
    assert (on[:, 2] == (rare[:, 0] > 0).numpy()).all()
    assert (on[:, 3] == often[:, 0].numpy()).all()
    assert (on[:, 4 + 3] == 1 - often[:, 0].numpy()).all()
    assert not on[:, 4 + 2].any()  # an inactive ReLU carries no information
    assert tails.on(np.arange(4000), 1).toarray()[:, 0].mean() == pytest.approx(0.01, abs=0.002)


def test_an_effect_on_the_values_tokens_alone_is_specific(few_stories):
    knowledge = Knowledge(few_stories, GRAMMAR, fewest=5, least_entropy=0.05, covered=0.5)
    places = knowledge.measured_on[:400]
    counted = knowledge.counted
    assert counted.sum() > 10
    carried = knowledge.measure.values[:400].toarray().T[counted]
    everywhere = np.ones_like(carried)
    pair = last_two(few_stories.packed)[places]
    table = np.sin(pair)[None].repeat(len(carried), 0) ** 2
    assert specificity(knowledge, places, carried * 0.3, counted)[carried.any(1)] == pytest.approx(1)
    assert (specificity(knowledge, places, 0 * carried, counted) == 0).all()
    assert (specificity(knowledge, places, (1 - carried) * 0.3, counted)[carried.any(1)] <= 0).all()
    for effect in (everywhere, table):  # nothing beyond the last two tokens, except which stories these are
        assert abs(specificity(knowledge, places, effect, counted).mean()) < 0.1


def test_the_effect_of_a_neuron_is_what_its_absence_changes(make_net, few_stories):
    net = make_net(vocab_size=few_stories.packed.manifest["vocab_size"], context=256)
    chunk = odd_stories(few_stories, 150)
    assert (chunk.stories % 2 == 1).all()
    site, neurons, means = "blocks.0.mlp.post", torch.tensor([3, 0, 9]), torch.tensor([0.5, -1, 2])
    effect = divergences(net, net.logits, chunk, site, neurons, means, 2, lambda text: None)
    with torch.no_grad():
        whole = net(chunk.batch.tokens, chunk.batch.stories)
        for row, (neuron, mean) in enumerate(zip(neurons, means, strict=True)):

            def without(name, activation, neuron=neuron, mean=mean):
                if name == site:
                    activation = activation.clone()
                    activation[:, neuron] = mean
                return activation

            hidden = net(chunk.batch.tokens, chunk.batch.stories, without)
            before, after = (net.logits(each).log_softmax(-1) for each in (whole, hidden))
            expected = torch.nn.functional.kl_div(after, before, reduction="none", log_target=True).sum(1)
            torch.testing.assert_close(effect[row], expected.clamp_min(0), atol=1e-6, rtol=1e-3)


def test_a_neuron_without_effect_has_no_causal_score(config, make_net, few_stories):
    """Neurons that write nothing know as much as before, but cause nothing."""
    net = make_net(vocab_size=few_stories.packed.manifest["vocab_size"], context=256)
    for block in net.blocks:
        torch.nn.init.zeros_(block.mlp.out.weight)
    found = run(made(config, "ground_truth", causal_tokens=300, bins=8), net, few_stories).metrics
    assert found["causal_f1/mlp.post/mean"] == 0
    assert found["causal_share/mlp.post/mean"] == 0
    assert np.isfinite(found["context_f1/mlp.post/mean"])
