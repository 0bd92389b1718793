"""Planted layers are what their recipe says."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tti.court.bench import Bench, Layer, layers
from tti.court.plan import Plan
from tti.court.planting import Planting, best_types, quarter_turn
from tti.court.recipe import Recipe


@pytest.fixture(scope="module")
def bench(court_config):
    return Bench(court_config())


@pytest.fixture(scope="module")
def base(bench):
    return Plan.of(bench.config.trial).base


@pytest.fixture(scope="module")
def planting(bench, base):
    """``planting(rotation=30)``: a planting with these dials turned."""

    def made(seed=0, **dials):
        recipe = base
        for dial, level in dials.items():
            recipe = recipe.turned(dial, level)
        return Planting(recipe, bench.config.trial.bands[recipe.frequency], bench._labels[0][1], seed)

    return made


@pytest.fixture(scope="module")
def labels(bench):
    return bench._labels[0][1]


@given(st.integers(1, 8), st.integers(0, 99), st.floats(0, 90))
@settings(max_examples=30, deadline=None)
def test_every_direction_turns_by_exactly_the_angle(half, seed, angle):
    turned = quarter_turn(2 * half, np.random.default_rng(seed))
    radians = np.radians(angle)
    rotation = np.cos(radians) * np.eye(2 * half) + np.sin(radians) * turned
    assert np.allclose(rotation @ rotation.T, np.eye(2 * half))
    assert np.allclose(np.diag(rotation), np.cos(radians))


def test_a_neuron_is_on_where_its_value_holds(planting, labels):
    planted = planting(noise=0.0)
    assert np.array_equal(planted.layer(labels, 0) > 0.5, labels.values[:, planted.own])


@pytest.mark.parametrize("dials", [{"rotation": 40.0}, {"scale": 10.0}, {"offset": 0.3}, {"duplication": 2}])
def test_what_keeps_the_function_changes_no_logit(planting, bench, labels, dials):
    """Without noise, the planted values are read from the layer exactly."""
    expected = planting().features(labels, 0)
    planted = planting(noise=0.0, **dials)
    read = (planted.layer(labels, 0) - planted.offset) @ planted.decoding
    assert np.allclose(read, expected, atol=1e-4)
    assert np.array_equal(planted.effects(9), planting().effects(9))


def test_truth_is_the_share_of_a_neuron_on_its_own_value(planting, base):
    for angle in (0.0, 30.0, 90.0):
        own = np.diag(planting(rotation=angle).mixing)
        assert np.allclose(own**2, base.turned("rotation", angle).truth, atol=1e-6)
    assert base.turned("union", 4).truth == 1 / 4
    assert base.turned("control", "noise").truth == 0
    assert base.turned("scale", 10.0).truth == base.turned("density", 0.0).truth == 1


def test_a_union_fires_for_any_of_its_values(planting, labels):
    planted = planting(union=3, noise=0.0)
    for neuron, members in enumerate(planted.members):
        assert len(set(members)) == 3
        assert all(labels.factor[other] != labels.factor[members[0]] for other in members[1:])
        assert set(members) <= set(planted.own)
        assert np.array_equal(planted.layer(labels, 0)[:, neuron] > 0.5, labels.values[:, members].any(1))


def test_a_lexical_neuron_is_a_function_of_the_token(planting, labels):
    fires = planting(lexical=1.0).features(labels, 0)
    for types in (labels.tokens == token for token in np.unique(labels.tokens)):
        assert (fires[types].std(0) == 0).all()


def test_the_best_types_are_at_least_as_good_as_any_single_one(labels):
    for value in range(0, labels.values.shape[1], 9):
        carries, said = labels.values[:, value], np.isin(labels.tokens, best_types(labels, value))
        singles = [2 * (carries & one).sum() / max(carries.sum() + one.sum(), 1)
                   for one in (labels.tokens == token for token in np.unique(labels.tokens))]  # fmt: skip
        assert 2 * (carries & said).sum() / (carries.sum() + said.sum()) >= max(singles) - 1e-9


def test_other_dials_do_what_they_say(planting, labels):
    whole = planting().features(labels, 0)
    absorbed = planting(absorption=1.0).features(labels, 0)
    assert ((absorbed <= whole).all(), (absorbed.sum(0) < whole.sum(0)).mean() > 0.8) == (True, True)
    assert len(set(planting(redundancy=0.5).own)) == len(whole[0]) // 2
    assert planting(superposition=2).layer(labels, 0).shape[1] == len(whole[0]) // 2
    shuffled = planting(control="shuffled").features(labels, 0)
    assert np.array_equal(shuffled.sum(0), whole.sum(0))
    assert not planting(control="noise").features(labels, 0).any()
    assert (planting(density=0.0).layer(labels, 0) == 0).mean() == pytest.approx(1 - whole.mean())


def test_turning_a_dial_redraws_nothing_else(planting):
    for dials in ({"rotation": 30.0}, {"union": 2}, {"density": 0.0}, {"tokens": 0.5}):
        assert np.array_equal(planting().own, planting(**dials).own)
    assert not np.array_equal(planting().own, planting(seed=1).own)


def test_the_network_runs_its_own_stories_in_any_order_and_no_others(bench, base):
    net = bench.plant(Layer(base, 0, 0))
    chunk = next(iter(bench.stories))
    hidden = net(chunk.batch.tokens, chunk.batch.stories)
    again = net(chunk.batch.tokens.repeat(2), chunk.batch.stories.repeated(2))
    assert torch.equal(again, hidden.repeat(2, 1))
    with pytest.raises(ValueError, match="whole stories only"):
        net(chunk.batch.tokens.flip(0), chunk.batch.stories)


def test_halves_part_the_stories_and_a_correlation_chooses_among_them(bench, base):
    first, second = (bench._seen(Layer(base, 0, half)).members for half in (0, 1))
    assert sorted([*first, *second]) == list(range(len(bench.stories.packed)))
    few = bench._seen(Layer(base.turned("tokens", 0.5), 0, 0)).members
    assert set(few) < set(first)
    chosen = bench._seen(Layer(base.turned("correlation", 1.0), 0, 0)).members
    anyhow = bench._seen(Layer(base.turned("correlation", 0.0), 0, 0)).members
    assert len(chosen) == len(anyhow)
    assert bench._related[chosen].mean() > bench._related[anyhow].mean()
    assert len(list(layers([base], [0, 1]))) == 4


def test_a_recipe_that_cannot_be_planted_is_refused_in_a_line(base, planting, court_config):
    with pytest.raises(ValueError, match=r"^trial\.planted\.values=15 must be a multiple of twice"):
        base.turned("values", 15)
    with pytest.raises(ValueError, match=r"no dial 'colour'; there are: values, .*control"):
        base.turned("colour", 1)
    with pytest.raises(ValueError, match=r"no control 'nothing'; there are: none, shuffled, noise"):
        base.turned("control", "nothing")
    with pytest.raises(ValueError, match=r"too few for trial\.planted\.values=200: plant fewer, or widen"):
        planting(values=200)
    with pytest.raises(ValueError, match="union=17 needs as many unrelated values"):
        planting(union=17)
    with pytest.raises(ValueError, match="must begin with a dial whose last level has a dose of 1"):
        Plan.of(court_config("trial.doses.rotation=[45]").trial)


def test_the_key_of_a_layer_is_json(base):
    assert Recipe(**Layer(base, 1, 0).key["recipe"]) == base
