"""Ground truth on sentences: planted neurons that know a factor, look up a word, or know nothing."""

import numpy as np
import pytest
import torch
from hydra.utils import instantiate

from tests.evaluation.planted import SITE, Planted, made, run
from tti.data.ceilings import ceilings
from tti.data.sentences import FACTORS, PAIR
from tti.evaluation.stories import StorySet

AGENTS = len(FACTORS["agent"])


@pytest.fixture(scope="module")
def stories(compose):
    overrides = ["model=tiny", "data=sentences", "data.corpus.train=50", "data.corpus.validation=400"]
    return StorySet(instantiate(compose(*overrides).data), "validation", 2048)


@pytest.fixture(scope="module")
def part(config):
    return made(config, "ground_truth", sites=SITE, causal_tokens=0, bins=8)


def knows_agents(tokens, agent):
    return torch.nn.functional.one_hot(agent.long(), AGENTS).float()


def scores(part, stories, plant):
    result = run(part, Planted(stories, plant, array="agent"), stories)
    return {name.removesuffix("/mlp.post/mean"): value for name, value in result.metrics.items()}


def test_neurons_that_know_a_factor_score_1_in_it_and_chance_in_the_others(part, stories):
    found = scores(part, stories, knows_agents)
    assert found["f1_agent"] == found["context_f1_agent"] == pytest.approx(1)
    others = [name for name in FACTORS if name != "agent"]
    assert max(found[f"f1_{name}"] for name in others if len(FACTORS[name]) > 2) < 0.3
    assert max(abs(found[f"context_f1_{name}"]) for name in others) < 0.1
    assert found["coverage"] > AGENTS / sum(map(len, FACTORS.values())) - 0.01


def test_a_word_is_found_where_it_stands_and_no_further(part, stories):
    ids = stories.packed.tokenizer().get_vocab()
    words = torch.tensor([ids[f"Ġ{agent}"] for agent in FACTORS["agent"]])
    found = scores(part, stories, lambda tokens, agent: (tokens[:, None] == words).float())
    length = stories.lengths.mean()  # a detector of the word hits one token of the sentence: F1 = 2 / (1 + length)
    assert found["f1_agent"] == pytest.approx(2 / (1 + length), rel=0.02)
    assert found["context_f1_agent"] == pytest.approx(0, abs=1e-6)


def test_neurons_of_other_sentences_know_nothing(part, stories):
    noise = torch.Generator().manual_seed(0)
    found = scores(
        part, stories, lambda tokens, agent: torch.randint(2, (1, 8), generator=noise).expand(len(tokens), -1) * 1.0
    )
    assert abs(found["f1_above_chance"]) < 0.05


def test_the_ideal_reader_of_a_sentence_knows_every_factor_and_one_token_does_not(stories):
    found = ceilings(stories.packed, stories.truth)
    assert np.nanmin(found.f1["context"]) == 1
    assert np.nanmean(found.f1["token"]) < 0.5
    assert np.isnan(found.floor.nats)
    assert stories.truth.held_out(np.asarray(stories.truth.labels(stories.packed))).any()
    assert set(PAIR) <= set(FACTORS)
