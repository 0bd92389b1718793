"""Probes of planted activations reach the known scores; floors are exact; nothing leaks between stories."""

import numpy as np
import pytest
import torch

from tests.evaluation.planted import SITE, Planted, made, run
from tti.data.grammar import StoryGrammar
from tti.evaluation.probes import Examples, best_threshold, held_out, most_different, standardised

GRAMMAR = StoryGrammar()
ROLE = list(GRAMMAR.factors).index("role")
ROLES = len(GRAMMAR.factors["role"])
MIXING = torch.linalg.qr(torch.randn(ROLES, ROLES, generator=torch.Generator().manual_seed(0)))[0]


def noise(tokens, factors):
    return torch.randn(len(tokens), ROLES, generator=torch.Generator().manual_seed(int(tokens.sum())))


def one_hot(tokens, factors):
    return torch.nn.functional.one_hot(factors[:, ROLE].long(), ROLES) + 0.1 * noise(tokens, factors)


def mixed(tokens, factors):
    return one_hot(tokens, factors) @ MIXING


def found(config, stories, plant):
    part = made(config, "factor_probes", sites=SITE, sparse_sites=SITE, tokens=2000, story_tokens=8000)
    part.labels = type(part.labels)(["role"])
    return run(part, Planted(stories, plant), stories)


@pytest.fixture(scope="module")
def planted(config, grammar_stories):
    return {plant: found(config, grammar_stories, plant) for plant in (one_hot, mixed, noise)}


def metric(result, name):
    return result.metrics[f"{name}/mlp.post/layer_0"]


def test_a_neuron_for_each_class_is_read_by_one_neuron(planted):
    for name in ("accuracy", "macro_f1", "sparse_1_f1", "sparse_5_f1"):
        assert metric(planted[one_hot], name) == 1
    neurons = planted[one_hot].arrays[f"{SITE}/sparse_1_neuron"].values[:, 0]
    assert all(neuron in (-1, number) for number, neuron in enumerate(neurons))
    assert (neurons >= 0).sum() > 5


def test_a_rotation_of_them_by_all_but_not_by_one(planted):
    assert metric(planted[mixed], "accuracy") == metric(planted[one_hot], "accuracy") == 1
    assert metric(planted[mixed], "macro_f1") == 1
    assert metric(planted[mixed], "sparse_1_f1") < 0.9
    assert metric(planted[mixed], "sparse_1_f1") < metric(planted[mixed], "sparse_5_f1")


def test_noise_reaches_the_floor_and_no_more(planted):
    result = planted[noise]
    assert metric(result, "accuracy") == pytest.approx(result.metrics["majority_accuracy"], abs=0.03)
    assert metric(result, "sparse_1_f1") == pytest.approx(result.metrics["always_f1"], abs=0.05)
    assert abs(metric(result, "control_selectivity")) < 0.1


def test_what_is_planted_beats_its_control_and_the_input_token_by_what_that_lacks(planted):
    result = planted[one_hot]
    assert metric(result, "accuracy_above_type") == pytest.approx(1 - result.metrics["type_accuracy"])
    assert metric(result, "control_selectivity") == pytest.approx(1 - metric(result, "control_accuracy"))
    assert metric(result, "control_selectivity") > 0.2


def test_arrays_agree_with_the_metrics(planted):
    for result in planted.values():
        confusion = result.arrays[f"{SITE}/confusion/role"].values
        assert confusion.sum() == result.metrics["test_tokens"]
        assert np.trace(confusion) / confusion.sum() == pytest.approx(metric(result, "accuracy"))
        f1 = result.arrays[f"{SITE}/class_f1"].values
        assert np.nanmean(f1) == pytest.approx(metric(result, "macro_f1"), abs=1e-6)
        enough = [result.arrays[f"class/{part}"].values >= 10 for part in ("train", "test")]
        assert (np.isfinite(f1) == (enough[0] & enough[1])).all()
        assert result.arrays["class/test"].values.tolist() == confusion.sum(1).tolist()


def test_stories_are_on_one_side_and_tokens_as_many_as_asked_for(planted, grammar_stories):
    metrics = planted[noise].metrics
    drawn = len(grammar_stories.subset(8000).members)
    assert metrics["train_stories"] + metrics["test_stories"] == drawn  # a story on both sides would count twice
    assert metrics["test_stories"] == round(0.2 * drawn)
    assert metrics["train_tokens"] + metrics["test_tokens"] == 2000


def test_held_out_is_a_fraction_one_at_least_never_all_and_always_the_same():
    stories = np.arange(100, 200)
    assert len(held_out(stories, 0.2)) == len(set(held_out(stories, 0.2))) == 20
    assert set(held_out(stories, 0.2)) <= set(stories)
    assert (held_out(stories, 0.2) == held_out(stories, 0.2)).all()
    assert [len(held_out(stories[:2], fraction)) for fraction in (0.01, 0.99)] == [1, 1]


