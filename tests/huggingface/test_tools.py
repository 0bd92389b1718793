"""Other tools open an export offline as docs/export.md shows, and see the same activations as our recorder."""

import re
import runpy
import shutil
from pathlib import Path

import pytest
import torch

from tests.huggingface.recorded import recorded
from tti.autoencoders import saelens
from tti.autoencoders.fit import Fit
from tti.autoencoders.topk import TopK
from tti.huggingface.names import place
from tti.models.stories import Separate

PAGE = (Path(__file__).parents[2] / "docs" / "export.md").read_text()
EXTRA = "the extra tools"
CODE = "trust_remote_code=True"


def block(imported):
    (found,) = [text for text in re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL) if imported in text]
    return found


@pytest.fixture(params=["dense", "topk"])
def opened(request, exported, tmp_path, monkeypatch, tokenizer):
    """``opened("import TransformersModel")``: the variables after that block of the page, with its numbers compared."""
    net, folder = exported(request.param)
    shutil.copytree(folder, tmp_path / "exports" / "topk")
    monkeypatch.chdir(tmp_path)

    def run(imported, **tolerances):
        text = block(imported)
        if request.param == "dense":
            text = text.replace(f", {CODE}", "")
        Path("block.py").write_text(text)  # nnsight reads the source of its with-blocks
        left = runpy.run_path("block.py")
        logits, acts = recorded(net, torch.tensor(tokenizer.encode("The little cat").ids))
        torch.testing.assert_close(left["logits"].squeeze(0), logits, **tolerances)
        if "post" in left:
            torch.testing.assert_close(left["post"].squeeze(0), acts["blocks.1.mlp.post"], **tolerances)
        return left, acts

    return run


def test_transformers(opened):
    opened("AutoModelForCausalLM", atol=2e-5, rtol=1e-4)


def test_transformer_lens(opened):
    pytest.importorskip("transformer_lens", reason=EXTRA)
    left, acts = opened("import TransformerBridge", atol=1e-4, rtol=1e-4)
    for site, activation in acts.items():
        if hook := place(site).hook:
            theirs = left["cache"][hook].squeeze(0).reshape(activation.shape)
            torch.testing.assert_close(theirs, activation, atol=1e-4, rtol=1e-4, msg=site)


def test_nnsight(opened):
    pytest.importorskip("nnsight", reason=EXTRA)
    opened("import TransformersModel", atol=2e-5, rtol=1e-4)


def test_sae_lens(opened):
    lens = pytest.importorskip("sae_lens", reason=EXTRA)
    sae = lens.TopKSAE(lens.TopKSAEConfig(d_in=16, d_sae=32, k=4))
    sae.cfg.metadata.hook_name = place("blocks.1.mlp_out").hook
    sae.save_model("exports/sae")
    left, acts = opened("import SAE,", atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(left["latents"].squeeze(0), sae.encode(acts["blocks.1.mlp_out"]), atol=1e-4, rtol=1e-4)
    assert not torch.allclose(left["spliced"], left["logits"], atol=1e-2)


@pytest.mark.parametrize("mlp", ["dense", "topk"])
@pytest.mark.parametrize("bridge", ["transformer_lens.model_bridge:TransformerBridge", "sae_lens:SAETransformerBridge"])
def test_what_is_ablated_at_a_place_changes_the_logits(exported, story, mlp, bridge):
    """As for an ablation with a tap here; except at `resid_mid`, which in a bridge is the input of a LayerNorm."""
    module, _, name = bridge.partition(":")
    make = getattr(pytest.importorskip(module, reason=EXTRA), name)
    net, folder = exported(mlp)
    model = make.boot_transformers(str(folder), trust_remote_code=True)
    before = recorded(net, story)[0]
    for site in net.sites:
        if hook := place(site).hook:
            theirs = model.run_with_hooks(story[None], fwd_hooks=[(hook, lambda acts, hook: torch.zeros_like(acts))])[0]
            assert not torch.allclose(theirs, before, atol=1e-2), site
            if not site.endswith("resid_mid"):
                torch.testing.assert_close(theirs, ablated(net, site, story), atol=1e-3, rtol=1e-3, msg=site)


@torch.no_grad()
def ablated(net, site, story):
    def tap(at, activation):
        return torch.zeros_like(activation) if at == site else activation

    return net.logits(net(story, Separate.of([len(story)]), tap))


def test_saelens_evaluates_an_autoencoder_of_ours(exported, tmp_path):
    lens = pytest.importorskip("sae_lens", reason=EXTRA)
    evals = pytest.importorskip("sae_lens.evals", reason=EXTRA)
    from datasets import Dataset
    from sae_lens.training.activation_scaler import ActivationScaler

    net, folder = exported("topk")
    generator = torch.Generator().manual_seed(0)
    stories = [torch.randint(30, (32,), generator=generator) for _ in range(24)]
    acts = torch.cat([recorded(net, story)[1]["blocks.1.mlp_out"] for story in stories])
    autoencoder = TopK(d_in=16, d_sae=64, seed=0, dead_after=500, k=8)
    Fit(passes=20, batch=64, lr=1e-2, warmup=0.05, decay=0.2, seed=0)([autoencoder], acts)
    saelens.save(autoencoder, tmp_path / "sae", place("blocks.1.mlp_out").hook, {}, context_size=32)
    sae = lens.SAE.load_from_disk(tmp_path / "sae")
    model = lens.SAETransformerBridge.boot_transformers(str(folder), trust_remote_code=True)
    store = lens.ActivationsStore.from_sae(
        model, sae, dataset=Dataset.from_dict({"tokens": [story.tolist() for story in stories]}), context_size=32,
        streaming=False, store_batch_size_prompts=4, device="cpu",
    )  # fmt: skip
    asked = evals.EvalConfig(
        batch_size_prompts=4, n_eval_reconstruction_batches=2, n_eval_sparsity_variance_batches=2, compute_kl=True,
        compute_ce_loss=True, compute_l2_norms=True, compute_sparsity_metrics=True, compute_variance_metrics=True,
    )  # fmt: skip
    found, _ = evals.run_evals(sae, store, model, ActivationScaler(), asked)
    assert found["sparsity"]["l0"] == pytest.approx(8)
    assert 0.3 < found["model_behavior_preservation"]["kl_div_score"] <= 1
    assert (
        found["model_performance_preservation"]["ce_loss_score"] > 0.3
    )  # above 1, since such tokens cannot be predicted
    assert found["reconstruction_quality"]["explained_variance"] > 0.5


def test_a_plain_export_is_a_model_from_elsewhere(exported, tmp_path, monkeypatch, tokenizer, story):
    net, folder = exported("relu")
    shutil.copytree(folder, tmp_path / "exports" / "plain")
    monkeypatch.chdir(tmp_path)
    left = {}
    exec(block("import Foreign"), left)
    assert torch.equal(recorded(left["net"], story)[0], recorded(net, story)[0])
    assert left["tokenizer"].get_vocab() == tokenizer.get_vocab()


def test_the_page_names_every_place(exported):
    table = PAGE[PAGE.index("## Where the sites are") :]
    for site in exported("dense")[0].sites:
        where = place(site)
        for name in (where.hook.rpartition(".")[2], re.sub(r"\.h\.\d", ".h.{i}", where.module)):
            assert f"{name}`" in table, name
