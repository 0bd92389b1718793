"""Modularity of routings whose information, ablations and dominance are known."""

import math
from functools import partial

import numpy as np
import pytest
import torch
from hydra.utils import instantiate

from tests.evaluation.planted import made, run
from tti.evaluation.modularity import (
    Changed,
    Effects,
    closed,
    conditional_entropies,
    dominance_of,
    effects_of,
    information,
    within,
    without_gate,
)
from tti.evaluation.stories import StorySet

SMALL = {"tokens": 400, "permutations": 50, "ablation_tokens": 3000, "resamples": 20}


@pytest.fixture(scope="module")
def stories(compose):
    sizes = ["data.corpus.train=50", "data.corpus.validation=90", "data.corpus.test=10"]
    config = compose("model=tiny", "data=grammar_tasks", "data.corpus.weights.question=1", *sizes)
    return StorySet(instantiate(config.data), "validation", 2000)


@pytest.fixture(scope="module")
def measured(config, make_net, stories):
    def found(*overrides, change=lambda net: None):
        net = make_net(*overrides, vocab_size=stories.packed.manifest["vocab_size"], context=256)
        change(net)
        return run(made(config, "modularity", **SMALL), net, stories)

    return found


MOE = ["model/mlp=moe", "model.mlp.experts=6"]


def test_oracle_routing_has_all_the_information_that_there_is(measured):
    found = measured(*MOE, "model/mlp/router=group").metrics
    for layer in ("layer_0", "layer_1", "mean"):
        assert found[f"information/mlp.post/{layer}"] == pytest.approx(found[f"task_entropy/mlp.post/{layer}"])
        given = found[f"task_entropy_given_type/mlp.post/{layer}"]
        assert found[f"information_given_type/mlp.post/{layer}"] == pytest.approx(given)
        assert found[f"information_p/mlp.post/{layer}"] <= 0.5  # the mean of p over layers, each 1/51
    assert found["task_entropy/mlp.post/mean"] == pytest.approx(math.log(3), abs=0.02)
    assert found["information_given_type_excess/mlp.post/mean"] > 0.9


def test_the_matrix_of_an_oracle_is_zero_where_a_task_has_no_business(measured):
    found = measured(*MOE, "model/mlp/router=group")
    matrix = found.arrays["blocks.0.mlp.post/ablation_renormalised"].values
    assert matrix.shape == (6, 3)
    for expert in range(6):
        others = [task for task in range(3) if task != expert % 3]
        assert np.abs(matrix[expert, others]).max() == 0
    utilisation = found.arrays["blocks.0.mlp.post/utilisation"].values
    np.testing.assert_allclose(utilisation.sum(1), 1)
    assert ((utilisation > 0) == (np.arange(6) % 3 == np.arange(3)[:, None])).all()


def test_an_expert_that_is_never_used_changes_nothing(make_net, stories):
    """Closed at the router, expert 4 has no gate to lose."""
    net = make_net(*MOE, vocab_size=stories.packed.manifest["vocab_size"], context=256)
    batch, logits, gates = stories.drawn(1000).batch, "blocks.0.mlp.router_logits", "blocks.0.mlp.gates"
    closing = Changed(logits, partial(closed, 4))

    class Both(Changed):
        def __call__(self, site, acts):
            return without_gate(4, acts) if site == gates else closing(site, acts)

    both = Both(gates, lambda acts: acts)
    assert torch.equal(net(batch.tokens, batch.stories, closing), net(batch.tokens, batch.stories, both))
    assert not torch.equal(net(batch.tokens, batch.stories, closing), net(batch.tokens, batch.stories))


def test_a_dense_network_has_the_control_only(measured):
    found = measured()
    assert "dominance_blocks/mlp.post/mean" in found.metrics
    of_experts = "information", "dominance_next", "dominance_random"
    assert not [name for name in found.metrics if name.startswith(of_experts)]
    assert found.arrays["blocks.0.mlp.post/ablation_blocks"].values.shape == (6, 3)


def test_ablations_leave_gates_that_sum_to_1():
    gates = torch.tensor([[0.25, 0.75, 0.0], [0.0, 0.0, 1.0]])
    assert without_gate(0, gates).tolist() == [[0, 1, 0], [0, 0, 1]]
    assert without_gate(2, gates).tolist() == [[0.25, 0.75, 0], [0, 0, 0]]
    assert closed(1, gates)[:, 1].tolist() == [-math.inf] * 2


def test_each_token_may_lose_a_gate_of_its_own():
    gates = torch.tensor([[0.25, 0.75, 0.0], [0.5, 0.0, 0.5], [0.5, 0.0, 0.5]])
    assert without_gate(torch.tensor([0, 2, 1]), gates).tolist() == [[0, 1, 0], [1, 0, 0], [0.5, 0, 0.5]]


