"""transformers' decoders as networks: their outputs document by document, and the effect of taps."""

import pytest
import torch
from torch import nn
from transformers import AutoConfig, AutoModelForCausalLM

from tti.huggingface.names import FAMILIES
from tti.huggingface.wrapped import Wrapped
from tti.interventions.replace import Replacement
from tti.models.network import Readable, Reparametrizable
from tti.models.stories import Grouped, Separate
from tti.models.taps import Recorder

COMMON = {"vocab_size": 50, "max_position_embeddings": 32, "tie_word_embeddings": False}
LLAMA = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2,
         "intermediate_size": 24}  # fmt: skip
CONFIGS = {
    "gpt2": {"n_embd": 16, "n_layer": 2, "n_head": 2},
    "gpt_neo": {"hidden_size": 16, "num_layers": 2, "num_heads": 2, "intermediate_size": 24, "window_size": 3,
                "attention_types": [[["global", "local"], 1]]},  # every other layer is local
    "gpt_neox": {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 24},
    "llama": LLAMA,
    "mistral": LLAMA | {"sliding_window": 3, "head_dim": 4},
    "qwen2": LLAMA,
    "qwen3": LLAMA | {"head_dim": 8},
}  # fmt: skip
LENGTHS = (5, 9, 1, 7)


def made(family, **options):
    """A small model of this family, in which no weight is constant at its initial value."""
    torch.manual_seed(0)
    config = AutoConfig.for_model(family, **COMMON | CONFIGS[family] | options)
    model = AutoModelForCausalLM.from_config(config, dtype=torch.float32).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.2 * torch.randn_like(parameter))
    return model


@pytest.fixture(scope="module", params=FAMILIES)
def theirs(request):
    return made(request.param)


@pytest.fixture(scope="module")
def net(theirs):
    return Wrapped(theirs)


@pytest.fixture(scope="module")
def tokens():
    return torch.randint(50, (sum(LENGTHS),), generator=torch.Generator().manual_seed(3))


def close(found, expected):
    torch.testing.assert_close(found, expected, atol=2e-5, rtol=1e-4)


@pytest.mark.parametrize("layout", [Separate, Grouped])
@torch.no_grad()
def test_documents_in_one_batch_have_the_logits_that_each_has_alone(theirs, net, tokens, layout):
    found = net.logits(net(tokens, layout.of(LENGTHS)))
    close(found, torch.cat([theirs(document[None]).logits[0] for document in tokens.split(LENGTHS)]))


@torch.no_grad()
def test_activations_are_those_that_their_modules_compute(theirs, net, tokens):
    recorder = Recorder(net.sites)
    hidden = net(tokens, Separate.of(LENGTHS), recorder)
    acts = recorder.activations
    assert set(acts) == set(net.sites) == set(net.places)
    assert all(acts[name].shape == (len(tokens), site.width) for name, site in net.sites.items())
    alone = [theirs(document[None], output_hidden_states=True).hidden_states for document in tokens.split(LENGTHS)]
    for i, states in enumerate(zip(*alone, strict=True)):
        site = (
            f"blocks.{i}.resid_pre" if i < 2 else "ln_final.normalized"
        )  # the last of theirs comes after the final norm
        close(acts[site], torch.cat([state[0] for state in states]))
    assert torch.equal(acts["ln_final.normalized"], hidden)
    close(acts["embed"], theirs.get_input_embeddings()(tokens))
    family = FAMILIES[theirs.config.model_type]
    for i in range(2):
        block = theirs.base_model.get_submodule(f"{family.blocks}.{i}")
        at = {name.removeprefix(f"blocks.{i}."): value for name, value in acts.items()}
        close(at["ln1.normalized"], block.get_submodule(family.ln1)(at["resid_pre"]))
        close(at["attn_out"], block.get_submodule(family.attn_out)(at["attn.z"]))
        close(at["mlp.pre"], block.get_submodule(family.mlp_in)(at["ln2.normalized"]))
        close(at["mlp_out"], block.get_submodule(family.mlp_out)(at["mlp.post"]))
        close(at["mlp_out"], block.mlp(at["ln2.normalized"]))
        close(at["resid_post"], at["resid_pre"] + at["attn_out"] + at["mlp_out"])


