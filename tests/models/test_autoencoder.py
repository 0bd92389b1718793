"""The encoder sees the whole sentence and no other; the decoder only the latent and what came before."""

from dataclasses import replace

import pytest
import torch

from tests.conftest import VOCAB, make_batch
from tti.models.autoencoder import LOG_VARIANCE, MEAN, SAMPLE, Autoencoder, written
from tti.models.gpt import require_gpt
from tti.models.network import Readable, Site
from tti.models.stories import Grouped, Separate
from tti.models.taps import Recorder

LENGTHS = [7, 1, 20, 3, 3, 12]


@pytest.fixture(scope="module")
def net(make_net) -> Autoencoder:
    made = make_net("model=autoencoder", "model.latent=5")
    with torch.no_grad():
        for parameter in made.parameters():  # so that errors show
            parameter.mul_(4) if parameter.ndim == 2 else parameter.add_(torch.randn_like(parameter) / 5)
    return made


def encoded(net, batch):
    with torch.no_grad():
        return net.encoded(batch.tokens, batch.stories)


def hidden(net, batch, latent):
    with torch.no_grad():
        return net.decoded(latent, batch.tokens, batch.stories)


@pytest.mark.parametrize("layout", [Separate.of, Grouped.of])
def test_every_sentence_is_encoded_and_decoded_as_if_alone(net, layout):
    batch = make_batch(LENGTHS, layout)
    together, latent = encoded(net, batch), torch.randn(len(LENGTHS), 5)
    states = hidden(net, batch, latent).split(batch.stories.lengths)
    for i, tokens in enumerate(batch.tokens.split(batch.stories.lengths)):
        one = replace(batch, tokens=tokens, stories=Separate.of([len(tokens)]))
        torch.testing.assert_close(encoded(net, one)[0], together[i], atol=1e-5, rtol=1e-4)
        torch.testing.assert_close(hidden(net, one, latent[i : i + 1]), states[i], atol=1e-5, rtol=1e-4)


def test_the_encoder_sees_later_tokens_and_the_decoder_does_not(net):
    batch = make_batch([9])
    other = replace(batch, tokens=torch.cat([batch.tokens[:-1], (batch.tokens[-1:] + 1) % VOCAB]))
    recorders = [Recorder(["encoder.blocks.0.attn_out"]) for _ in range(2)]
    latent = torch.randn(1, 5)
    for each, recorder in zip((batch, other), recorders, strict=True):
        net(each.tokens, each.stories, recorder)
    first = [recorder.activations["encoder.blocks.0.attn_out"][0] for recorder in recorders]
    assert not torch.allclose(*first)
    assert torch.equal(hidden(net, batch, latent)[:-1], hidden(net, other, latent)[:-1])


def test_the_latent_enters_at_every_layer_and_every_token(net):
    batch = make_batch([4, 6])
    recorders = [Recorder([f"blocks.{i}.resid_pre" for i in range(2)]) for _ in range(2)]
    for latent, recorder in zip((torch.zeros(2, 5), torch.tensor([[0.0] * 5, [1.0] * 5])), recorders, strict=True):
        net.decoded(latent, batch.tokens, batch.stories, recorder)
    for site in recorders[0].activations:
        change = recorders[1].activations[site] - recorders[0].activations[site]
        assert not change[:4].any()
        assert change[4:].abs().sum(1).all()
    added = recorders[1].activations["blocks.0.resid_pre"][4:] - recorders[0].activations["blocks.0.resid_pre"][4:]
    torch.testing.assert_close(added, net.read[0].weight.sum(1).expand(6, -1))


def test_the_latent_is_a_sample_in_training_and_the_mean_in_evaluation(net):
    batch = make_batch([3] * 2000)
    recorder = Recorder([MEAN, LOG_VARIANCE, SAMPLE])
    net.train()
    net.encoded(batch.tokens, batch.stories, recorder)
    net.eval()
    mean, log_variance, sample = recorder.activations.values()
    noise = (sample - mean) / (log_variance / 2).exp()
    assert noise.mean().item() == pytest.approx(0, abs=0.05)
    assert noise.std().item() == pytest.approx(1, abs=0.05)
    assert torch.equal(encoded(net, batch), mean)


def test_without_noise_there_is_no_variance_and_no_sample(make_net):
    plain = make_net("model=autoencoder", "model.noise=false")
    assert LOG_VARIANCE not in plain.sites
    batch = make_batch([3, 4])
    plain.train()
    assert torch.equal(encoded(plain, batch), encoded(plain, batch))


def test_its_sites_are_those_of_two_transformers_and_the_latent(net):
    assert net.sites[MEAN] == net.sites[LOG_VARIANCE] == net.sites[SAMPLE] == Site(5, "document")
    decoder = {name for name in net.sites if name.startswith("blocks.")}
    assert {f"encoder.{name}" for name in decoder} <= net.sites.keys()
    assert isinstance(net, Readable)
    assert net.writes("encoder.blocks.0.mlp.post") is None
    assert net.writes("blocks.0.mlp.post").shape == (16, 64)
    assert net.reads("encoder.blocks.1.mlp.post") is net.encoder.blocks[1].mlp.inp.weight


def test_writing_from_a_latent_is_greedy_decoding(net):
    latents, end = torch.randn(3, 5), VOCAB - 1
    for i, found in enumerate(written(net, latents, start=0, end=end)):
        tokens = [0]
        while len(tokens) < net.context:
            layout = Separate.of([len(tokens)])
            with torch.no_grad():
                logits = net.logits(net.decoded(latents[i : i + 1], torch.tensor(tokens), layout)[-1])
            if int(logits.argmax()) == end:
                break
            tokens.append(int(logits.argmax()))
        assert found == tokens[1:]


def test_it_is_no_gpt_to_export(net):
    with pytest.raises(ValueError, match="the network is a Autoencoder: an export is a GPT-2"):
        require_gpt(net)
