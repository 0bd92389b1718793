from tti.benchmarking.regularizers import Regularizers, attaches, regularizers


def test_every_option_that_adds_something_is_measured():
    assert {"l1", "orthogonality", "anti_polysemantic"} <= set(regularizers())
    assert "none" not in regularizers()


def test_only_sites_that_a_regularizer_accepts(setting):
    assert attaches(setting, "l1", "blocks.*.mlp_out")
    assert not attaches(setting, "l1", "blocks.*.nope")


def test_own_sites_come_first_and_what_needs_another_model_is_measured_at_them_alone(setting):
    table = Regularizers(["blocks.*.mlp_out"], needs={"l0": ["model/mlp=hard_concrete"]}, at={}, rounds=1)
    assert table._sites(setting, "l1") == ["blocks.*.mlp.post", "blocks.*.mlp_out"]
    assert table._sites(setting, "orthogonality") == ["blocks.*.mlp_out"]
    assert len(table._sites(setting.having("model/mlp=hard_concrete"), "l0")) == 1
