"""Leakage: shares of paths with known answers."""

import pytest
import torch
from torch import nn

from tests.evaluation.planted import made, run
from tti.evaluation.base import Subject
from tti.evaluation.leakage import SITES, shares
from tti.models.network import Network, Site
from tti.models.taps import no_tap

VALUES = ("known", "discovered", "epsilon", "known_alone", "rounded_loss_increase")


class Paths(Network):
    """Adds three paths, each a random function of the token with a scale, in directions of its own or in one."""

    vocab_size = operations_per_token = 0
    sites = {site: Site(3) for site in SITES.values()}  # noqa: RUF012

    def __init__(self, tokens, *scales, together=False):
        super().__init__()
        draw = torch.Generator().manual_seed(0)
        self.values = torch.randn(3, tokens, 3, generator=draw)
        if together:
            self.values = self.values[:1].expand(3, -1, -1)
        self.scales = scales
        self.head = nn.Linear(3, 5, bias=False)
        nn.init.normal_(self.head.weight, generator=draw)

    def forward(self, tokens, stories, tap=no_tap):
        taken = zip(SITES.values(), self.values, self.scales, strict=True)
        return sum(scale * tap(site, of_type[tokens]) for site, of_type, scale in taken)

    def logits(self, hidden):
        return self.head(hidden)

    def loss(self, hidden, targets):
        nll = nn.functional.cross_entropy(self.head(hidden), targets % 5, reduction="none")
        return nll.mean(), nll


@pytest.fixture
def measured(config, few_stories):
    def found(*scales, **how):
        net = Paths(few_stories.packed.manifest["vocab_size"], *scales, **how)
        return run(made(config, "leakage", tokens=2000), net, few_stories).metrics

    return found


def test_a_path_that_carries_everything_has_it_all(measured):
    found = measured(0.0, 0.0, 2.0)
    assert [found[name] for name in VALUES[:4]] == pytest.approx([0, 0, 1, 0], abs=1e-6)
    assert found["known_loss_increase"] == 0
    assert found["rounded_loss_increase"] == 0


def test_shares_of_a_sum_are_covariances_and_sum_to_1(measured):
    found = measured(1.0, 2.0, 3.0, together=True)  # z = 6 a: each has its scale's share
    assert [found[name] for name in VALUES[:3]] == pytest.approx([1 / 6, 2 / 6, 3 / 6], abs=1e-6)
    assert found["known_alone"] == pytest.approx(1 - (5 / 6) ** 2)
    found = measured(1.0, 1.0, 2.0)
    assert sum(found[name] for name in VALUES[:3]) == pytest.approx(1)
    assert found["epsilon"] == pytest.approx(4 / 6, abs=0.1)  # nearly independent: shares of variance


def test_two_paths_that_say_the_same_share_it():
    """What is there twice is given to each by half; what only both together say, too."""
    same = {frozenset(): 0, frozenset("a"): 1, frozenset("b"): 1, frozenset("ab"): 1}
    assert shares(same.__getitem__, "ab") == {"a": 0.5, "b": 0.5}
    both = {frozenset(): 0, frozenset("a"): 0, frozenset("b"): 0, frozenset("ab"): 1}
    assert shares(both.__getitem__, "ab") == {"a": 0.5, "b": 0.5}


def test_what_is_read_in_the_shades_of_known_concepts_is_lost_by_rounding(config, few_stories):
    net = Paths(few_stories.packed.manifest["vocab_size"], 5.0, 0.0, 0.0)
    part = made(config, "leakage", tokens=2000)
    net.values = net.values.round()
    assert run(part, net, few_stories).metrics["rounded_loss_increase"] == pytest.approx(0)
    net.values = net.values.sigmoid()
    assert run(part, net, few_stories).metrics["rounded_loss_increase"] != pytest.approx(0, abs=1e-3)


def test_a_network_without_concepts_is_left_out(config, make_net, few_stories):
    part = made(config, "leakage")
    assert "model/bottleneck=concepts" in part.inapplicable(Subject("trained", make_net(), few_stories))
    net = make_net("model/bottleneck=concepts", vocab_size=few_stories.packed.manifest["vocab_size"], context=256)
    assert not part.inapplicable(Subject("trained", net, few_stories))
    found = run(part, net, few_stories).metrics
    assert sum(found[name] for name in VALUES[:3]) == pytest.approx(1)
