import pytest
import torch
from torch.nn.functional import gelu, relu

from tests.conftest import make_batch
from tti.models.overcomplete import OvercompleteMLP, OvercompleteTopKMLP
from tti.models.taps import Recorder
from tti.regularizers.decoder_l1 import DecoderL1
from tti.step import Step


def test_the_dictionary_reads_what_the_dense_mlp_wrote():
    mlp, x, recorder = OvercompleteMLP(6, 10, gelu, 4), torch.randn(5, 6), Recorder(["post", "dense.post"])
    written = mlp(x, recorder)
    hidden = gelu(x @ mlp.dense.inp.weight.T)
    wide = relu(hidden @ mlp.dense.out.weight.T @ mlp.inp.weight.T)
    assert torch.allclose(written, wide @ mlp.out.weight.T, atol=1e-7)
    assert torch.allclose(recorder.activations["dense.post"], hidden)
    assert torch.allclose(recorder.activations["post"], wide)
    assert wide.shape == (5, 24)


@pytest.mark.parametrize(("keep", "k"), [(0.05, 5), (0.1, 10)])
def test_top_k_is_of_the_dictionary(keep, k):
    mlp, recorder = OvercompleteTopKMLP(12, 20, gelu, 8, keep=keep), Recorder(["post"])
    mlp(torch.randn(50, 12), recorder)
    assert ((recorder.activations["post"] != 0).sum(1) == k).all()


def test_what_writes_into_the_residual_stream_is_the_dictionary(make_net):
    net = make_net("model/mlp=overcomplete", n_layers=2, d_model=64, n_heads=2, init_std=0.02)
    mlp = net.blocks[0].mlp
    assert net.writes("blocks.0.mlp.post") is mlp.out.weight
    assert net.reads("blocks.0.mlp.dense.post") is mlp.dense.inp.weight
    assert net.writes("blocks.0.mlp.dense.post") is net.reads("blocks.0.mlp.post") is None
    assert mlp.out.weight.std().item() == pytest.approx(0.02 / 2, rel=0.05)
    assert mlp.dense.out.weight.std().item() == pytest.approx(0.02, rel=0.05)
    assert net.sites["blocks.1.mlp.post"].width == 8 * 64
    assert net.sites["blocks.1.mlp.dense.post"].width == 4 * 64


def test_decoder_l1_weighs_the_dictionary(make_net):
    net, batch = make_net("model/mlp=overcomplete"), make_batch([9, 5])
    term = DecoderL1("blocks.0.mlp.post", weight=1.0, warmup=0.0)
    term.attach(net.sites)
    recorder = Recorder(term.sites)
    net(batch.tokens, batch.stories, recorder)
    latents = recorder.activations["blocks.0.mlp.post"]
    expected = (latents @ net.blocks[0].mlp.out.weight.norm(dim=0)).mean()
    step = Step(batch, torch.zeros(14), recorder.activations, net)
    assert term(step).item() == pytest.approx(expected.item(), rel=1e-5)


@pytest.mark.parametrize("option", ["overcomplete", "overcomplete_topk"])
def test_its_parameters_are_counted(make_net, option):
    net = make_net(f"model/mlp={option}")
    matrices = sum(p.numel() for block in net.blocks for p in block.parameters() if p.ndim == 2)
    assert net.operations_per_token == 6 * (matrices + net.vocab_size * 16)


@pytest.mark.parametrize("expansion", [0, -2])
def test_expansion_must_be_positive(expansion):
    with pytest.raises(ValueError, match=f"expansion={expansion} of the dictionary over d_model=6"):
        OvercompleteMLP(6, 10, gelu, expansion)
