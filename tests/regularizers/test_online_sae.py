from functools import partial

import pytest
import torch

from tests.conftest import make_batch
from tti.autoencoders.standard import Standard
from tti.autoencoders.topk import TopK
from tti.models.network import Site
from tti.models.taps import Recorder
from tti.modules.protocols import Drawing, Tuned
from tti.regularizers.online_sae import OnlineSAE
from tti.step import Step

SITES = ("blocks.0.mlp_out", "blocks.1.mlp_out")


def online(**changes):
    settings = {
        "sites": "blocks.*.mlp_out",
        "weight": 0.1,
        "warmup": 0.0,
        "autoencoder": partial(TopK, k=4, dead_after=1000),
        "expansion": 4,
        "gradient_into_model": True,
        "learning_rate": 1e-3,
        "every": 1,
        "seed": 0,
    } | changes
    term = OnlineSAE(**settings)
    term.attach(dict.fromkeys(SITES, Site(16)))
    return term


def step_of(net):
    batch, recorder = make_batch([9, 5, 12]), Recorder(SITES)
    _, nll = net.loss(net(batch.tokens, batch.stories, recorder), batch.targets)
    return Step(batch, nll, recorder.activations, net)


def gradients(term, net, coefficient):
    """Gradients of the network and of the autoencoders from the term's contribution to the objective."""
    step = step_of(net)
    net.zero_grad()
    term.zero_grad()
    penalty, weighted = term.weighted(step, coefficient)
    weighted.backward()
    assert weighted.item() == pytest.approx(float(coefficient) * penalty.item(), abs=1e-6)
    return [
        torch.cat([torch.zeros(0), *(p.grad.flatten() for p in part.parameters() if p.grad is not None)])
        for part in (net, term)
    ]


@pytest.mark.parametrize(
    "autoencoder", [partial(TopK, k=4, dead_after=10), partial(Standard, sparsity_weight=0.1, dead_after=10)]
)
def test_lambda_scales_what_flows_into_the_network_and_nothing_else(make_net, autoencoder):
    net = make_net()
    plain, own = gradients(online(autoencoder=autoencoder), net, 1.0)
    for coefficient in (0.25, torch.tensor(0.25), 0.0):
        into_network, into_autoencoders = gradients(online(autoencoder=autoencoder), net, coefficient)
        assert torch.allclose(into_network, float(coefficient) * plain, atol=1e-8)
        assert torch.equal(into_autoencoders, own)


def test_what_flows_into_the_network_is_the_gradient_of_the_penalty(make_net):
    """The gradient of the plain ``forward``, which weightings measure; tests/autoencoders has finite differences."""
    net = make_net()
    into_network, _ = gradients(online(), net, 1.0)
    net.zero_grad()
    online()(step_of(net)).backward()
    expected = torch.cat([p.grad.flatten() for p in net.parameters() if p.grad is not None])
    assert torch.allclose(into_network, expected, atol=1e-8)


def test_autoencoders_get_the_gradient_of_their_own_loss_however_many_sites_there_are(make_net):
    net = make_net()
    term = online()
    alone = online().at(SITES[1])
    alone.loss(step_of(net).activations[SITES[1]].detach()).total.backward()
    gradients(term, net, 0.3)
    for mine, expected in zip(term.at(SITES[1]).parameters(), alone.parameters(), strict=True):
        assert torch.equal(mine.grad, expected.grad)


def test_without_gradient_into_the_model_none_comes(make_net):
    into_network, own = gradients(online(gradient_into_model=False), make_net(), 0.7)
    assert not len(into_network)
    assert own.abs().sum() > 0


def test_they_learn_in_one_step_of_so_many(make_net):
    net, term = make_net(), online(every=4)
    learned = []
    for seed in range(200):
        term.draw(torch.Generator().manual_seed(seed))
        learned.append(term.learning)
    assert 30 < sum(learned) < 70
    term.learning = False
    into_network, own = gradients(term, net, 1.0)
    assert into_network.abs().sum() > 0
    assert not len(own)
    assert online().learning


def test_it_learns_apart_and_draws_apart():
    term = online()
    assert isinstance(term, Drawing)
    assert isinstance(term, Tuned)
    assert term.optimizer_settings == {"lr": 1e-3, "weight_decay": 0.0}


def test_each_site_and_each_seed_begins_elsewhere():
    begun = [online().at(SITES[0]), online().at(SITES[1]), online(seed=1).at(SITES[0])]
    assert not any(torch.equal(a.W_dec, b.W_dec) for a, b in [(begun[0], begun[1]), (begun[0], begun[2])])
    assert torch.equal(begun[0].W_dec, online().at(SITES[0]).W_dec)


def test_notes_are_means_over_the_sites(make_net):
    term, step = online(), step_of(make_net())
    term.weighted(step, 1.0)
    assert step.notes["l0"].item() == pytest.approx(4)
    assert step.notes["dead"].item() == 0
    errors = [online().at(site).loss(step.activations[site]).error.item() for site in SITES]
    assert step.notes["variance_explained"].item() == pytest.approx(1 - sum(errors) / 2, rel=1e-4)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"expansion": 0}, "expansion=0 must be above 0"),
        ({"every": 0}, "every=0 at least 1"),
        ({"autoencoder": partial(TopK, k=65, dead_after=9)}, "k=65 latents per token: must be from 1 to 64"),
        ({"sites": "blocks.*.mlp_uot"}, r"it has: blocks.\*.mlp_out"),
    ],
)
def test_what_makes_no_sense_is_an_error(changes, message):
    with pytest.raises(ValueError, match=message):
        online(**changes)
