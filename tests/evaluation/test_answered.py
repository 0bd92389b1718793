"""Neurons that know an answer, and neurons that only separate the tasks: planted layers with known scores."""

import numpy as np
import pytest
import torch
from hydra.utils import instantiate

from tests.evaluation.planted import SITE, Planted, made, run
from tti.data.tasks import ANSWERED
from tti.evaluation.answered import detected
from tti.evaluation.base import Subject
from tti.evaluation.stories import StorySet

RATES = [0.03, 0.07, 0.2, 0.34, 0.5]
SAD, GIRL = ANSWERED.index("feeling=sad"), ANSWERED.index("hero=girl|boy")


def items(each=40):
    value = np.repeat(np.arange(len(ANSWERED)), each)
    return value, np.arange(len(value)) % 2 == 1


def neurons(*columns):
    return torch.from_numpy(np.stack(columns, 1).astype(np.float32))


def noise(n, seed=0):
    return np.random.default_rng(seed).normal(size=n)


def test_a_detector_of_one_answer_is_found_whatever_its_sign():
    value, odd = items()
    acts = neurons(noise(len(value)), value == SAD, -(value == GIRL).astype(float))
    found = detected(acts, value, odd, RATES)
    assert found.f1[[SAD, GIRL]].tolist() == [1, 1]
    assert found.neuron[[SAD, GIRL]].tolist() == [1, 2]
    others = [each for each in range(len(ANSWERED)) if each not in (SAD, GIRL)]
    assert np.abs(found.f1[others]).mean() < 0.1


def test_a_detector_of_a_task_or_a_question_knows_nothing():
    value, odd = items()
    fact = value // 3
    found = detected(neurons(fact == 0, fact, fact >= 2), value, odd, RATES)
    np.testing.assert_allclose(found.f1, 0, atol=1e-9)


def test_a_detector_of_an_answer_word_knows_it_within_a_task_but_is_on_elsewhere():
    """Of N items, on at N/3; N/12 have the value, N/36 by chance: (1/12 - 1/36) / ((1/12 + 1/3) / 2 - 1/36) = 4/13."""
    value, odd = items()
    acts = neurons(value % 3 == 0)
    assert detected(acts, value, odd, RATES).f1[SAD] == pytest.approx(4 / 13)
    within = value // 3 == 0
    assert detected(acts[within], value[within], odd[within], RATES).f1[SAD] == pytest.approx(1)


def test_noise_scores_0_since_it_is_chosen_on_other_items():
    value, odd = items()
    acts = neurons(*(noise(len(value), seed) for seed in range(100)))
    assert abs(detected(acts, value, odd, RATES).f1.mean()) < 0.03


# -- the part ---------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def stories(compose):
    sizes = ["data.corpus.train=50", "data.corpus.validation=600", "data.corpus.test=10"]
    return StorySet(instantiate(compose("model=tiny", "data=grammar_tasks", *sizes).data), "validation", 4000)


def test_a_planted_layer_has_its_scores(config, stories):
    """Nine neurons for nine values, one for the answer "one", and one for a value that nothing reads."""

    def plant(tokens, answered):
        known = torch.eye(len(ANSWERED))[answered.long()][:, :9]
        return torch.cat([known, (answered % 3 == 0).float()[:, None], (answered == 11).float()[:, None]], 1)

    net = Planted(stories, plant, written=dict.fromkeys(range(10), 1.0), array="answered")
    found = run(made(config, "answered", sites=SITE, fewest=5), net, stories)
    metrics = {name: found.metrics[f"{name}/mlp.post/mean"] for name in ("f1_feeling", "f1_hero", "f1_within_hero")}
    assert metrics == pytest.approx({"f1_feeling": 1, "f1_hero": 1, "f1_within_hero": 1})
    f1, within = (found.arrays[f"{SITE}/answered_f1{kind}"].values for kind in ("", "_within"))
    assert f1[9] < 0.4  # "one" of the last fact
    assert within[9] == pytest.approx(1)
    assert f1[11] < 0.3  # its neuron is idle
    assert found.arrays[f"{SITE}/answered_neuron"].values[:9].tolist() == list(range(9))
    assert found.metrics["values"] == 12


def test_items_are_measured_at_the_mark_and_an_untrained_network_knows_nothing(config, make_net, stories):
    net = make_net(vocab_size=stories.packed.manifest["vocab_size"], context=256)
    found = run(made(config, "answered"), net, stories)
    assert found.notes["items"].startswith("600,")
    assert found.arrays["value/count"].values.sum() == 600
    for kind in ("mlp.post", "mlp_out"):
        assert abs(found.metrics[f"f1/{kind}/mean"]) < 0.1


def test_texts_without_questions_have_none(config, few_stories, make_net):
    subject = Subject("trained", make_net(), few_stories)
    assert "ask for no known facts (data=grammar_tasks does)" in made(config, "answered").inapplicable(subject)