def test_no_change_is_a_matrix_of_zeros(make_net, stories):
    net = make_net(vocab_size=stories.packed.manifest["vocab_size"], context=256)
    with torch.no_grad():
        effects = effects_of(net, stories.drawn(1000), "task", 3, [Changed("embed", lambda x: x)])
    assert effects.matrix(effects.task).tolist() == [[0, 0, 0]]
    assert effects.errors(20).tolist() == [[0, 0, 0]]
    assert (effects.tokens == 2).all()
    assert len(effects.story) == len(effects.task) == len(stories.drawn(1000).stories)


def test_the_dominance_of_an_oracle_exceeds_that_of_rows_that_stand_for_no_expert(measured):
    def louder(net):
        for block in net.blocks:
            block.mlp.out.weight.data *= 100

    found = measured(*MOE, "model/mlp/router=group", change=louder).metrics
    for way in ("renormalised", "next"):
        assert found[f"dominance_{way}/mlp.post/layer_0"] > found["dominance_random/mlp.post/layer_0"]
        assert found[f"dominance_{way}_p/mlp.post/layer_0"] == pytest.approx(1 / 51)
    assert found["dominance_random_p/mlp.post/layer_0"] > 1 / 51


# -- formulas ---------------------------------------------------------------------------------------------------------


def rows_of(kinds):
    """Tasks, types and certain experts that follow the type, or the task."""
    task = np.arange(3000) % 3
    kind = np.random.default_rng(0).integers(kinds, size=3000)
    return task, kind


def test_experts_that_follow_the_type_have_no_information_given_it():
    task, kind = rows_of(4)
    kind = np.where(np.random.default_rng(1).random(3000) < 0.8, task, kind)  # the type tells the task, mostly
    share = np.eye(4)[kind]
    whole, given = information(share, task, kind, 3)
    assert whole > 0.3
    assert given == pytest.approx(0, abs=1e-9)
    null = information(share, within(task, kind, np.random.default_rng(2)), kind, 3)
    assert null[0] == pytest.approx(whole)


def test_experts_that_follow_the_task_have_its_entropy():
    task, kind = rows_of(4)
    whole, given = information(np.eye(3)[task], task, kind, 3)
    h_task, h_given = conditional_entropies(task, kind, 3)
    assert whole == pytest.approx(h_task) == pytest.approx(math.log(3))
    assert given == pytest.approx(h_given)


def test_within_permutes_among_the_rows_of_a_type():
    task, kind = rows_of(5)
    permuted = within(task, kind, np.random.default_rng(0))
    assert (permuted != task).any()
    for each in range(5):
        assert sorted(permuted[kind == each]) == sorted(task[kind == each])


def planted(matrix, noise=0.0, seed=0, stories=300):
    """Effects of stories of two tokens, each on one task, around the given means."""
    matrix = np.array(matrix, float)
    task = np.arange(stories) % matrix.shape[1]
    change = 2 * (matrix[:, task] + noise * np.random.default_rng(seed).normal(size=(len(matrix), stories)))
    return Effects(change, np.full(stories, 2), task, np.arange(stories), matrix.shape[1])


DIAGONAL = np.zeros((6, 3))
DIAGONAL[[4, 0, 2], [0, 1, 2]] = 0.9


def test_a_matrix_has_the_means_of_the_tasks_and_their_errors():
    effects = planted(DIAGONAL, noise=0.3)
    np.testing.assert_allclose(effects.matrix(effects.task), DIAGONAL, atol=0.1)
    np.testing.assert_allclose(effects.errors(200), 0.3 / 10, rtol=0.3)  # 100 stories of each task


def test_dominance_of_a_diagonal_is_its_height():
    dominance, p = dominance_of(planted(DIAGONAL), 99)
    assert dominance == pytest.approx(0.9)
    assert p == 0.01


def test_dominance_of_noise_is_chance_even_if_one_task_is_fragile():
    for fragile in ([0, 0, 0], [3, 0, 0]):
        effects = [planted(np.tile(fragile, (6, 1)), noise=0.3, seed=seed) for seed in range(40)]
        p = [dominance_of(each, 99)[1] for each in effects]
        assert 0.35 < np.mean(p) < 0.65
        assert np.mean(np.array(p) <= 0.1) <= 0.25


def test_a_fragile_task_adds_nothing_to_dominance():
    assert dominance_of(planted(np.tile([3, 0, 0], (6, 1))), 9)[0] == pytest.approx(0)
    assert dominance_of(planted(DIAGONAL + np.array([3, 0, 0])), 9)[0] == pytest.approx(0.9)


def test_dominance_is_undefined_without_an_expert_and_tokens_for_each_task():
    assert math.isnan(dominance_of(planted(np.eye(3)[:2]), 9)[0])
    assert math.isnan(dominance_of(planted(np.eye(3), stories=2), 9)[1])
