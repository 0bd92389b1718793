import pytest
import torch
from hydra.utils import instantiate

from tti.models.taps import Recorder

LAYER = [
    "resid_pre",
    "ln1.normalized",
    "attn.q",
    "attn.k",
    "attn.v",
    "attn.z",
    "attn_out",
    "resid_mid",
    "ln2.normalized",
    "mlp.pre",
    "mlp.post",
    "mlp_out",
    "resid_post",
]


def test_the_base_model_has_the_parameters_of_the_original(compose):
    with torch.device("meta"):
        net = instantiate(compose("model=base", "model.vocab_size=50257").model)
    embeddings = net.embed.weight.numel() + net.pos_embed.weight.numel()
    assert sum(p.numel() for p in net.parameters()) == 30_122_112
    assert sum(p.numel() for p in net.parameters()) - embeddings == 10_626_816
    assert net.vocab_size == 50257


@pytest.mark.parametrize(("preset", "attention_dropout"), [("tiny", 0), ("mini", 0), ("base", 0), ("original", 0.1)])
def test_presets_run_one_token(compose, preset, attention_dropout):
    with torch.device("meta"):
        net = instantiate(compose(f"model={preset}", "model.vocab_size=300").model)
    assert all(block.attn.dropout == attention_dropout for block in net.blocks)
    assert net.sites[f"blocks.{len(net.blocks) - 1}.mlp.post"].width == 4 * net.embed.embedding_dim


def test_the_mini_model_is_as_small_as_its_file_says(compose):
    with torch.device("meta"):
        net = instantiate(compose("model=mini", "model.vocab_size=300").model)
    assert round(sum(p.numel() for p in net.blocks.parameters()) / 1e6, 1) == 0.8


def test_the_head_is_the_embedding(make_net):
    net = make_net()
    hidden = torch.randn(3, 16)
    assert torch.equal(net.logits(hidden), hidden @ net.embed.weight.T)
    assert sum(1 for p in net.parameters() if net.vocab_size in p.shape) == 1


def test_a_narrow_model_begins_with_pre_activations_as_large_as_the_base_model(make_net):
    net = make_net(d_model=96)
    assert net.blocks[0].mlp.inp.weight.std().item() == pytest.approx(0.04, rel=0.02)  # 0.02 * sqrt(384 / 96)
    assert net.embed.weight.std().item() == pytest.approx(0.04, rel=0.05)
    assert make_net(d_model=96, init_std=0.01).blocks[0].mlp.inp.weight.std().item() == pytest.approx(0.01, rel=0.02)


def test_initial_weights_have_the_spread_of_gpt2_and_residual_writers_a_smaller_one(compose):
    torch.manual_seed(0)
    net = instantiate(compose("model=base", "model.vocab_size=1000").model)
    for block in net.blocks:
        for matrix in (block.attn.qkv, block.mlp.inp):
            assert matrix.weight.std().item() == pytest.approx(0.02, rel=0.02)
        for writer in (block.attn.out, block.mlp.out):
            assert writer.weight.std().item() == pytest.approx(0.02 / 12**0.5, rel=0.02)
    for table in (net.embed, net.pos_embed):
        assert table.weight.std().item() == pytest.approx(0.02, rel=0.02)
    linears = [module for module in net.modules() if isinstance(module, torch.nn.Linear)]
    norms = [module for module in net.modules() if isinstance(module, torch.nn.LayerNorm)]
    assert all(linear.bias is None for linear in linears)
    assert all((norm.weight == 1).all() and (norm.bias == 0).all() for norm in norms)


@pytest.mark.each_option("model/mlp")
def test_equal_seeds_give_equal_initial_weights_outside_the_mlp_whatever_the_mlp(make_net, option):
    reference, net = make_net().state_dict(), make_net(f"model/mlp={option}").state_dict()
    shared = [name for name in reference if ".mlp." not in name]
    assert shared
    assert all(torch.equal(net[name], reference[name]) for name in shared)


def test_mlps_of_equal_shape_begin_with_equal_weights(make_net):
    reference = make_net().state_dict()
    for option in ("relu", "topk"):
        net = make_net(f"model/mlp={option}").state_dict()
        assert net.keys() == reference.keys()
        assert all(torch.equal(net[name], reference[name]) for name in reference)


def test_sites_come_in_the_order_of_the_forward_pass_with_their_widths(make_net):
    net = make_net(n_layers=2)
    layers = [f"blocks.{layer}.{site}" for layer in range(2) for site in LAYER]
    assert list(net.sites) == ["embed", "pos_embed", *layers, "ln_final.normalized"]
    special = {"mlp.pre": 64, "mlp.post": 64}
    for site, found in net.sites.items():
        assert found.rows == "token"
        assert found.width == special.get(site.removeprefix("blocks.0.").removeprefix("blocks.1."), 16)