def examples(labels, types, test, classes=("a", "b", "c"), ambiguous=0.05, fewest=1):
    labels = torch.as_tensor(labels)[:, None]
    return Examples({"task": classes}, labels, torch.as_tensor(types), torch.as_tensor(test).bool(), ambiguous, fewest)


def test_what_tells_stories_apart_is_worth_nothing_on_other_stories():
    generator = torch.Generator().manual_seed(0)
    story = torch.arange(40).repeat_interleave(25)
    labels = torch.randint(2, (40,), generator=generator)[story]
    acts = torch.nn.functional.one_hot(story).float()
    types = torch.zeros(1000).long()
    of_stories = examples(labels, types, torch.isin(story, torch.from_numpy(held_out(np.arange(40), 0.2))), "ab")
    leaky = examples(labels, types, torch.arange(1000) % 5 == 0, "ab")
    scores = [each.dense(standardised(acts, each.train), 1.0)[0]["accuracy"] for each in (of_stories, leaky)]
    assert scores[0] == of_stories.floors()["majority_accuracy"]
    assert scores[1] == 1


def test_the_input_tokens_baseline_by_hand():
    #        training: type 0 is a a b, type 1 is c c c;       test: types 0 0 1 2
    labels = [0, 0, 1, 2, 2, 2, 0, 1, 2, 2]
    toy = examples(labels, [0, 0, 0, 1, 1, 1, 0, 0, 1, 2], [0] * 6 + [1] * 4)
    assert toy.by_type[:, 0].tolist() == [0, 0, 0, 2, 2, 2, 0, 0, 2, 2]  # type 2 was never seen: most frequent is c
    assert toy.is_ambiguous[:, 0].tolist() == [True] * 3 + [False] * 3 + [True, True, False, False]
    floors = toy.floors()
    assert floors["type_accuracy"] == 3 / 4
    assert floors["type_accuracy_ambiguous"] == 1 / 2
    assert floors["ambiguous"] == 1 / 2
    assert floors["majority_accuracy"] == 1 / 2


def test_the_control_gives_a_type_one_class_and_classes_their_frequency():
    generator = torch.Generator().manual_seed(0)
    labels = torch.multinomial(torch.tensor([0.7, 0.2, 0.1]), 20_000, replacement=True, generator=generator)
    types = torch.randint(5000, (20_000,), generator=generator)
    toy = examples(labels, types, torch.arange(20_000) % 5 == 0)
    control = toy.control[:, 0]
    table = torch.zeros(5000).long()
    table[types] = control
    assert (table[types] == control).all()
    share = torch.bincount(control, minlength=3) / len(control)
    assert share.tolist() == pytest.approx([0.7, 0.2, 0.1], abs=0.02)
    assert (toy.control == examples(labels, types, torch.arange(20_000) % 7 == 0).control).all()


def test_a_control_that_the_activations_hold_is_learnt():
    types = torch.randint(30, (4000,), generator=torch.Generator().manual_seed(0))
    labels = (types % 3 + (torch.arange(4000) % 11 == 0)) % 3
    toy = examples(labels, types, torch.arange(4000) % 5 == 0)
    metrics, _ = toy.dense(standardised(torch.nn.functional.one_hot(types).float(), toy.train), 0.1)
    assert metrics["control_accuracy"] == 1
    assert metrics["control_selectivity"] == metrics["accuracy"] - 1 < 0
    assert metrics["accuracy"] == pytest.approx(toy.floors()["type_accuracy"])


def test_the_threshold_is_the_best_of_all_and_never_between_equals():
    generator = torch.Generator().manual_seed(0)
    scores = torch.randint(12, (5, 200), generator=generator).float()
    labels = torch.rand(5, 200, generator=generator) < scores / 20
    threshold = best_threshold(scores, labels)
    for row, yes, cut in zip(scores, labels, threshold, strict=True):

        def f1(cut, row=row, yes=yes):
            said = row > cut
            return 2 * float((said & yes).sum()) / float(said.sum() + yes.sum())

        assert f1(cut) == max(f1(each - 0.5) for each in range(12))


def test_neurons_are_ordered_by_their_difference_of_means():
    acts = torch.tensor([[1.0, 0, -3], [1, 0.5, -3], [0, 0, 0], [0, 0, 0]])
    assert most_different(acts, torch.tensor([[True, True, False, False]]), 3).tolist() == [[2, 0, 1]]


def test_a_site_that_is_no_number_is_left_out_and_said(config, grammar_stories):
    result = found(config, grammar_stories, lambda tokens, factors: one_hot(tokens, factors) / 0)
    assert SITE in result.notes["left out"]
    assert "type_accuracy" in result.metrics
    assert not any(name.startswith("accuracy/") for name in result.metrics)


def test_an_unknown_factor_is_an_error_that_lists_them(config):
    with pytest.raises(Exception, match="no factor mood; it has hero, number, tense"):
        made(config, "factor_probes", labels={"factors": ["mood"]})
