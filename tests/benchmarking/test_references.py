"""Compared loops do the same work: with equal weights and no dropout, their loss and gradients equal ours."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from tti.benchmarking.huggingface import HuggingFace
from tti.benchmarking.loop import Loop
from tti.benchmarking.nanogpt import NanoGPT
from tti.benchmarking.original import Original
from tti.benchmarking.ours import Ours
from tti.benchmarking.sample import Sample
from tti.models.stories import Separate


def gradient(loop: Loop, sample: Sample, name: str) -> tuple[Tensor, Tensor]:
    loop.net.zero_grad()
    loss = loop.loss(sample)
    loss.backward()
    weight = loop.net.get_parameter(name)
    assert weight.grad is not None
    return loss, weight.grad


@pytest.fixture
def one_row(still) -> Sample:
    """A single story, packed into its own row: the only packing in which no story sees another."""
    sample = replace(still, stories=1, steps=1).samples[0]
    batch = sample.batch
    return replace(sample, packed_tokens=batch.tokens[None], packed_targets=batch.targets[None])


def test_the_original(still):
    ours, original = Ours(still), Original(still)
    original.net.load_state_dict(ours.net.net.state_dict())
    for sample in still.samples:
        loss, grad = gradient(ours, sample, "net.embed.weight")
        theirs, their_grad = gradient(original, sample, "embed.weight")
        torch.testing.assert_close(theirs, loss, rtol=1e-6, atol=1e-6)
        torch.testing.assert_close(their_grad, grad, rtol=1e-4, atol=1e-7)


def test_nanogpt(still, one_row):
    still = still.having("model.vocab_size=704")  # a multiple of 64, so that no padding is added
    ours, nanogpt = Ours(still), NanoGPT(still, compile=False)
    nanogpt.net.load_state_dict(ours.net.net.state_dict())
    loss, grad = gradient(ours, one_row, "net.embed.weight")
    theirs, their_grad = gradient(nanogpt, one_row, "embed.weight")
    torch.testing.assert_close(theirs, loss, rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(their_grad, grad, rtol=1e-4, atol=1e-7)


def test_nanogpts_vocabulary_is_rounded_up_for_its_kernels(still):
    assert (
        NanoGPT(still.having("model.vocab_size=650"), compile=False).net.get_parameter("embed.weight").shape[0] == 704
    )


def test_hugging_face(still, one_row):
    ours, theirs = Ours(still), HuggingFace(still)
    state = {name: torch.zeros_like(value) for name, value in theirs.net.state_dict().items()}  # biases stay 0
    renamed = [("embed", "wte"), ("pos_embed", "wpe"), ("ln_final", "ln_f"), ("blocks.", "h."), ("ln1", "ln_1")]
    renamed += [("ln2", "ln_2"), ("attn.qkv", "attn.c_attn"), ("attn.out", "attn.c_proj")]
    renamed += [("mlp.inp", "mlp.c_fc"), ("mlp.out", "mlp.c_proj")]
    for name, value in ours.net.net.state_dict().items():
        linear = any(part in name for part in ("attn.", "mlp."))
        own = name
        for old, new in renamed:
            own = own.replace(old, new) if old != "embed" or own == "embed.weight" else own
        state[f"transformer.{own}"] = value.T if linear else value
    state["lm_head.weight"] = state["transformer.wte.weight"]
    theirs.net.load_state_dict(state)
    loss, grad = gradient(ours, one_row, "net.embed.weight")
    other, other_grad = gradient(theirs, one_row, "transformer.wte.weight")
    torch.testing.assert_close(other, loss, rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(other_grad, grad, rtol=1e-4, atol=1e-7)


@pytest.mark.parametrize("make", [Original, lambda setting: NanoGPT(setting, compile=False), HuggingFace, Ours])
def test_every_loop_learns(setting, make):
    """The steps really train: the loss on a repeated batch falls."""
    setting.seed()
    loop = make(setting.having("optimizer.lr=1e-2"))
    sample = setting.samples[0]
    with torch.no_grad():
        before = float(loop.loss(sample))
    for _ in range(8):
        loop.step(sample)
    with torch.no_grad():
        assert float(loop.loss(sample)) < before - 0.3


def test_all_loops_have_the_same_dropouts(setting):
    """Including dropout on the attention weights, if the setting has it."""
    setting = setting.having("model.dropout=0.2", "model.attention_dropout=0.3")
    (sample,) = replace(setting, steps=1).samples
    for make in (Original, lambda each: NanoGPT(each, compile=False), HuggingFace, Ours):
        for off in ("model.dropout=0", "model.attention_dropout=0"):
            loop = make(setting.having(off))
            with torch.no_grad():
                assert loop.loss(sample) != loop.loss(sample)


def test_our_step_is_in_the_middle_of_training_and_without_measurements(setting):
    ours = Ours(setting.having("regularizer=l1"))
    assert ours.net.objective.coefficients(ours.net.progress) == {"l1": 1e-3}
    ours.step(setting.samples[0])
    assert not ours.net.journal.ratios


def test_the_layout_of_stories_on_a_cpu(setting):
    assert isinstance(setting.samples[0].batch.stories, Separate)