def test_a_site_says_what_its_rows_are(make_net):
    sites = make_net("model/mlp=hard_concrete").sites
    assert sites["blocks.0.mlp.open"].rows == "once"
    assert all(site.rows == "token" for name, site in sites.items() if not name.endswith("open"))


def test_listing_the_sites_changes_nothing(make_net):
    net = make_net().train()
    state = torch.get_rng_state()
    assert net.sites
    assert net.training
    assert all(module.training for module in net.modules())
    assert torch.equal(torch.get_rng_state(), state)


def test_every_site_can_be_recorded(make_net, make_batch):
    net, batch = make_net(), make_batch([5, 3])
    recorder = Recorder(net.sites)
    hidden = net(batch.tokens, batch.stories, recorder)
    assert recorder.activations.keys() == net.sites.keys()
    assert {site: acts.flatten(1).shape[-1] for site, acts in recorder.activations.items()} == net.widths
    assert all(len(acts) == 8 for acts in recorder.activations.values())
    assert torch.equal(recorder.activations["ln_final.normalized"], hidden)


def test_recording_changes_nothing_and_not_recording_records_nothing(make_net, make_batch):
    net, batch = make_net(), make_batch([5, 3])
    recorder = Recorder(())
    assert torch.equal(net(batch.tokens, batch.stories, recorder), net(batch.tokens, batch.stories))
    assert recorder.activations == {}


def test_activations_are_recorded_before_dropout(make_net, make_batch):
    net, batch = make_net("model.dropout=0.5").train(), make_batch([16, 16])
    sites = ("blocks.0.attn_out", "blocks.0.mlp_out", "embed", "blocks.0.resid_pre")
    recorder = Recorder(sites)
    net(batch.tokens, batch.stories, recorder)
    zeros = {site: (recorder.activations[site] == 0).float().mean().item() for site in sites}
    assert zeros["embed"] == zeros["blocks.0.attn_out"] == zeros["blocks.0.mlp_out"] == 0
    assert zeros["blocks.0.resid_pre"] > 0.4


def test_dropout_acts_on_what_is_written_into_the_residual_stream_and_nowhere_else(make_net, make_batch):
    net, batch = make_net("model.dropout=0.5").train(), make_batch([16, 16])
    recorder = Recorder(net.sites)
    net(batch.tokens, batch.stories, recorder)
    at = {site.removeprefix("blocks.1."): acts for site, acts in recorder.activations.items()}
    for before, written, after in (("resid_pre", "attn_out", "resid_mid"), ("resid_mid", "mlp_out", "resid_post")):
        change = at[after] - at[before]
        kept = change != 0
        assert 0.4 < kept.float().mean() < 0.6
        torch.testing.assert_close(change[kept], 2 * at[written][kept], rtol=1e-3, atol=1e-6)
    assert torch.equal(at["resid_pre"], at["blocks.0.resid_post"])
    assert torch.equal(at["ln1.normalized"], net.blocks[1].ln1(at["resid_pre"]))
    assert torch.equal(at["ln_final.normalized"], net.ln_final(at["resid_post"]))


@pytest.mark.parametrize(
    "site", ["embed", "blocks.0.attn.z", "blocks.0.mlp.pre", "blocks.1.mlp.post", "blocks.1.mlp_out"]
)
def test_what_a_tap_returns_is_what_the_model_goes_on_with(make_net, make_batch, site):
    net, batch = make_net(), make_batch([5, 3])

    def ablate(at, activation):
        return torch.zeros_like(activation) if at == site else activation

    assert not torch.allclose(net(batch.tokens, batch.stories, ablate), net(batch.tokens, batch.stories))


def test_ablating_all_hidden_units_ablates_the_mlp(make_net, make_batch):
    net, batch = make_net(), make_batch([5, 3])

    def ablating(site):
        return lambda at, activation: torch.zeros_like(activation) if at == site else activation

    by_unit, by_output = (
        net(batch.tokens, batch.stories, ablating(site)) for site in ("blocks.0.mlp.post", "blocks.0.mlp_out")
    )
    assert torch.equal(by_unit, by_output)


def test_recorded_activations_carry_the_gradient(make_net, make_batch):
    net, batch = make_net(), make_batch([5, 3])
    recorder = Recorder(["blocks.1.mlp.post"])
    net(batch.tokens, batch.stories, recorder)
    recorder.activations["blocks.1.mlp.post"].sum().backward()
    assert net.blocks[1].mlp.inp.weight.grad.abs().sum() > 0
    assert net.embed.weight.grad.abs().sum() > 0
    assert net.blocks[1].mlp.out.weight.grad is None


def test_heads_must_divide_the_width(make_net):
    with pytest.raises(Exception, match="d_model=16 is not a multiple of n_heads=3"):
        make_net(n_heads=3)
