"""Stories of a flat batch are isolated: each is computed as if it were alone."""

import random
import shutil
from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch._dynamo.testing import CompileCounter
from torch.nn.functional import cross_entropy
from transformers import GPT2Config, GPT2LMHeadModel

from tests.conftest import VOCAB, make_batch
from tti import configuration
from tti.models.stories import Grouped, Separate

LAYOUTS = [Separate.of, Grouped.of]
LENGTHS = [7, 1, 20, 3, 3, 12, 32, 5, 2]

some_lengths = st.lists(st.integers(1, 32), min_size=1, max_size=10)


def nll(net, batch):
    with torch.no_grad():
        return net.loss(net(batch.tokens, batch.stories), batch.targets)[1]


def alone(batch):
    """The stories of a batch as pairs of tokens and targets."""
    return zip(batch.tokens.split(batch.stories.lengths), batch.targets.split(batch.stories.lengths), strict=True)


@pytest.fixture(scope="module")
def net(make_net):
    return sharpened(make_net())


def sharpened(net):
    """Increase the initial weights, so that attention is far from uniform and errors show."""
    with torch.no_grad():
        for p in net.parameters():
            if p.ndim == 2:
                p.mul_(10)
            else:
                p.add_(torch.randn_like(p) / 5)
    return net


@pytest.fixture(scope="module")
def reference(net):
    """The same network as transformers' GPT-2, an independent implementation."""
    config = GPT2Config(
        vocab_size=VOCAB,
        n_positions=net.context,
        n_embd=16,
        n_layer=len(net.blocks),
        n_head=2,
        activation_function="gelu",
        attn_implementation="eager",
        bos_token_id=0,
        eos_token_id=0,
    )
    gpt2 = GPT2LMHeadModel(config).eval()
    weights = {"wte.weight": net.embed.weight, "wpe.weight": net.pos_embed.weight}
    norms = {"ln_f": net.ln_final}
    for i, block in enumerate(net.blocks):
        norms |= {f"h.{i}.ln_1": block.ln1, f"h.{i}.ln_2": block.ln2}
        matrices = {
            "attn.c_attn": block.attn.qkv,
            "attn.c_proj": block.attn.out,
            "mlp.c_fc": block.mlp.inp,
            "mlp.c_proj": block.mlp.out,
        }
        for name, matrix in matrices.items():
            weights[f"h.{i}.{name}.weight"] = matrix.weight.T
            weights[f"h.{i}.{name}.bias"] = torch.zeros(matrix.out_features)
    for name, norm in norms.items():
        weights |= {f"{name}.weight": norm.weight, f"{name}.bias": norm.bias}
    gpt2.transformer.load_state_dict(weights, strict=True)
    gpt2.tie_weights()
    return gpt2


