"""Folders as found in practice: each fault gives one line that names the file, or the model is evaluated correctly."""

import json
import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoConfig, BertConfig, GPT2Config, GPT2LMHeadModel, LlamaConfig, LlamaForCausalLM

from tti.huggingface.foreign import Foreign
from tti.huggingface.wrapped import Wrapped
from tti.models.gpt import GPT
from tti.models.stories import Separate

POINTER = "version https://git-lfs.github.com/spec/v1\noid sha256:" + "b2" * 32 + "\nsize 548105171\n"


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """A saved GPT-2, and a Llama with an untied head."""
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("found")
    gpt2 = GPT2LMHeadModel(GPT2Config(vocab_size=50, n_positions=32, n_embd=16, n_layer=2, n_head=2))
    gpt2.save_pretrained(folder / "gpt2")
    sizes = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 24}
    LlamaForCausalLM(LlamaConfig(vocab_size=50, **sizes)).save_pretrained(folder / "llama")
    return folder


@pytest.fixture
def folder(written, tmp_path):
    shutil.copytree(written, tmp_path, dirs_exist_ok=True)
    return tmp_path


def rewrite(path, change):
    weights = load_file(path)
    save_file(change(weights), path, metadata={"format": "pt"})


def opened(path):
    return Foreign(str(path), path).model("model").eval()


@torch.no_grad()
def logits(net, story):
    return net.logits(net(story, Separate.of([len(story)])))


@torch.no_grad()
def test_a_head_of_its_own_is_the_one_that_is_evaluated(folder, story):
    path = folder / "gpt2"
    rewrite(path / "model.safetensors", lambda weights: weights | {"lm_head.weight": torch.randn(50, 16)})
    assert AutoConfig.from_pretrained(path).tie_word_embeddings  # the default, so the file does not mention it
    net = opened(path)
    assert isinstance(net, Wrapped)
    theirs = GPT2LMHeadModel.from_pretrained(path).eval()
    torch.testing.assert_close(logits(net, story), theirs(story[None]).logits[0], atol=1e-5, rtol=1e-4)
    untrained = Foreign(str(path), path).untrained()
    assert not torch.equal(untrained.theirs.lm_head.weight, untrained.theirs.transformer.wte.weight)


@pytest.mark.parametrize("prefix", ["_orig_mod.", "module.", "module._orig_mod."])
def test_weights_of_a_compiled_or_distributed_model_are_read(folder, story, prefix):
    path = folder / "gpt2"
    expected = logits(opened(path), story)
    rewrite(path / "model.safetensors", lambda weights: {f"{prefix}{name}": each for name, each in weights.items()})
    net = opened(path)
    assert isinstance(net, GPT)
    assert torch.equal(logits(net, story), expected)


def without(name):
    return lambda weights: {key: value for key, value in weights.items() if key != name}


@pytest.mark.parametrize(
    ("model", "change", "said"),
    [
        ("gpt2", without("transformer.h.1.mlp.c_fc.weight"), r"1 missing \(transformer.h.1.mlp.c_fc.weight"),
        ("gpt2", lambda weights: weights | {"other.weight": torch.ones(2)}, r"1 unexpected \(other.weight"),
        ("llama", without("lm_head.weight"), r"1 missing \(lm_head.weight"),
        ("llama", lambda weights: {f"net.{name}": each for name, each in weights.items()}, "missing"),
    ],
)
def test_weights_that_are_missing_or_left_over_are_named(folder, model, change, said):
    rewrite(folder / model / "model.safetensors", change)
    with pytest.raises(ValueError, match=f"the weights in .*{model} are not those of its config.json: .*{said}"):
        opened(folder / model)


def test_weights_of_another_shape_are_said(folder):
    shape = "transformer.wpe.weight"
    rewrite(folder / "gpt2/model.safetensors", lambda weights: weights | {shape: torch.zeros(16, 16)})
    with pytest.raises(ValueError, match=r"the weights in .*gpt2"):
        opened(folder / "gpt2")


@pytest.mark.parametrize("name", ["model.safetensors", "config.json", "pytorch_model.bin"])
def test_a_pointer_of_git_lfs_is_said_to_be_one(folder, name):
    (folder / "gpt2" / name).write_text(POINTER)
    with pytest.raises(ValueError, match=rf"gpt2/{name} is a Git LFS pointer.*git lfs pull"):
        opened(folder / "gpt2")


@pytest.mark.parametrize("content", [b"", b"no weights at all", b"\xff" * 4096])
def test_what_is_no_safetensors_file_is_named(folder, content):
    (folder / "gpt2/model.safetensors").write_bytes(content)
    with pytest.raises(ValueError, match=r"gpt2/model.safetensors is not a safetensors file .*download it again"):
        opened(folder / "gpt2")


def test_weights_that_were_cut_short_are_named(folder):
    path = folder / "gpt2/model.safetensors"
    path.write_bytes(path.read_bytes()[:-1000])
    with pytest.raises(ValueError, match=r"gpt2/model.safetensors is not a safetensors file"):
        opened(folder / "gpt2")


def test_no_weights_at_all_and_pickled_ones_that_are_damaged(folder):
    (folder / "gpt2/model.safetensors").unlink()
    with pytest.raises(ValueError, match=r"the weights in .*gpt2 cannot be loaded \(OSError"):
        opened(folder / "gpt2")
    (folder / "gpt2/pytorch_model.bin").write_bytes(b"no pickle")
    with pytest.raises(ValueError, match=r"the weights in .*gpt2 cannot be loaded"):
        opened(folder / "gpt2")


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", '{"model_type": "no_such"}'])
def test_a_configuration_that_is_none_is_said(folder, text):
    (folder / "gpt2/config.json").write_text(text)
    with pytest.raises(ValueError, match=r"no Hugging Face model in .*gpt2"):
        opened(folder / "gpt2")


def test_a_folder_without_a_model_is_said(tmp_path):
    with pytest.raises(ValueError, match=f"no Hugging Face model in {tmp_path}"):
        opened(tmp_path)


def test_another_architecture_is_refused_with_what_is_supported(tmp_path):
    BertConfig().save_pretrained(tmp_path)
    with pytest.raises(ValueError, match=r"not supported.*model_type bert.*Supported are.*gpt2, gpt_neo, gpt_neox"):
        opened(tmp_path)


def test_code_that_comes_with_a_model_is_not_run(folder):
    path = folder / "gpt2/config.json"
    own = {"auto_map": {"AutoModelForCausalLM": "modeling_own.Own"}}
    path.write_text(json.dumps(json.loads(path.read_text()) | own))
    with pytest.raises(ValueError, match="without code of their own"):
        opened(folder / "gpt2")
