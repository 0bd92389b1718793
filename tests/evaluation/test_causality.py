"""Ablation equals running the network without one neuron at a time; specificity is checked by hand."""

import numpy as np
import pytest
import torch

from tests.evaluation.planted import made, run
from tti.evaluation.causality import ablated, against


@pytest.fixture(scope="module")
def net(make_net, few_stories):
    return make_net(vocab_size=few_stories.packed.manifest["vocab_size"], context=256)


def test_side_by_side_is_one_at_a_time(net, few_stories):
    chunk = few_stories.drawn(150)
    site, neurons, means = "blocks.0.mlp.post", torch.tensor([3, 0, 9]), torch.tensor([0.5, -1, 2])
    with torch.no_grad():
        change, divergence = ablated(net, chunk, site, neurons, means, at_once=2)
        whole = net(chunk.batch.tokens, chunk.batch.stories)
        for row, (neuron, mean) in enumerate(zip(neurons, means, strict=True)):

            def without(name, activation, neuron=neuron, mean=mean):
                if name == site:
                    activation = activation.clone()
                    activation[:, neuron] = mean
                return activation

            hidden = net(chunk.batch.tokens, chunk.batch.stories, without)
            expected = net.loss(hidden, chunk.batch.targets)[1] - net.loss(whole, chunk.batch.targets)[1]
            torch.testing.assert_close(change[row], expected, atol=1e-5, rtol=1e-3)
            before, after = (net.logits(each).log_softmax(-1) for each in (whole, hidden))
            kl = torch.nn.functional.kl_div(after, before, reduction="batchmean", log_target=True)
            assert divergence[row].item() == pytest.approx(kl.item(), rel=1e-2, abs=1e-7)


def test_specificity_is_1_within_the_label_0_anywhere_and_undefined_without_one():
    change = torch.tensor([[2.0, 0, 0, 0], [1, 1, 1, 1], [1, 1, 1, 1], [0, 3, 0, 0]])
    label = torch.tensor([[1, 0, 0, 0], [1, 1, 0, 0], [0, 0, 0, 0], [1, 0, 0, 0]]).bool()
    found = against(change, label, torch.ones(4, dtype=torch.bool))
    assert found["ablation_specificity"].tolist() == pytest.approx([1, 0, float("nan"), -1 / 3], nan_ok=True)
    assert found["ablation_label"].tolist() == pytest.approx([2, 1, float("nan"), 0], nan_ok=True)
    assert found["ablation_elsewhere"].tolist() == pytest.approx([0, 1, 1, 1])


def test_a_neuron_without_effect_has_specificity_0_whatever_rounding_left_of_its_change():
    change, label = torch.tensor([[0.0, 0, 0], [1e-9, 0, 0]]), torch.tensor([[True, False, False]]).expand(2, 3)
    assert against(change, label, torch.zeros(2, dtype=torch.bool))["ablation_specificity"].tolist() == [0, 0]
    assert against(change, label, torch.ones(2, dtype=torch.bool))["ablation_specificity"].tolist() == [0, 1]


def test_neurons_that_write_nothing_count_as_the_worst(config, make_net, few_stories):
    net = make_net(vocab_size=few_stories.packed.manifest["vocab_size"], context=256)
    before = run(made(config, "causality", neurons=64, tokens=300), net, few_stories)
    with torch.no_grad():
        for block in net.blocks:
            block.mlp.out.weight[:, ::2] = 0
    after = run(made(config, "causality", neurons=64, tokens=300), net, few_stories)
    assert before.metrics["no_effect/mlp.post/mean"] == 0
    assert after.metrics["no_effect/mlp.post/mean"] == 0.5
    table = after.arrays["blocks.1.mlp.post/neuron/ablation_specificity"].values
    labelled = ~np.isnan(table)
    assert (table[::2][labelled[::2]] == 0).all()
    expected = np.nansum(table) / 64
    assert after.metrics["ablation_specificity/mlp.post/layer_1"] == pytest.approx(expected, rel=1e-5)


def test_what_is_not_drawn_is_not_a_number(config, net, few_stories):
    result = run(made(config, "causality", neurons=5, tokens=150), net, few_stories)
    site = "blocks.1.mlp.post"
    drawn = result.arrays[f"{site}/ablated"].values
    effect = torch.from_numpy(result.arrays[f"{site}/neuron/ablation"].values)
    assert len(drawn) == 5
    assert sorted(effect.isfinite().nonzero()[:, 0].tolist()) == drawn.tolist()