@pytest.mark.parametrize("layout", LAYOUTS)
def test_losses_are_those_of_padded_single_stories_in_gpt2(net, reference, layout):
    batch = make_batch(LENGTHS, layout)
    longest = max(LENGTHS)
    padded = torch.stack([torch.cat([story, story.new_zeros(longest - len(story))]) for story, _ in alone(batch)])
    mask = torch.arange(longest) < torch.tensor(LENGTHS)[:, None]
    with torch.no_grad():
        logits = reference(input_ids=padded, attention_mask=mask.long()).logits[mask]
    expected = cross_entropy(logits, batch.targets, reduction="none")
    assert expected.std() > 0.5  # the losses are not trivial
    torch.testing.assert_close(nll(net, batch), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("layout", LAYOUTS)
@given(lengths=some_lengths)
@settings(max_examples=15, deadline=None)
def test_every_story_is_computed_as_if_alone(net, layout, lengths):
    batch = make_batch(lengths, layout)
    single = []
    for tokens, targets in alone(batch):
        with torch.no_grad():
            hidden = net(tokens, Separate.of([len(tokens)]))
            single.append(cross_entropy(net.logits(hidden), targets, reduction="none"))
    torch.testing.assert_close(nll(net, batch), torch.cat(single), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("layout", LAYOUTS)
@given(lengths=some_lengths, data=st.data())
@settings(max_examples=15, deadline=None)
def test_another_story_changes_no_loss(net, layout, lengths, data):
    changed = data.draw(st.integers(0, len(lengths) - 1))
    batch = make_batch(lengths, layout)
    before = nll(net, batch).split(lengths)
    batch.tokens.split(lengths)[changed].add_(1).remainder_(VOCAB)
    after = nll(net, batch).split(lengths)
    for story, (was, is_) in enumerate(zip(before, after, strict=True)):
        if story == changed:
            assert not torch.allclose(was, is_)
        else:
            torch.testing.assert_close(is_, was, rtol=0, atol=1e-6)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_the_future_changes_no_loss(net, layout):
    batch = make_batch([9, 6], layout)
    before = nll(net, batch)
    batch.tokens[5:9] = (batch.tokens[5:9] + 1) % VOCAB
    after = nll(net, batch)
    torch.testing.assert_close(after[:5], before[:5], rtol=0, atol=1e-6)
    assert not torch.allclose(after[5:9], before[5:9])


@pytest.mark.parametrize("layout", LAYOUTS)
@given(lengths=some_lengths)
@settings(max_examples=15, deadline=None)
def test_positions_start_at_0_in_every_story(layout, lengths):
    stories = layout(lengths)
    assert stories.lengths == tuple(lengths)
    assert stories.positions.tolist() == [position for length in lengths for position in range(length)]


@given(lengths=some_lengths)
@settings(max_examples=15, deadline=None)
def test_grouped_gives_the_gradients_of_separate(net, lengths):
    gradients = []
    for layout in LAYOUTS:
        batch = make_batch(lengths, layout)
        loss, _ = net.loss(net(batch.tokens, batch.stories), batch.targets)
        gradients.append(torch.autograd.grad(loss, list(net.parameters())))
    torch.testing.assert_close(*gradients, rtol=1e-3, atol=1e-5)


@given(lengths=some_lengths)
@settings(max_examples=30, deadline=None)
def test_groups_are_few_hold_every_token_once_and_similar_stories(lengths):
    stories = Grouped.of(lengths)
    assert len(stories.shapes) <= Grouped.groups
    assert sum(count for count, _ in stories.shapes) == len(lengths)
    assert len(set(stories.slot.tolist())) == sum(lengths)
    assert stories.slot.max() < sum(count * length for count, length in stories.shapes)
    assert [length for _, length in stories.shapes] == sorted(length for _, length in stories.shapes)
    assert stories.shapes[-1][1] == max(lengths)


def test_attention_dropout_acts_in_training_only(make_net):
    net = make_net("model.attention_dropout=0.5", "model.dropout=0")
    for layout in LAYOUTS:
        batch = make_batch([8, 8], layout)
        assert torch.equal(nll(net.eval(), batch), nll(net, batch))
        assert not torch.equal(nll(net.train(), batch), nll(net, batch))


def test_a_layout_moves_with_its_batch():
    for layout in LAYOUTS:
        moved = make_batch([3, 2], layout).to(torch.device("meta"))
        tensors = [value for value in (*vars(moved).values(), *vars(moved.stories).values()) if torch.is_tensor(value)]
        assert len(tensors) >= 4
        assert all(tensor.is_meta for tensor in tensors)
        assert moved.stories.lengths == (3, 2)


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("g++") is None, reason="torch.compile needs a C++ compiler")
def test_the_network_compiles_whole_with_grouped_stories(make_net):
    net = sharpened(make_net(n_layers=1))
    batches = [make_batch(lengths, Grouped.of) for lengths in ([7, 3, 20, 4, 12], [4, 9, 9, 2, 30, 6])]
    expected = [nll(net, batch) for batch in batches]
    net.compile(dynamic=True, fullgraph=True)
    for batch, want in zip(batches, expected, strict=True):
        torch.testing.assert_close(nll(net, batch), want, rtol=1e-4, atol=1e-4)


@pytest.mark.nightly
@pytest.mark.parametrize(("of", "anew"), [(Grouped.of, False), (Separate.of, True)])
def test_grouped_stories_never_compile_anew(make_net, of, anew):
    """One graph for all batches; when every story is a call of its own, one for each number of stories."""
    torch._dynamo.reset()
    net, graphs, draw = make_net(n_layers=1), CompileCounter(), random.Random(0)
    net.compile(dynamic=True, backend=graphs)
    for stories in (12, 12, 15, 16, 9, 13):
        batch = make_batch([draw.randint(2, 30) for _ in range(stories)], of)
        net(batch.tokens, batch.stories)
    assert (graphs.frame_count > 1) == anew


@pytest.mark.parametrize(("compile", "layout"), [(True, "Grouped"), (False, "Separate")])
def test_a_cpu_takes_the_layout_that_suits_the_compiler(compose, compile, layout, monkeypatch):
    monkeypatch.setattr(configuration, "_has_cuda", lambda: False)
    assert compose(f"task.compile={compile}").data.layout.path == f"tti.models.stories.{layout}.of"


@pytest.mark.parametrize("layout", LAYOUTS)
def test_without_the_causal_mask_a_story_attends_to_all_of_itself(layout):
    """Computed by hand: softmax over all keys of the story."""
    qkv = torch.randn(sum(LENGTHS), 3, 2, 4)
    mixed = replace(layout(LENGTHS), causal=False).attend(qkv, 0.0)
    for part, found in zip(qkv.split(LENGTHS), mixed.split(LENGTHS), strict=True):
        q, k, v = part.permute(1, 2, 0, 3)
        wanted = (q @ k.transpose(1, 2) / 2).softmax(-1) @ v
        torch.testing.assert_close(found, wanted.transpose(0, 1))


@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_token_knows_its_story(layout):
    assert layout(LENGTHS).story.tolist() == [i for i, length in enumerate(LENGTHS) for _ in range(length)]


@pytest.mark.parametrize("of", LAYOUTS)
def test_under_autocast_attention_without_dropout_is_exact_on_a_cpu(of):
    """Only its input and output are rounded to bf16."""
    torch.manual_seed(0)
    layout = of(LENGTHS)
    qkv = torch.randn(sum(LENGTHS), 3, 2, 8).bfloat16()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        got = layout.attend(qkv, dropout=0.0)
    assert torch.equal(got, layout.attend(qkv.float(), dropout=0.0).bfloat16())
