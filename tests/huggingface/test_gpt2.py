"""GPT-2s of transformers converted to ours: the same logits; those that cannot be converted are wrapped."""

import pytest
import torch
from transformers import GPT2Config, GPT2LMHeadModel

from tti.huggingface.foreign import Foreign
from tti.huggingface.gpt2 import ACTIVATIONS, can_be_ours, from_gpt2, is_gpt2
from tti.huggingface.wrapped import Wrapped
from tti.models.stories import Separate

SIZES = {"vocab_size": 50, "n_positions": 32, "n_embd": 24, "n_layer": 3, "n_head": 2}


@pytest.fixture(scope="module")
def make():
    """A GPT-2 of transformers with nonzero biases."""

    def made(**options):
        torch.manual_seed(0)
        model = GPT2LMHeadModel(GPT2Config(**SIZES, **options)).eval()
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.add_(0.3 * torch.randn_like(parameter))
        return model

    return made


@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("width", [None, 7])
def test_the_same_logits(make, activation, width, story):
    theirs = make(activation_function=activation, n_inner=width)
    net = from_gpt2(theirs)
    logits = net.logits(net(story, Separate.of([len(story)])))
    torch.testing.assert_close(logits, theirs(story[None]).logits[0], atol=2e-5, rtol=1e-5)
    assert is_gpt2(net)


def test_it_stays_where_it_is_after_saving(make, story, tmp_path):
    theirs = make()
    theirs.save_pretrained(tmp_path)
    net = Foreign(str(tmp_path), tmp_path).model("model")
    torch.testing.assert_close(
        net.logits(net(story, Separate.of([20]))), theirs(story[None]).logits[0], atol=2e-5, rtol=1e-5
    )


@pytest.mark.parametrize(
    ("option", "value"),
    [("layer_norm_epsilon", 1e-3), ("scale_attn_by_inverse_layer_idx", True), ("tie_word_embeddings", False),
     ("activation_function", "silu"), ("scale_attn_weights", False)],
)  # fmt: skip
def test_one_with_an_option_that_ours_has_not_is_wrapped(make, option, value, story, tmp_path):
    theirs = make(**{option: value})
    assert not can_be_ours(theirs)
    theirs.save_pretrained(tmp_path)
    net = Foreign(str(tmp_path), tmp_path).model("model")
    assert isinstance(net, Wrapped)
    logits = net.logits(net(story, Separate.of([len(story)])))
    torch.testing.assert_close(logits, theirs(story[None]).logits[0], atol=2e-5, rtol=1e-5)
