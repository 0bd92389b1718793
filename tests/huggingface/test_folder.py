"""transformers opens an export with the same logits and the same activations at every site, without tti."""

import re
import subprocess
import sys

import pytest
import torch

from tests.huggingface.recorded import in_transformers, recorded
from tti.data import tokenizers
from tti.huggingface.folder import largest_difference, open_model, write

ALONE = """
import sys, torch
sys.modules["tti"] = sys.modules["jaxtyping"] = sys.modules["hydra"] = None
from transformers import AutoModelForCausalLM
model = AutoModelForCausalLM.from_pretrained(sys.argv[1], trust_remote_code=True).eval()
print(float(model(torch.arange(9)[None]).logits.double().sum()))
"""


DAILY = ["dense", "topk", "overcomplete", "moe", "bilinear", "batch_topk"]  # the others are kinds of these


@pytest.mark.each_option("model/mlp", daily=DAILY)
def test_the_same_logits(exported, story, option):
    net, folder = exported(option)
    model = open_model(folder)
    assert largest_difference(net, model, [story, story[:3]], torch.float32) < 2e-5
    assert largest_difference(net, model, [story, story[:3]], torch.float64) < 1e-10


@pytest.mark.each_option("model/mlp", daily=DAILY)
def test_the_same_activations_at_every_site(exported, story, option):
    net, folder = exported(option)
    theirs, ours = in_transformers(open_model(folder), net.sites, story), recorded(net, story)[1]
    assert ours.keys() == theirs.keys()
    for site, acts in ours.items():
        torch.testing.assert_close(theirs[site].reshape(acts.shape), acts, atol=2e-5, rtol=1e-4, msg=site)


@pytest.mark.parametrize(("router", "needed"), [("pools", "the story so far"), ("group", "the group of its story")])
def test_routers_that_need_more_than_the_token_are_refused(lively_net, compose, tokenizer, tmp_path, router, needed):
    overrides = ["model/mlp=moe", f"model/mlp/router={router}"]
    with pytest.raises(ValueError, match=f"whose output for a token depends on {needed}"):
        write(tmp_path, lively_net(*overrides), compose("model=tiny", *overrides).model.mlp, tokenizer)


def test_a_mixture_carries_its_router_and_experts_and_their_sites(exported, story):
    """A batch of stories gives the activations of each, whatever the expert."""
    net, folder = exported("moe")
    assert {"tti_models_moe.py", "tti_models_routing.py", "tti_models_mlp.py"} <= {p.name for p in folder.glob("*.py")}
    model, kept = open_model(folder), {}
    mlp = model.transformer.h[1].mlp
    for site in ("gates", "experts_3_post"):
        mlp.sites[site].register_forward_hook(lambda module, inputs, output, site=site: kept.update({site: output}))
    batch = torch.stack([story, story.flip(0)])
    with torch.no_grad():
        logits = model(batch).logits
    assert kept["gates"].shape == (2, 20, 8)
    assert (kept["gates"] > 0).sum(-1).unique().tolist() == [2]
    for each, gates, logit in zip(batch, kept["gates"], logits, strict=True):
        expected, acts = recorded(net, each)
        torch.testing.assert_close(gates, acts["blocks.1.mlp.gates"])
        torch.testing.assert_close(logit, expected, atol=2e-5, rtol=1e-4)
    assert model.config.architectures == ["TTIForCausalLM"]


def test_experts_of_another_class_travel_too(lively_net, compose, tokenizer, story, tmp_path):
    overrides = ["model/mlp=moe", "model/mlp@model.mlp.expert=topk", "model.mlp.shared=1", "model.d_model=16"]
    net = lively_net(*overrides)
    write(tmp_path, net, compose("model=tiny", *overrides).model.mlp, tokenizer)
    assert largest_difference(net, open_model(tmp_path), [story], torch.float64) < 1e-10


