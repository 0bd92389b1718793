"""If only some tokens are in the loss, parts see only these."""

import numpy as np
import pytest
import torch

from tests.evaluation.planted import made, run
from tti.data.corpora import GrammarCorpus
from tti.data.module import StoryData
from tti.evaluation.contexts import Windows
from tti.evaluation.stories import StorySet
from tti.models.stories import Separate
from tti.models.taps import Recorder

SITE = "blocks.0.mlp.post"


class Answers(GrammarCorpus):
    """Two of three tokens are in the loss."""

    def identity(self, split):
        return super().identity(split) | {"answers": True}

    def _portions(self, split):
        for portion in super()._portions(split):
            yield [story | {"answer": (np.arange(len(story["tokens"])) % 3 > 0).astype(np.uint8)} for story in portion]


@pytest.fixture(scope="module")
def stories(cache_dir):
    corpus = Answers(train=20, validation=12, test=5, seed=0, cache_dir=str(cache_dir))
    data = StoryData(corpus, 4, 256, 500, Separate.of, seed=0, num_workers=0, scored="answer")
    return StorySet(data, "validation", 500)


@pytest.fixture(scope="module")
def net(make_net, stories):
    return make_net(vocab_size=stories.packed.manifest["vocab_size"], context=256)


@pytest.fixture(scope="module")
def expected(net, stories):
    """Loss and activations at the tokens in the loss, story by story."""
    nll, acts = [], []
    packed = stories.packed
    for i in range(len(packed)):
        tokens = torch.from_numpy(packed.tokens[packed.offsets[i] : packed.offsets[i + 1]].astype(int))
        recorder = Recorder([SITE])
        with torch.no_grad():
            hidden = net(tokens[:-1], Separate.of([len(tokens) - 1]), recorder)
            each = torch.nn.functional.cross_entropy(net.logits(hidden), tokens[1:], reduction="none")
        rows = torch.arange(len(tokens) - 1) % 3 > 0
        nll.append(each[rows])
        acts.append(recorder.activations[SITE][rows])
    return torch.cat(nll), torch.cat(acts)


def test_performance_and_activations_are_those_of_the_tokens_in_the_loss(config, net, stories, expected):
    nll, acts = expected
    found = run(made(config, "performance", resamples=5), net, stories)
    assert found.metrics["tokens"] == len(nll) == stories.tokens
    assert found.metrics["loss"] == pytest.approx(nll.mean().item(), rel=1e-5)
    assert found.arrays["position/tokens"].values[::3].sum() == 0
    table = run(made(config, "utilisation", sites=SITE), net, stories).arrays
    np.testing.assert_allclose(table[f"{SITE}/neuron/mean"].values, acts.mean(0), atol=1e-6)


@pytest.mark.parametrize("name", ["geometry", "selectivity", "contexts", "ground_truth", "causality", "sae"])
def test_parts_that_work_token_by_token_take_such_a_split(config, net, stories, name):
    small = {
        "causality": {"neurons": 2, "tokens": 200},
        "sae": {"tokens": 300, "measured_tokens": 300, "fit": {"batch": 64, "passes": 1}},
    }
    result = run(made(config, name, **small.get(name, {})), net, stories)
    for key, array in result.arrays.items():
        if key.endswith("top_place"):
            offsets = stories.packed.offsets
            story = np.searchsorted(offsets, array.values, "right") - 1
            assert ((array.values - offsets[story])[array.values >= 0] % 3 > 0).all()


def test_a_window_holds_what_stands_around_a_token_and_no_row_from_beyond_a_gap():
    story, places = torch.tensor([0, 0, 0, 1, 1]), torch.tensor([4, 5, 7, 20, 21])
    around, within = Windows(story, places, torch.arange(-1, 2)).around(torch.tensor([1, 2, 3]))
    assert around[0].tolist() == [0, 1, 2]
    assert within.tolist() == [[True, True, False], [False, True, False], [False, True, True]]


def test_added_neurons_answer_to_all_tokens_and_change_nothing(config, net, stories):
    result = run(made(config, "gaming", tokens=500), net, stories)
    assert result.metrics["decoys/logit_difference"] < 1e-6
