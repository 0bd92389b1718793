"""Selectivity has one definition for all models, and does not depend on chunks or the order of stories or neurons."""

from copy import copy

import numpy as np
import pytest
import torch

from tests.evaluation.planted import made
from tti.evaluation.base import Subject
from tti.evaluation.calibration import Calibration
from tti.evaluation.run_through import examine
from tti.evaluation.selectivity import Permuted

POST = "blocks.*.mlp.post"


@pytest.fixture(scope="module")
def net(make_net, few_stories):
    net = make_net(vocab_size=few_stories.packed.manifest["vocab_size"], context=256)
    with torch.no_grad():
        for block in net.blocks:  # so that the GELUs are not linear
            block.mlp.inp.weight.mul_(20)
            block.mlp.out.weight.mul_(5)
    return net


@torch.no_grad()
def measured(config, net, stories, view=lambda site, acts: acts):
    part = made(config, "selectivity", sites=POST, fixed_tokens=1000)
    examine({Subject("trained", net, stories, view): [part]}, 1500)
    return part.compute()


@pytest.fixture(scope="module")
def result(config, net, few_stories):
    return measured(config, net, few_stories)


def clipped(site, acts):
    return acts.relu()


def test_clipping_what_is_seen_of_a_gelu_network_does_not_move_selectivity(config, net, few_stories, result):
    after = measured(config, net, few_stories, clipped).metrics
    assert result.metrics["selectivity_top5/mlp.post/mean"] > 0.1
    for level in ("top5", "top1"):
        for name in (f"selectivity_{level}", f"on_rate_{level}"):
            assert after[f"{name}/mlp.post/mean"] == pytest.approx(result.metrics[f"{name}/mlp.post/mean"], abs=0.005)


@pytest.mark.parametrize("size", [100, 1300, 10**9])
def test_the_size_of_chunks_changes_nothing(config, net, few_stories, result, size):
    stories = copy(few_stories)
    stories.tokens_per_chunk = size
    assert measured(config, net, stories).metrics == pytest.approx(result.metrics, rel=1e-5, abs=1e-6)


def test_the_order_of_stories_changes_nothing(config, net, few_stories, result):
    """Only the order of the pass: ``_fixed`` draws its sample of tokens by their index in this order."""
    stories = copy(few_stories)
    stories.members = np.random.default_rng(1).permutation(few_stories.members)
    stories.drawn = few_stories.drawn  # the calibration sample
    after = measured(config, net, stories).metrics
    kept = {name: value for name, value in result.metrics.items() if "_fixed" not in name}
    assert {name: after[name] for name in kept} == pytest.approx(kept, rel=1e-5, abs=1e-6)


def test_the_order_of_neurons_changes_nothing(config, net, few_stories, result):
    order = torch.randperm(64, generator=torch.Generator().manual_seed(0))
    after = measured(config, net, few_stories, lambda site, acts: acts[:, order])
    assert after.metrics == pytest.approx(result.metrics, rel=1e-5, abs=1e-6)
    for name in ("selectivity_top5", "type_entropy_above_null", "on_rate_top1"):
        key = f"blocks.1.mlp.post/neuron/{name}"
        assert after.arrays[key].values == pytest.approx(result.arrays[key].values[order], rel=1e-5, abs=1e-6)


def test_types_are_permuted_over_the_whole_split_once(few_stories):
    permuted = Permuted(few_stories, torch.device("cpu"))
    chunks = list(few_stories)
    found, types = torch.cat([permuted.types(chunk.places) for chunk in chunks]), [c.batch.types for c in chunks]
    assert torch.equal(found.sort().values, torch.cat(types).sort().values)
    agreeing = (found == torch.cat(types)).double().mean()
    shares = torch.bincount(found).double() / len(found)
    chance = float(shares.square().sum())
    assert float(agreeing) == pytest.approx(chance, abs=5 * (chance / len(found)) ** 0.5)


def column(*values):
    return Calibration.of(torch.tensor(values, dtype=torch.float32)[:, None])


@pytest.mark.parametrize(
    ("values", "on"),
    [
        ([0] * 97 + [1, 2, 3], [1, 2, 3]),  # active on fewer than 5 %: on wherever it is active
        ([0] * 60 + [1] * 40, [1]),  # two values: on at the higher
        ([0] * 50 + [1] * 10 + [2] * 40, [2]),  # the highest value is more common than 5 %: on at it
        ([5] * 100, []),  # constant: never on
        ([0] * 100, []),
    ],
)
@pytest.mark.parametrize("side", [1, -1])
def test_ties_are_off_unless_there_is_nothing_above(values, on, side):
    sign, threshold = column(*(side * value for value in values)).beyond(0.95)
    found = {value for value in values if float(sign) * side * value > float(threshold)}
    assert sign == (side if len(set(values)) > 1 else 1)
    assert found == set(on)