def test_plain_gpt2_carries_no_code_and_other_mlps_their_own(exported):
    for mlp in ("dense", "relu"):
        assert not list(exported(mlp)[1].glob("*.py"))
    assert {path.name for path in exported("hard_concrete")[1].glob("*.py")} == {
        "modeling_tti.py", "shapes.py", "tti_models_hard_concrete.py", "tti_models_mlp.py", "tti_models_stories.py",
        "tti_models_symmetry.py", "tti_models_taps.py",
    }  # fmt: skip


def test_what_is_carried_needs_torch_and_transformers_alone(exported, tmp_path):
    _, folder = exported("overcomplete")
    text = "".join(path.read_text() for path in folder.glob("*.py"))
    assert not re.search(r"^\s*(from|import) (tti|jaxtyping|hydra|omegaconf)\b", text, re.MULTILINE)
    done = subprocess.run(
        [sys.executable, "-c", ALONE, str(folder)], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    with torch.no_grad():
        here = float(open_model(folder)(torch.arange(9)[None]).logits.double().sum())
    assert float(done.stdout.splitlines()[-1]) == pytest.approx(here, rel=1e-6)


@pytest.mark.parametrize("mlp", ["topk", "moe"])
def test_it_generates_with_a_cache_as_without(exported, story, mlp):
    model = open_model(exported(mlp)[1])
    options = {"max_new_tokens": 12, "do_sample": False, "eos_token_id": None}
    with_cache, without = (model.generate(story[None], use_cache=cache, **options) for cache in (True, False))
    assert torch.equal(with_cache, without)


def test_dropout_acts_where_ours_does(exported, story):
    """In training mode too, with the run's dropout probabilities."""
    model = open_model(exported("topk")[1]).train()
    assert not torch.equal(model(story[None]).logits, model(story[None]).logits)
    assert model.config.resid_pdrop == model.config.embd_pdrop == 0.1


def test_the_tokenizer_is_the_same(exported, tokenizer):
    from transformers import AutoTokenizer

    there = AutoTokenizer.from_pretrained(exported("dense")[1])
    text = "Once upon a time there was a cat. <|endoftext|>"
    assert there(text).input_ids == tokenizer.encode(text).ids
    assert len(there) == tokenizer.get_vocab_size()
    assert there.eos_token_id == there.bos_token_id == tokenizers.end_of_text(tokenizer)


def test_a_batch_is_padded_and_changes_no_story(exported, story):
    from transformers import AutoTokenizer

    folder = exported("topk")[1]
    tokenizer, model = AutoTokenizer.from_pretrained(folder), open_model(folder)
    batch = tokenizer(["the little cat", "the cat"], padding=True, return_tensors="pt")
    alone = tokenizer("the cat", return_tensors="pt").input_ids
    assert batch.attention_mask.sum(1).tolist() == [3, 2]
    torch.testing.assert_close(model(**batch).logits[1, :2], model(alone).logits[0], atol=2e-5, rtol=1e-4)
    assert model.config.pad_token_id == tokenizer.pad_token_id


def test_a_function_that_is_not_torchs_cannot_be_named(lively_net, compose, tokenizer, tmp_path):
    mlp = compose("model=tiny", "model/mlp=topk", "model.mlp.activation.path=tti.models.mlp.gelu_tanh").model.mlp
    with pytest.raises(ValueError, match=r"can only name functions of torch"):
        write(tmp_path, lively_net("model/mlp=topk"), mlp, tokenizer)


def test_an_mlp_of_ones_own_is_carried_and_what_it_forgets_is_found(lively_net, compose, tokenizer, story, tmp_path):
    mlp = compose("model=tiny", "model.d_model=16").model.mlp
    mlp["_target_"] = "tests.huggingface.forgetful.Forgetful"
    net = lively_net(f"model.mlp._target_={mlp['_target_']}")
    write(tmp_path, net, mlp, tokenizer)
    model = open_model(tmp_path)
    assert largest_difference(net, model, [story], torch.float64) < 1e-10
    for block in net.blocks:
        block.mlp.scale = 1.1
    assert largest_difference(net, model, [story], torch.float64) > 1e-3
