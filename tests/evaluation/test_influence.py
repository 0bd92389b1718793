"""Influence is the KL of ablation to second order, is 0 for neurons that nothing reads, and weights scores."""

import copy

import pytest
import torch
from scipy.stats import spearmanr

from tests.evaluation.planted import SITE, Planted, made, run
from tti.evaluation.base import Subject, unchanged
from tti.evaluation.causality import ablated, agreement
from tti.evaluation.influence import fraction_in_use, idle, influence, weighted, without
from tti.evaluation.run_through import Rotation
from tti.models.taps import Recorder

POST = ["blocks.0.mlp.post", "blocks.1.mlp.post"]


@pytest.fixture(scope="module")
def net(make_net, few_stories):
    """A network with active hidden neurons, of which the first three of a layer write nothing."""
    net = make_net(vocab_size=few_stories.packed.manifest["vocab_size"], context=256)
    with torch.no_grad():
        for block in net.blocks:
            block.mlp.inp.weight.mul_(8)
            block.mlp.out.weight.mul_(8)
            block.mlp.out.weight[:, :3] = 0
    return net


@pytest.fixture(scope="module")
def chunk(few_stories):
    return few_stories.drawn(4000)


@pytest.fixture(scope="module")
def estimate(net, chunk):
    return influence(net, net.logits, chunk, POST, unchanged, draws=16)


@pytest.mark.parametrize("site", POST)
def test_it_agrees_with_exact_ablation(net, chunk, estimate, site):
    recorder, neurons = Recorder([site]), torch.arange(0, 64, 3)
    with torch.no_grad():
        net(chunk.batch.tokens, chunk.batch.stories, recorder)
        means = recorder.activations[site].mean(0)[neurons]
        exact = ablated(net, chunk, site, neurons, means, at_once=4)[1]
    assert spearmanr(estimate[site][neurons], exact)[0] > 0.9
    assert float(estimate[site][neurons].sum() / exact.sum()) == pytest.approx(1, abs=0.1)


def test_a_neuron_that_writes_nothing_has_exactly_none(estimate):
    for site in POST:
        assert (estimate[site][:3] == 0).all()
        assert (estimate[site][3:] > 0).all()


def test_it_is_the_same_in_any_order_of_neurons_and_whatever_the_scale(net, chunk, estimate):
    """Influence of permuted hidden neurons, through a view; and its sum over all neurons under a rotation."""
    order = torch.randperm(64, generator=torch.Generator().manual_seed(0))
    permuted = influence(net, net.logits, chunk, POST, lambda site, acts: acts[:, order], draws=16)
    rotated = influence(net, net.logits, chunk, POST, Rotation(), draws=16)
    for site in POST:
        torch.testing.assert_close(permuted[site], estimate[site][order])
        assert (rotated[site] > 0).all()


def test_it_is_computed_once_for_all_parts(net, few_stories):
    subject = Subject("trained", net, few_stories, calibration=dict.fromkeys(POST))
    assert subject.influence is subject.influence
    assert subject.influence.keys() == set(POST)


def test_a_network_that_does_nothing_has_none(few_stories):
    planted = Planted(few_stories, lambda tokens, factors: torch.stack([tokens % 7, tokens % 3], 1).float(), {})
    found = influence(planted, planted.logits, few_stories.drawn(500), [SITE], unchanged)
    assert found[SITE].tolist() == [0, 0]


def test_a_weighted_mean_does_not_see_neurons_without_influence():
    scores, shares = torch.tensor([0.2, 0.6, torch.nan]), torch.tensor([1.0, 3.0, 4.0])
    assert weighted(scores, shares) == pytest.approx(0.25)
    more = torch.cat([scores, torch.tensor([1.0, torch.nan])])
    assert weighted(more, torch.cat([shares, torch.zeros(2)])) == pytest.approx(0.25)
    assert weighted(scores, torch.zeros(3)) == 0


def test_the_fraction_in_use_counts_neurons():
    assert fraction_in_use(torch.ones(8)) == pytest.approx(1)
    assert fraction_in_use(torch.tensor([2.0, 2, 0, 0])) == pytest.approx(0.5)
    assert fraction_in_use(torch.zeros(4)) == 0


def test_agreement_is_of_ranks_and_sums():
    found = agreement(torch.tensor([1.0, 2, 4]), torch.tensor([2.0, 3, 9]))
    assert found == {"influence_rank_correlation": pytest.approx(1), "influence_ratio": pytest.approx(0.5)}


def test_idle_detectors_move_plain_scores_and_no_weighted_one(config, few_stories):
    """Neurons that each respond to one token type and write nothing, added to neurons without any preference."""
    noise = torch.randn(60_000, 2, generator=torch.Generator().manual_seed(0))
    frequent = few_stories.type_counts.argsort(descending=True)[:6]
    frequent = torch.from_numpy(few_stories.types)[frequent]

    def honest(tokens, factors):
        return noise[(tokens * 89 + torch.arange(len(tokens)) * 7) % 60_000]

    def padded(tokens, factors):
        return torch.cat([honest(tokens, factors), (tokens[:, None] == frequent).float()], 1)

    def scores(plant, part):
        result = run(made(config, part, sites=SITE), Planted(few_stories, plant, {0: 0.5, 1: 0.3}), few_stories)
        return {name: value for name, value in result.metrics.items() if name.endswith("mean")}

    for part in ("selectivity", "utilisation"):
        before, after = scores(honest, part), scores(padded, part)
        weighted_ones = [name for name in before if "_weighted/" in name]
        assert weighted_ones
        for name in weighted_ones:
            assert after[name] == pytest.approx(before[name], rel=1e-5), name
        plain = [name.replace("_weighted/", "/") for name in weighted_ones]
        assert all(abs(after[name] - before[name]) > 0.01 for name in plain)


def test_where_predictions_are_undefined_so_is_all_influence_and_what_counts_by_it(net, chunk):
    broken = copy.deepcopy(net)
    with torch.no_grad():
        broken.blocks[1].mlp.out.weight.fill_(torch.nan)
    for found in influence(broken, broken.logits, chunk, POST, unchanged, draws=1).values():
        assert found.isnan().all()
        for value in (weighted(torch.ones_like(found), found), fraction_in_use(found), without(found)):
            assert value != value


def test_idle_neurons_are_those_that_together_have_least():
    found = torch.tensor([0.0, 5.0, 3e-4, 5.0, 4e-4, 5e-4])
    assert idle(found, 1e-4).tolist() == [True, False, True, False, True, False]
    assert idle(torch.cat([found, torch.zeros(100)]), 1e-4)[:6].tolist() == idle(found, 1e-4).tolist()
    assert idle(torch.zeros(3), 1e-3).all()
    assert not idle(torch.full((3,), torch.nan), 1e-3).any()
