"""Decoys write nothing: in function and in training, the network equals one without them."""

import pytest
import torch
from hydra.utils import instantiate

from tests.conftest import make_batch
from tti.models.decoys import detectors
from tti.models.network import Site
from tti.models.taps import Recorder
from tti.regularizers.decoys import FREQUENT, DecoyTargets
from tti.step import Step


@pytest.fixture
def pair(make_net):
    return make_net(), make_net("model/mlp=decoys")


def test_the_network_is_the_dense_one_to_the_last_digit(pair):
    dense, decoys = pair
    named = {name.replace(".mlp.mlp.", ".mlp."): weight for name, weight in decoys.named_parameters()}
    assert all(torch.equal(named[name], weight) for name, weight in dense.named_parameters())
    batch, recorder = make_batch([9, 5]), Recorder(["blocks.1.mlp.post", "blocks.1.mlp.pre"])
    expected, found = dense(batch.tokens, batch.stories), decoys(batch.tokens, batch.stories, recorder)
    assert torch.equal(found, expected)
    assert recorder.activations["blocks.1.mlp.post"].shape == (14, 128)
    for net, hidden in zip(pair, (expected, found), strict=True):
        net.loss(hidden, batch.targets)[0].backward()
    named = {name.replace(".mlp.mlp.", ".mlp."): weight.grad for name, weight in decoys.named_parameters()}
    assert all(torch.equal(named[name], weight.grad) for name, weight in dense.named_parameters())
    assert all((gradient == 0).all() for name, gradient in named.items() if "reader" in name)


def test_decoys_write_nothing_and_read_what_they_read(pair):
    mlp = pair[1].blocks[0].mlp
    assert (mlp.writes("post")[:, 64:] == 0).all()
    assert torch.equal(mlp.writes("post")[:, :64], mlp.mlp.out.weight)
    assert torch.equal(mlp.reads("post")[64:], mlp.reader.weight)


def test_a_penalty_on_decoys_reaches_nothing_else(compose, pair):
    net, batch = pair[1], make_batch([30, 20])
    (term,) = instantiate(compose("model=tiny", "model/mlp=decoys", "regularizer=decoys").regularizer).values()
    term.attach(net.sites)
    recorder = Recorder(term.sites)
    net(batch.tokens, batch.stories, recorder)
    term(Step(batch, torch.zeros(50), recorder.activations, net)).backward()
    reached = {name for name, weight in net.named_parameters() if weight.grad is not None}
    assert reached == {f"blocks.{i}.mlp.reader.{what}" for i in (0, 1) for what in ("weight", "bias")}


def attached(types, coverage=0.05):
    term = DecoyTargets("blocks.0.mlp.decoys", weight=1.0, warmup=0.0, coverage=coverage, types=types)
    term.attach({"blocks.0.mlp.decoys": Site(50)})
    term.counts[: 2 * FREQUENT] = 1000 / torch.arange(1, 2 * FREQUENT + 1)
    return term


def test_unions_cover_at_most_what_they_may_of_frequent_types_and_differ():
    term = attached(types=None)
    ids, member = term.unions()
    shares = term.counts[ids] / term.counts.sum()
    covered = member @ shares
    assert (covered <= 0.05).all()
    assert (covered > 0.025).all()
    assert (member.sum(1) >= 2).all()
    assert (member[:, shares > 0.025] == 0).all()
    assert len(member.unique(dim=0)) == 50


def test_a_lookup_decoy_has_one_type():
    assert (attached(types=1).unions()[1].sum(1) == 1).all()


def test_detectors_find_what_a_linear_map_can_tell():
    generator = torch.Generator().manual_seed(0)
    types = torch.randint(6, (400,), generator=generator)
    stream = torch.randn(6, 16, generator=generator)[types] + 0.1 * torch.randn(400, 16, generator=generator) + 3
    on = torch.nn.functional.one_hot(types, 6).float()[:, :3]
    assert ((detectors(stream, on)(stream) > 0) == on.bool()).all()


def test_detectors_are_on_as_often_as_they_should_where_they_cannot_tell():
    generator = torch.Generator().manual_seed(0)
    stream, on = torch.randn(500, 4, generator=generator), (torch.rand(500, 3, generator=generator) < 0.1).float()
    assert torch.equal((detectors(stream, on)(stream) > 0).sum(0), on.sum(0).long())
