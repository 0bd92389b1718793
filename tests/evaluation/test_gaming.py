"""Function-preserving changes preserve the function, and the audit reports which metrics they move."""

from functools import partial

import pytest
import torch

from tests.evaluation.planted import made, run
from tti.evaluation.gaming import Change, moved, rotation_about_ones


@pytest.fixture(scope="module")
def make(make_net, few_stories):
    """A network with non-trivial LayerNorms and gates."""

    def made_net(*overrides):
        net = make_net(*overrides, vocab_size=few_stories.packed.manifest["vocab_size"], context=256)
        generator = torch.Generator().manual_seed(1)
        with torch.no_grad():
            for name, weight in net.named_parameters():
                if "ln" in name or "log_alpha" in name:
                    weight.add_(torch.randn(weight.shape, generator=generator) * 0.3)
        return net

    return made_net


@pytest.fixture(scope="module")
def audit(config, few_stories):
    return partial(run, made(config, "gaming", tokens=1500), stories=few_stories)


def moves(result, change):
    return {
        name.removeprefix(f"{change}/").removesuffix("/moved")
        for name, value in result.metrics.items()
        if name.startswith(f"{change}/") and name.endswith("/moved") and value
    }


def test_every_change_keeps_the_logits_of_a_model_with_biases(make, audit):
    net = make("+model.bias=true", "+model.mlp.bias=true", "model/mlp=relu")
    generator = torch.Generator().manual_seed(2)
    with torch.no_grad():
        for name, bias in net.named_parameters():
            if name.endswith("bias"):
                bias.add_(torch.randn(bias.shape, generator=generator) * 0.3)
    metrics = audit(net=net).metrics
    assert (
        max(
            metrics[f"{change}/logit_difference"]
            for change in ("permute", "rescale", "duplicate", "decoys", "rotate_residual")
        )
        < 1e-6
    )


@pytest.mark.each_option("model/mlp", daily=["dense", "topk", "overcomplete", "moe", "bilinear"])
def test_every_change_that_is_possible_keeps_the_logits(make, audit, option):
    result = audit(net=make(f"model/mlp={option}"))
    differences = {name: value for name, value in result.metrics.items() if name.endswith("logit_difference")}
    assert {f"{change}/logit_difference" for change in ("permute", "decoys", "rotate_residual")} <= differences.keys()
    assert max(differences.values()) < 1e-6
    assert moves(result, "permute") == set()
    assert len(differences) + len(result.notes) == 5


def test_what_games_what(make, audit):
    result = audit(net=make("model/mlp=relu"))
    assert "utilisation/sparsity/mlp.post" in moves(result, "rescale")
    assert "utilisation/density/mlp.post" not in moves(result, "rescale")
    assert "selectivity/selectivity_top5/mlp.post" not in moves(result, "rescale")
    assert "geometry/participation_ratio/mlp_out" not in moves(result, "rotate_residual")
    assert all(metric.endswith("mlp_out") for metric in moves(result, "rotate_residual"))


@pytest.mark.parametrize("mlp", ["dense", "relu", "topk"])
def test_decoys_move_scores_of_neurons_and_no_score_weighted_by_influence(make, audit, mlp):
    result = audit(net=make(f"model/mlp={mlp}"))
    moved = moves(result, "decoys")
    plain = {"selectivity/selectivity_top5", "selectivity/type_entropy_deficit", "geometry/mean_squared_correlation"}
    assert {f"{name}/mlp.post" for name in plain} <= moved
    assert "utilisation/no_effect/mlp.post" in moved
    assert not [metric for metric in moved if "_weighted/" in metric or not metric.endswith("mlp.post")]
    weighted = [name for name in result.metrics if name.startswith("decoys/") and "_weighted/" in name]
    assert len(weighted) >= 3 * 8  # before, after and moved


def test_what_cannot_be_done_is_said(make, audit):
    assert "homogeneous" in audit(net=make()).notes["rescale"]
    assert "top-k" in audit(net=make("model/mlp=topk")).notes["duplicate"]


class Broken(Change):
    def __call__(self, net, stories):
        net.embed.weight.data *= 2
        return net.logits


def test_a_change_of_the_function_is_no_audit(config, make, few_stories):
    part = made(config, "gaming", tokens=1500)
    part.changes = {"broken": Broken()}
    with pytest.raises(ValueError, match="the change broken changes the logits"):
        run(part, make(), few_stories)


def test_a_rotation_about_ones_keeps_ones():
    q = rotation_about_ones(9)
    torch.testing.assert_close(q.T @ q, torch.eye(9, dtype=torch.float64))
    torch.testing.assert_close(torch.ones(9, dtype=torch.float64) @ q, torch.ones(9, dtype=torch.float64))
    assert (q - torch.eye(9)).abs().max() > 0.1


def test_moved():
    assert moved(1, 1.02)
    assert not moved(1, 1.005)
    assert moved(float("nan"), 1)
    assert not moved(float("nan"), float("nan"))
