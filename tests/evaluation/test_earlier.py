from copy import deepcopy

import pytest

from tti.evaluation.earlier import as_today


def then(kind, topk, batch_topk):
    """Settings of the autoencoder part in the earlier form, with sparsities inside the kinds."""
    values = {"topk": ("k", topk), "batch_topk": ("k", batch_topk), "standard": ("sparsity_weight", [0.1, 0.3])}
    kinds = {
        name: {"_target_": "tti.autoencoders.sweep.Sweep", "kind": {"_target_": name, "_partial_": True}, key: each}
        for name, (key, each) in values.items()
    }
    return {
        "_target_": "tti.evaluation.sae.SAEQuality",
        "subjects": ["trained"],
        "kind": kind,
        "kinds": kinds,
        "seeds": [0],
    }


def now(kind, k):
    return {
        "_target_": "tti.evaluation.sae.SAEQuality",
        "kind": kind,
        "seeds": [0],
        "k": k,
        "sparsity_weight": [0.1, 0.3],
    }


@pytest.mark.parametrize(
    ("kind", "topk", "batch_topk", "k"),
    [
        (["topk", "batch_topk"], [8, 32], [8, 32], [8, 32]),
        (["topk"], [16], [8, 32], [16]),  # the setting of the other kind had no effect
        (["batch_topk"], [16], [8, 32], [8, 32]),
    ],
)
def test_sparsities_that_stood_with_their_kinds_are_those_of_today(kind, topk, batch_topk, k):
    assert as_today(then(kind, topk, batch_topk)) == now(kind, k)


def test_kinds_of_one_argument_with_other_values_are_as_nothing_today():
    settings = then(["topk", "batch_topk"], [16], [8, 32])
    assert "kinds" in as_today(settings)


def test_sites_in_blocks_stand_for_those_of_an_encoder_too():
    assert as_today({"sites": ["blocks.*.mlp.post"]}) == as_today({"sites": ["*blocks.*.mlp.post"]})
    assert as_today({"sites": "blocks.0.mlp.post"}) == {"sites": "blocks.0.mlp.post"}


def test_settings_of_today_stay_as_they_are():
    settings = now(["topk"], [8])
    assert as_today(deepcopy(settings)) == settings
    assert as_today({"parts": {"geometry": {"subjects": []}}, "subjects": ["trained"]}) == {"parts": {"geometry": {}}}
