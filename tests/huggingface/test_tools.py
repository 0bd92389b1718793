"""The field's tools open an export as docs/export.md says, offline, and see at a site what our recorder does."""

import re
import runpy
import shutil
from pathlib import Path

import pytest
import torch

from tests.huggingface.recorded import recorded
from tti.huggingface.names import place

PAGE = (Path(__file__).parents[2] / "docs" / "export.md").read_text()
EXTRA = "pip install 'tti[tools]'"
CODE = "trust_remote_code=True"


def block(imported):
    (found,) = [text for text in re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL) if imported in text]
    return found


@pytest.fixture(params=["dense", "topk"])
def opened(request, exported, tmp_path, monkeypatch, tokenizer):
    """``opened("import TransformersModel")``: what that block of the page leaves, its numbers compared."""
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