@torch.no_grad()
def test_the_network_goes_on_with_what_a_tap_gives_back(theirs, net, tokens):
    layout = Separate.of(LENGTHS)
    plain = net(tokens, layout)
    for site in net.sites:
        assert torch.equal(net(tokens, layout, Replacement(site, lambda acts: acts.clone())), plain), site
        assert not torch.allclose(net(tokens, layout, Replacement(site, lambda acts: acts + acts.roll(1, -1))), plain)
    without = net(tokens, layout, Replacement("blocks.1.mlp_out", torch.zeros_like))
    last = theirs.base_model.get_submodule(f"{FAMILIES[theirs.config.model_type].blocks}.1")
    handle = last.mlp.register_forward_hook(lambda module, arguments, output: torch.zeros_like(output))
    close(without, net(tokens, layout))
    handle.remove()
    assert torch.equal(net(tokens, layout), plain)  # no hook remains


def test_gradients_reach_activations_that_were_recorded(net, tokens):
    recorder = Recorder(net.sites)
    hidden = net(tokens, Separate.of(LENGTHS), recorder)
    acts = list(recorder.activations.values())
    gradients = torch.autograd.grad(hidden.square().sum(), acts)
    assert all(gradient.abs().max() > 0 for gradient in gradients)
    torch.testing.assert_close(gradients[-1], 2 * hidden)


@torch.no_grad()
def test_a_tap_on_one_document_does_not_reach_another(net, tokens):
    layout = Separate.of(LENGTHS)
    second = slice(LENGTHS[0], LENGTHS[0] + LENGTHS[1])

    def changed(acts):
        acts = acts.clone()
        acts[second] += acts[second].roll(1, -1)
        return acts

    difference = net(tokens, layout, Replacement("blocks.0.resid_pre", changed)) - net(tokens, layout)
    outside = torch.ones(len(tokens), dtype=torch.bool)
    outside[second] = False
    assert difference[outside].abs().max() == 0
    assert (difference[second].abs().amax(-1) > 0).all()


@torch.no_grad()
def test_the_loss_is_theirs(theirs, net, tokens):
    targets = tokens.roll(-1)
    mean, each = net.loss(net(tokens, Separate.of(LENGTHS)), targets)
    expected = [theirs(document[None]).logits[0] for document in tokens.split(LENGTHS)]
    expected = nn.functional.cross_entropy(torch.cat(expected), targets, reduction="none")
    close(each, expected)
    assert mean.item() == pytest.approx(expected.mean().item(), rel=1e-5)


@torch.no_grad()
def test_a_local_layer_sees_its_window_and_nothing_before_it():
    """Two layers with a window of three tokens: a token can be seen up to four positions later."""
    net = Wrapped(made("gpt_neo", attention_types=[[["local"], 2]]))
    layout = Separate.of([12])
    tokens = torch.arange(12)
    changed = tokens.clone()
    changed[0] = 40
    moved = (net(tokens, layout) - net(changed, layout)).abs().amax(-1) > 0
    assert moved.tolist() == [True] * 5 + [False] * 7


def test_what_needs_its_weights_is_told_that_they_are_not_known(net):
    assert not isinstance(net, Readable | Reparametrizable)
    assert net.vocab_size == 50
    assert net.context == 32


def test_operations_count_every_matrix_of_the_blocks_and_the_head():
    net = Wrapped(made("llama"))
    attention, mlp, head = 16 * 16 * 2 + 16 * 8 * 2, 3 * 16 * 24, 50 * 16
    assert net.operations_per_token == 6 * (2 * (attention + mlp) + head)
