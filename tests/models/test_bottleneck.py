"""The concept module in the residual stream, and its supervision, with known answers."""

import math

import pytest
import torch

from tests.conftest import make_batch
from tti.evaluation.gaming import rotation_about_ones
from tti.models.gpt import require_gpt
from tti.models.network import Site
from tti.models.taps import Recorder, no_tap
from tti.regularizers.concepts import ConceptSupervision, indicators
from tti.step import Step

CONCEPTS = ["model/bottleneck=concepts", "model.bottleneck.known=5", "model.bottleneck.discovered=8"]
BATCH = make_batch([9, 5, 12])


@pytest.fixture
def net(make_net):
    return make_net(*CONCEPTS)


def seen(net, *sites):
    recorder = Recorder(f"concepts.{site}" for site in sites)
    net(BATCH.tokens, BATCH.stories, recorder)
    return [recorder.activations[f"concepts.{site}"] for site in sites]


def test_the_stream_is_the_sum_of_three_paths(net):
    known, discovered, epsilon, out, logits = seen(net, "known", "discovered", "epsilon", "out", "logits")
    paths = {"known": known, "discovered": discovered, "epsilon": epsilon}
    written = [acts @ net.writes(f"concepts.{path}").T for path, acts in paths.items()]
    assert torch.allclose(sum(written), out, atol=1e-6)
    assert torch.equal(known, logits.sigmoid())
    assert ((discovered > 0).sum(1) <= 2).all()  # a quarter of 8
    assert (discovered >= 0).all()


def test_later_layers_see_nothing_of_a_token_but_the_paths(net):
    def silent(site, activation):
        return (
            torch.zeros_like(activation)
            if site in ("concepts.known", "concepts.discovered", "concepts.epsilon")
            else activation
        )

    hidden = net(BATCH.tokens, BATCH.stories, silent)
    assert torch.allclose(hidden, hidden[:1].expand_as(hidden), atol=1e-6)


def test_it_stands_after_the_middle_layer(make_net):
    for layers, before in ((1, 0), (2, 0), (3, 1), (6, 2)):
        sites = list(make_net(*CONCEPTS, n_layers=layers).sites)
        assert sites.index("concepts.logits") == sites.index(f"blocks.{before}.resid_post") + 1


def test_without_it_nothing_changes_and_with_it_the_rest_begins_the_same(make_net, compose, net):
    assert "bottleneck" not in compose("model=tiny").model
    plain = make_net().state_dict()
    with_it = net.state_dict()
    assert not any("bottleneck" in name for name in plain)
    assert all(torch.equal(value, with_it[name]) for name, value in plain.items())
    x = torch.randn(7, 16, generator=torch.Generator().manual_seed(0))
    assert make_net().bottleneck(x, no_tap) is x


def test_epsilon_keeps_the_size_of_the_stream_at_the_start(make_net):
    wide = make_net(*CONCEPTS, "model.bottleneck.epsilon=128", d_model=256)
    x = torch.randn(500, 256, generator=torch.Generator().manual_seed(0))
    kept = x @ wide.reads("concepts.epsilon").T @ wide.writes("concepts.epsilon").T
    assert kept.std().item() == pytest.approx(1, abs=0.1)


def test_it_can_be_rewritten_in_another_basis(net):
    before = net.logits(net(BATCH.tokens, BATCH.stories))
    head = net.rotate_residual(rotation_about_ones(16).float())
    assert torch.allclose(head(net(BATCH.tokens, BATCH.stories)), before, atol=1e-5)


def test_it_cannot_be_exported(net, make_net):
    assert require_gpt(make_net())
    with pytest.raises(ValueError, match="model/bottleneck"):
        require_gpt(net)


# -- supervision


LABELS = torch.tensor([[0, 1], [2, 0], [3, 2], [1, 1]])  # of two factors with 3 and 2 values


def penalty(logits, labels=LABELS):
    term = ConceptSupervision("concepts.logits", 1.0, 0.0, "factors", {"a": 3, "b": 2})
    term.attach({"concepts.logits": Site(5)})
    batch = make_batch([len(labels)])
    batch.labels["factors"] = labels
    return term(Step(batch, torch.zeros(len(labels)), {"concepts.logits": logits}, torch.nn.Identity())).item()


def test_values_have_a_unit_each_and_none_has_none():
    wanted = [[0, 0, 0, 1, 0], [0, 1, 0, 0, 0], [0, 0, 1, 0, 1], [1, 0, 0, 1, 0]]
    assert indicators(LABELS, [3, 2]).tolist() == wanted


def test_the_penalty_is_the_binary_cross_entropy_in_nats_per_factor():
    wanted = indicators(LABELS, [3, 2])
    assert penalty(1000 * (2 * wanted - 1)) == 0
    assert penalty(torch.zeros(4, 5)) == pytest.approx(5 * math.log(2) / 2)
    rates = wanted.mean(0)
    entropies = -(rates * rates.log() + (1 - rates) * (1 - rates).log()).sum()
    assert penalty(rates.logit().expand(4, -1)) == pytest.approx(entropies.item() / 2)


def test_a_site_without_a_unit_for_each_value_is_an_error():
    term = ConceptSupervision("concepts.logits", 1.0, 0.0, "factors", {"a": 3, "b": 2})
    with pytest.raises(ValueError, match=r"model\.bottleneck\.known=5"):
        term.attach({"concepts.logits": Site(4)})
