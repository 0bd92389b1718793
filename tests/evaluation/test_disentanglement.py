"""The part on networks whose codes and whose use of them are known."""

import numpy as np
import pytest
import torch
from hydra.utils import instantiate

from tests.evaluation.planted import made, run
from tti.data import sentences
from tti.data.sentences import FACTORS, TABLE
from tti.evaluation import disentanglement
from tti.evaluation.base import Subject
from tti.evaluation.disentanglement import changes, taken, traversals
from tti.evaluation.stories import StorySet
from tti.evaluation.writing import Writing, bleu

SMALL = {"learned": 300, "measured": 150, "fitted": 100, "written": 20, "moved": 12, "shown": 2}


@pytest.fixture(scope="module")
def stories(compose):
    sizes = ["data.corpus.train=50", "data.corpus.validation=30", "data.corpus.test=10", "data.stories_per_step=6"]
    return StorySet(instantiate(compose("model=autoencoder", "data=sentences", *sizes).data), "validation", 2000)


@pytest.fixture(scope="module")
def net(make_net, stories):
    size = stories.packed.manifest["vocab_size"]
    return make_net("model=autoencoder", "model.latent=3", vocab_size=size, n_layers=1)


class Ideal(Writing):
    """Codes that are the numbers of the first three factors, and a decoder that reads them exactly."""

    def __init__(self, table, names):
        self.table, self.names = table, names

    def write(self, code):
        texts = []
        for row in code:
            values = dict(sentences.values_of(self.table[0]))
            for name, number in zip(self.names, row, strict=True):
                known = TABLE[name]
                values[name] = known[int(np.clip(np.rint(number), 0, len(known) - 1))]
            texts.append(sentences.write(values))
        return texts


def table_of(count):
    return taken(sentences.drawn(3, "validation"), count)


def test_moving_an_ideal_latent_changes_its_factor_and_no_other():
    table, names = table_of(200), ("tense", "agent", "order")
    columns = [list(TABLE).index(name) for name in names]
    writing, code = Ideal(table, names), table[:, columns].astype(float)
    change, parsed = changes(writing, code, np.eye(3), 50)
    wanted = np.zeros((3, len(TABLE)))
    wanted[range(3), columns] = 1
    assert parsed == 1
    assert np.array_equal(change, wanted)


def test_moving_a_direction_of_two_latents_changes_both_factors():
    table, names = table_of(200), ("agent", "place")
    columns = [list(TABLE).index(name) for name in names]
    both = np.array([[1.0, 1], [1, -1]]) / 2**0.5
    change, _ = changes(Ideal(table, names), table[:, columns].astype(float), both, 50)
    assert (change[:, columns] > 0.8).all()


def test_sentences_that_the_parser_rejects_count_as_not_parsed():
    class Mute(Ideal):
        def write(self, code):
            return ["The."] * len(code)

    change, parsed = changes(Mute(table_of(20), ("tense",)), np.random.rand(20, 1), np.eye(1), 12)
    assert parsed == 0
    assert np.isnan(change).all()


def test_traversals_start_low_and_end_high():
    table = table_of(100)
    texts = traversals(Ideal(table, ("agent",)), table[:, [list(TABLE).index("agent")]].astype(float), 2)
    agents = [sentences.parse(text)["agent"] for text in texts[0, 0]]
    numbers = [FACTORS["agent"].index(agent) for agent in agents]
    assert numbers == sorted(numbers)
    assert numbers[0] < 3 < 12 < numbers[-1]


@pytest.fixture
def changed(net):
    """Changes weights of the network, and restores them after the test."""
    before = {name: weight.clone() for name, weight in net.state_dict().items()}

    def scale(parameter, factor):
        with torch.no_grad():
            parameter.mul_(factor)

    yield scale
    net.load_state_dict(before)


def test_a_decoder_that_ignores_its_latent_loses_nothing_with_the_codes_of_others(config, net, stories, changed):
    changed(net.read[0].weight, 0)
    result = run(made(config, "disentanglement", **SMALL), net, stories)
    for name in ("loss", "token_accuracy", "bleu", "exact", "parsed"):
        assert result.metrics[name] == result.metrics[f"{name}_shuffled"], name


def test_every_score_stands_beside_its_ceilings_and_nulls(config, net, stories, changed):
    changed(net.mean.weight, 30)  # untrained, but active
    result = run(made(config, "disentanglement", **SMALL), net, stories)
    scores = [name for name in result.metrics if name.startswith("ceiling_scalar/")]
    assert len(scores) == 17
    for name in scores:
        score = name.removeprefix("ceiling_scalar/")
        assert {score, f"ceiling_one_hot/{score}", f"rotated/{score}", f"shuffled/{score}"} <= result.metrics.keys()
    assert result.metrics["ceiling_scalar/mig"] == pytest.approx(1, abs=0.1)
    assert result.metrics["kl"] == pytest.approx(result.arrays["latent/kl"].values.sum(), rel=1e-4)
    assert result.arrays["intervention/change"].values.shape == (3, len(TABLE))
    assert result.arrays["traversal/text"].values.shape == (2, 3, 7)
    assert result.arrays["traversal/written"].values.shape == result.arrays["traversal/original"].values.shape == (2,)


def test_a_code_without_an_active_latent_has_no_scores_and_says_so(config, net, stories, changed):
    changed(net.mean.weight, 0)
    result = run(made(config, "disentanglement", **SMALL), net, stories)
    assert result.metrics["active_units"] == 0
    assert "mig" not in result.metrics
    assert "says nothing" in result.notes["collapsed"]


def test_dependent_factors_are_refused(config, net, stories, monkeypatch):
    real = sentences.drawn
    monkeypatch.setattr(disentanglement.sentences, "drawn", lambda seed, split: (_copy(b) for b in real(seed, split)))
    with pytest.raises(ValueError, match="tense and polarity depend on each other"):
        run(made(config, "disentanglement", **SMALL), net, stories)


def _copy(block):
    block[:, 1] = block[:, 0]
    return block


def test_it_is_for_autoencoders_of_sentences(config, make_net, stories, few_stories):
    part = made(config, "disentanglement")
    gpt = make_net(vocab_size=200)
    assert "no latent" in part.inapplicable(Subject("trained", gpt, stories))
    auto = make_net("model=autoencoder", vocab_size=200)
    assert "no table of factors" in part.inapplicable(Subject("trained", auto, few_stories))


def test_bleu_is_100_for_equal_sentences_and_less_for_others():
    texts = ["The glad doctor carried the lamp .", "At dawn the sad baker hid the book ."]
    assert bleu(texts, texts) == pytest.approx(100)
    assert bleu([texts[0], texts[0]], texts) < 80
