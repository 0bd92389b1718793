"""A saved autoencoder opens as the same one, here and in SAELens."""

import json

import pytest
import torch

from tti.autoencoders import saelens
from tti.autoencoders.batch_topk import BatchTopK
from tti.autoencoders.fit import Fit
from tti.autoencoders.standard import Standard
from tti.autoencoders.topk import TopK

D, WIDE = 12, 40
KINDS = {
    "topk": (TopK, {"k": 3}),
    "batch_topk": (BatchTopK, {"k": 3}),
    "standard": (Standard, {"sparsity_weight": 0.1}),
}
each_kind = pytest.mark.parametrize("kind", KINDS)


def acts(seed=0):
    """Activations far from the origin and from unit scale, so that location and scale are folded."""
    return 7 + 30 * torch.randn(2000, D, generator=torch.Generator().manual_seed(seed))


@pytest.fixture
def saved(tmp_path):
    """Function that makes, trains and saves an autoencoder of one kind."""

    def made(kind, hook="blocks.1.mlp.hook_out"):
        make, settings = KINDS[kind]
        autoencoder = make(d_in=D, d_sae=WIDE, seed=0, dead_after=500, **settings)
        Fit(passes=3, batch=100, lr=1e-2, warmup=0.05, decay=0.2, seed=0)([autoencoder], acts())
        saelens.save(autoencoder, tmp_path / "one", hook, {"settings": {"site": "a"}}, model_name="m", context_size=9)
        return autoencoder, tmp_path / "one"

    return made


@each_kind
def test_it_is_opened_again_as_the_same(saved, kind):
    autoencoder, folder = saved(kind)
    again = saelens.load(folder)
    x = acts(seed=1)
    assert type(again) is type(autoencoder)
    assert again.arguments == autoencoder.arguments
    assert not again.training
    torch.testing.assert_close(again.encode(x), autoencoder.encode(x), atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(again(x), autoencoder(x), atol=1e-4, rtol=1e-4)
    assert saelens.about(folder)["settings"] == {"site": "a"}


@each_kind
def test_saelens_opens_it_and_gives_the_same(saved, kind):
    sae_lens = pytest.importorskip("sae_lens", reason="SAELens is not installed")
    autoencoder, folder = saved(kind)
    theirs = sae_lens.SAE.load_from_disk(folder)
    x = acts(seed=1)
    with torch.no_grad():
        torch.testing.assert_close(theirs.encode(x), autoencoder.encode(x), atol=1e-3, rtol=1e-4)
        torch.testing.assert_close(theirs(x), autoencoder(x), atol=1e-3, rtol=1e-4)
    assert theirs.cfg.metadata.hook_name == "blocks.1.mlp.hook_out"
    assert theirs.cfg.metadata.model_name == "m"
    assert theirs.cfg.architecture() == autoencoder.architecture["architecture"]


@each_kind
def test_training_losses_are_those_of_saelens(kind):
    """One step from equal weights: reconstruction error and, for `standard`, the weighted L1, in SAELens' units."""
    pytest.importorskip("sae_lens", reason="SAELens is not installed")
    from sae_lens.registry import get_sae_training_class
    from sae_lens.saes.sae import TrainStepInput

    make, settings = KINDS[kind]
    ours = make(d_in=D, d_sae=WIDE, seed=0, dead_after=500, **settings)
    x = acts(seed=2)
    loss = ours.loss(x)
    training, config = get_sae_training_class({"batch_topk": "batchtopk"}.get(kind, kind))
    own = {"l1_coefficient": 1.0} if kind == "standard" else {"k": settings["k"]}
    theirs = training(config(d_in=D, d_sae=WIDE, **own))
    weights = {name: weight.detach() for name, weight in ours.folded().items() if name != "threshold"}
    theirs.load_state_dict(weights, strict=False)
    step = TrainStepInput(x, {"l1": 1.0}, torch.zeros(WIDE, dtype=torch.bool), 0, False)
    found = theirs.training_forward_pass(step)
    variance = (x - x.mean(0)).square().sum(1).mean()
    assert loss.error.item() == pytest.approx((found.losses["mse_loss"] / variance).item(), rel=1e-4)
    torch.testing.assert_close(loss.latents, found.feature_acts, atol=1e-3, rtol=1e-4)
    if kind == "standard":
        assert loss.sparsity.item() == pytest.approx((found.losses["l1_loss"] / variance.sqrt()).item(), rel=1e-4)


def test_sites_within_attention_have_their_heads_side_by_side(saved):
    _, folder = saved("topk", hook="blocks.0.attn.o.hook_in")
    config = json.loads((folder / "cfg.json").read_text())
    assert config["reshape_activations"] == "hook_z"
    assert config["metadata"]["hook_name"] == "blocks.0.attn.hook_z"
    pytest.importorskip("sae_lens", reason="SAELens is not installed").SAE.load_from_disk(folder)


def test_what_is_damaged_or_of_others_is_one_clear_message(saved, tmp_path):
    _, folder = saved("topk")
    weights = folder / saelens.WEIGHTS
    weights.write_bytes(weights.read_bytes()[:50])
    with pytest.raises(ValueError, match=r"sae_weights.safetensors is damaged .*: delete the folder"):
        saelens.load(folder)
    (folder / "cfg.json").write_text('{"architecture": "topk", "metadata": {}}')
    with pytest.raises(ValueError, match=r"was not written by python -m tti\.sae"):
        saelens.load(folder)
    with pytest.raises(ValueError, match=r"holds no autoencoder \(no cfg.json\)"):
        saelens.load(tmp_path / "nothing")
