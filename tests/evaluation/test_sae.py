"""Autoencoders in a network: the figures of splicing, post-hoc autoencoders, and a jointly trained one."""

import math

import pytest
import torch
from torch import nn

from tests.evaluation.planted import made
from tti.autoencoders.topk import TopK
from tti.evaluation.base import Subject
from tti.evaluation.run_through import examine
from tti.evaluation.sae import against, at_l0, cotrained, spaced
from tti.evaluation.splicing import Quality, quality, recorded, references
from tti.interventions.replace import Replacement
from tti.interventions.splice import Splice
from tti.regularizers.online_sae import OnlineSAE

SITES = ["blocks.0.mlp_out", "blocks.1.resid_post", "blocks.0.attn.z"]
SMALL = {
    "tokens": 1500,
    "measured_tokens": 700,
    "sites": SITES[:2],
    "kind": ["topk"],
    "fit": {"batch": 64, "passes": 2},
}
SMALL |= {"k": [2, 8]}


class Mirror(nn.Module):
    """A perfect autoencoder that is not sparse: one latent for each sign of each neuron."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.W_dec = nn.Parameter(torch.cat([torch.eye(width), -torch.eye(width)]))

    def encode(self, x):
        return torch.cat([x, -x], 1).relu()

    def decode(self, latents):
        return latents @ self.W_dec


@pytest.fixture(scope="module")
def net(make_net, few_stories):
    """A briefly trained network, so that sites matter."""
    net = make_net(vocab_size=few_stories.packed.manifest["vocab_size"], context=256)
    optimizer = torch.optim.Adam(net.parameters(), lr=1e-2)
    training = few_stories.training()
    for _ in range(3):
        for chunk in training:
            optimizer.zero_grad()
            net.loss(net(chunk.batch.tokens, chunk.batch.stories), chunk.batch.targets)[0].backward()
            optimizer.step()
    return net


@pytest.fixture(scope="module")
def stories(few_stories):
    return few_stories.subset(700)


@pytest.fixture(scope="module")
def reference(net, stories):
    return references(net, stories, SITES)


def mean_predictor(width, mean):
    """An autoencoder whose latents never fire, with the mean as bias."""
    autoencoder = TopK(d_in=width, d_sae=2 * width, seed=0, dead_after=1, k=1).eval()
    with torch.no_grad():
        autoencoder.W_enc.zero_()
        autoencoder.b_dec.copy_(mean)
    return autoencoder


@pytest.mark.parametrize("site", SITES)
def test_a_perfect_autoencoder_changes_no_logit_and_recovers_all(net, stories, reference, site):
    batch = stories.drawn(200).batch
    with torch.no_grad():
        spliced = net.logits(net(batch.tokens, batch.stories, Splice(site, Mirror(net.sites[site].width))))
        assert torch.equal(spliced, net.logits(net(batch.tokens, batch.stories)))
    found = quality(net, stories, site, Mirror(net.sites[site].width), reference[site])
    assert (found.variance_explained, found.loss_recovered, found.loss_increase) == (1, 1, 0)
    assert found.l0 == pytest.approx(net.sites[site].width, abs=0.01)  # one of the two signs each
    assert found.dead <= 1 / 32  # a neuron with the same sign on all of these tokens


@pytest.mark.parametrize("site", SITES)
def test_the_mean_explains_nothing_and_recovers_nothing(net, stories, reference, site):
    autoencoder = mean_predictor(net.sites[site].width, reference[site].mean)
    found = quality(net, stories, site, autoencoder, reference[site])
    assert found.variance_explained == pytest.approx(0, abs=1e-6)
    assert found.loss_recovered == pytest.approx(0, abs=1e-4)
    assert (found.l0, found.dead) == (0, 1)


def test_references_are_those_of_everything_at_once_in_double_precision(net, stories, reference):
    acts = recorded(net, stories, SITES)
    for site, each in acts.items():
        each = each.double()
        assert len(each) == stories.tokens
        torch.testing.assert_close(reference[site].mean.double(), each.mean(0), atol=1e-6, rtol=1e-5)
        variance = each.var(0, unbiased=False).sum().item()
        assert reference[site].variance == pytest.approx(variance, rel=1e-6)
        assert reference[site].ablated_loss > reference[site].loss == reference[SITES[0]].loss


def test_half_of_the_latents_of_a_known_dictionary(net, stories, reference):
    """Figures equal a float64 reference: the first half of the neurons is kept, the other replaced by its mean."""
    site = SITES[0]
    acts, mean = recorded(net, stories, [site])[site].double(), reference[site].mean
    half = Mirror(16)
    half.W_dec.data[8:16] = half.W_dec.data[24:] = 0
    half.decode = lambda latents: latents @ half.W_dec + torch.cat([torch.zeros(8), mean[8:]])
    found = quality(net, stories, site, half, reference[site])
    lost = acts[:, 8:].var(0, unbiased=False).sum() / acts.var(0, unbiased=False).sum()
    assert found.variance_explained == pytest.approx(1 - lost.item(), rel=1e-5)
    assert found.loss_increase == pytest.approx((1 - found.loss_recovered) * ablation(reference[site]), rel=1e-6)
    assert found.l0 == pytest.approx((acts != 0).sum(1).double().mean().item())


def ablation(reference):
    return reference.ablated_loss - reference.loss


def test_nothing_is_recovered_where_nothing_is_lost(net, stories):
    site = SITES[0]
    with torch.no_grad():
        weight = net.blocks[0].mlp.out.weight
        kept = weight.clone()
        weight.mul_(1e-6)
        reference = references(net, stories, [site])[site]
        found = quality(net, stories, site, Mirror(16), reference)
        weight.copy_(kept)
    assert math.isnan(found.loss_recovered)
    assert found.variance_explained == 1


def test_a_replacement_touches_its_site_only(net):
    tap = Replacement("a", lambda acts: acts + 1)
    acts = torch.zeros(3, 2, 4)
    assert torch.equal(tap("a", acts), acts + 1)
    assert tap("b", acts) is acts


# -- the part ---------------------------------------------------------------------------------------------------------


def part(config, **settings):
    return made(config, "sae", **SMALL | settings)


@torch.no_grad()
def run(part, net, stories, own=None):
    examine({Subject("", net, stories, regularizers=trained_with(own or {})): [part]}, 700)
    return part.compute()


def trained_with(autoencoders):
    """An online SAE regularizer with these autoencoders, by site."""
    online = OnlineSAE(list(autoencoders), 1.0, 0.0, TopK, 2, True, 1e-3, 1, 0)
    online.sites = tuple(autoencoders)
    online.autoencoders = nn.ModuleDict({site.replace(".", "/"): each for site, each in autoencoders.items()})
    return nn.ModuleDict({"online_sae": online, "other": nn.Linear(2, 2)})


@pytest.fixture(scope="module")
def result(config, net, few_stories):
    return run(part(config, seeds=[0, 1]), net, few_stories)


def test_more_latents_explain_more_and_two_seeds_are_averaged(result):
    for site in ("mlp_out/layer_0", "resid_post/layer_1"):
        few, many = (result.metrics[f"variance_explained/topk_{k}/{site}"] for k in (2, 8))
        assert 0.3 < few < many <= 1
        assert result.metrics[f"l0/topk_2/{site}"] == pytest.approx(2, abs=0.01)
        assert result.metrics[f"ablation_increase/{site}"] > 0
    names, seeds = (result.arrays[f"autoencoder/{each}"].values.tolist() for each in ("name", "seed"))
    assert (names, seeds) == (["topk_2", "topk_2", "topk_8", "topk_8"], [0, 1, 0, 1])
    table = result.arrays["blocks.0.mlp_out/variance_explained"].values
    assert len(set(table.tolist())) == 4
    assert table[:2].mean() == pytest.approx(result.metrics["variance_explained/topk_2/mlp_out/layer_0"])
    assert not [name for name in result.metrics if name.startswith(("gap", "cotrained"))]


def test_they_train_on_the_training_split_and_on_nothing_else(config, few_stories, monkeypatch):
    assert few_stories.training().split == "train"
    assert few_stories.training().packed.folder != few_stories.packed.folder
    assert "trains on the split" in part(config).inapplicable(Subject("", None, few_stories.training()))
    assert part(config).inapplicable(Subject("", None, few_stories)) == ""


def test_one_that_was_trained_alike_has_no_gap_and_an_untrained_one_a_large_one(config, net, few_stories):
    site = SITES[1]
    settings = {"d_in": 16, "d_sae": 64, "dead_after": 20_000, "k": 8}
    acts = recorded(net, few_stories.training().subset(1500), [site])[site]
    trained, untrained = TopK(**settings, seed=7), TopK(**settings, seed=7).eval()
    fresh = part(config, sites=[site], k=[2], gap_factors=[1, 2])
    fresh.fit([trained], acts)
    gap = "gap/{}/resid_post/layer_1"
    for own, low, high in ((trained, -0.03, 0.03), (untrained, -2, -0.1)):
        metrics = run(fresh, net, few_stories, {site: own}).metrics
        assert low < metrics[gap.format("variance_explained")] < high
        assert low < metrics[gap.format("loss_recovered")]
        own_, fresh_ = (metrics[f"{each}/variance_explained/resid_post/layer_1"] for each in ("cotrained", "fresh"))
        assert own_ - fresh_ == pytest.approx(metrics[gap.format("variance_explained")])
        assert math.isfinite(metrics["variance_explained/topk_2/resid_post/layer_1"])


def test_a_cotrained_one_is_measured_also_where_no_fresh_one_was_asked_for(config, net, few_stories):
    own = TopK(d_in=16, d_sae=32, seed=0, dead_after=99, k=4).eval()
    found = run(part(config, sites=SITES[:1], gap_factors=[1]), net, few_stories, {SITES[1]: own})
    assert "gap/variance_explained/resid_post/layer_1" in found.metrics
    assert "variance_explained/topk_8/resid_post/layer_1" not in found.metrics
    assert "'k': 4" in found.notes[f"cotrained/{SITES[1]}"]


def figures(l0, value):
    return Quality(variance_explained=value, l0=l0, dead=0, loss_increase=0, loss_recovered=value / 2)


def test_figures_at_equal_l0_are_linear_in_its_logarithm():
    measured = [figures(16, 0.9), figures(4, 0.5)]
    assert at_l0(8, measured, "variance_explained") == pytest.approx(0.7)
    assert at_l0(16.1, measured, "variance_explained") == pytest.approx(0.9)
    assert math.isnan(at_l0(20, measured, "variance_explained"))
    assert math.isnan(at_l0(3, measured, "variance_explained"))
    found = against(figures(8, 0.8), {(seed, i): each for seed in (0, 1) for i, each in enumerate(measured)})
    assert found["gap/variance_explained"] == pytest.approx(0.1)
    assert found["gap/loss_recovered"] == pytest.approx(0.05)


def test_those_of_an_online_sae_regularizer_are_the_cotrained_ones(few_stories):
    own = {site: TopK(d_in=16, d_sae=8, seed=0, dead_after=9, k=1) for site in SITES[:2]}
    assert cotrained(Subject("", None, few_stories, regularizers=trained_with(own))) == own
    assert cotrained(Subject("", None, few_stories)) == {}


def test_layers_are_spaced_evenly():
    names = list("abcdef")
    assert spaced(names, 1) == ["d"]
    assert spaced(names, 2) == ["b", "e"]
    assert spaced(names, 6) == spaced(names, None) == spaced(names, 9) == names
