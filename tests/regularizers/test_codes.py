"""Regularizers of codes, for codes with known answers."""

import math

import pytest
import torch

from tti.models.autoencoder import LOG_VARIANCE, MEAN, SAMPLE
from tti.models.network import Site
from tti.models.stories import Separate
from tti.regularizers.kl import KL
from tti.regularizers.supervision import Supervision
from tti.regularizers.total_correlation import TotalCorrelation
from tti.step import Batch, Step


def coded(tokens_per_sentence=4, labels=None, **latent):
    """A step whose sentences have these means, log variances or samples."""
    sites = {"mean": MEAN, "log_variance": LOG_VARIANCE, "sample": SAMPLE}
    activations = {sites[name]: values for name, values in latent.items()}
    lengths = [tokens_per_sentence] * len(next(iter(latent.values())))
    zeros = torch.zeros(sum(lengths), dtype=torch.long)
    each = {name: values.repeat_interleave(tokens_per_sentence) for name, values in (labels or {}).items()}
    batch = Batch(zeros, zeros, Separate.of(lengths), zeros, 1, 0, labels=each)
    return Step(batch, torch.zeros(len(zeros)), activations, torch.nn.Identity())


def kl(target=0.0, free=0.0):
    return KL([MEAN, LOG_VARIANCE], weight=1.0, warmup=0.0, target=target, free=free)


def test_kl_is_that_of_normal_distributions():
    """KL(N(m, s^2) || N(0, 1)) by torch's own formula, summed over latents, per token."""
    draw = torch.Generator().manual_seed(0)
    mean, log_variance = torch.randn(6, 3, generator=draw), torch.randn(6, 3, generator=draw)
    known = torch.distributions.kl_divergence(
        torch.distributions.Normal(mean, (log_variance / 2).exp()), torch.distributions.Normal(0.0, 1.0)
    )
    step = coded(mean=mean, log_variance=log_variance, tokens_per_sentence=4)
    assert kl()(step).item() == pytest.approx(known.sum(1).mean().item() / 4)
    assert step.notes["nats"].item() == pytest.approx(known.sum(1).mean().item())


@pytest.mark.parametrize(("mean", "variance", "nats"), [
    (0.0, 1.0, 0.0), (2.0, 1.0, 2.0), (0.0, math.e, (math.e - 2) / 2), (1.0, math.exp(-2), (math.exp(-2) + 2) / 2),
])  # fmt: skip
def test_kl_of_one_latent(mean, variance, nats):
    step = coded(mean=torch.full((5, 1), mean), log_variance=torch.full((5, 1), math.log(variance)))
    assert kl()(step).item() * 4 == pytest.approx(nats, abs=1e-6)
    assert step.notes["used"] == float(nats > 0.01)


def test_free_nats_cost_nothing_and_push_nothing():
    mean = torch.tensor([[0.5, 2.0]]).repeat(8, 1).requires_grad_()
    step = coded(mean=mean, log_variance=torch.zeros(8, 2))
    penalty = kl(free=0.5)(step)
    assert penalty.item() * 4 == pytest.approx(0.5 + 2.0)  # 0.125 and 2 nats
    penalty.backward()
    assert not mean.grad[:, 0].any()
    assert mean.grad[:, 1].all()


@pytest.mark.parametrize(("target", "sign"), [(1.0, 1), (3.0, -1)])
def test_a_target_pulls_from_both_sides(target, sign):
    mean = torch.full((8, 1), 2.0, requires_grad=True)  # 2 nats
    penalty = kl(target=target)(coded(mean=mean, log_variance=torch.zeros(8, 1)))
    assert penalty.item() * 4 == pytest.approx(1.0)
    penalty.backward()
    assert (mean.grad.sign() == sign).all()


def test_kl_acts_on_both_of_its_sites(make_net):
    term = KL(MEAN, weight=1.0, warmup=0.0, target=0.0, free=0.0)
    with pytest.raises(ValueError, match=r"kl acts on latent\.mean and latent\.log_variance, and on no other site"):
        term.attach(make_net("model=autoencoder").sites)
    with pytest.raises(
        ValueError, match=r"no site of this model matches 'latent\.log_variance'; it has: .*latent\.mean"
    ):
        kl().attach(make_net("model=autoencoder", "model.noise=false").sites)


def total_correlation(latents=2, **knobs):
    settings = {"width": 32, "layers": 2, "learning_rate": 3e-3, "seed": 0} | knobs
    term = TotalCorrelation(SAMPLE, weight=1.0, warmup=0.0, **settings)
    term.attach({SAMPLE: Site(latents, "document")})
    return term


def correlated(sentences, rho, seed):
    z = torch.randn(sentences, 2, generator=torch.Generator().manual_seed(seed))
    return torch.stack([z[:, 0], rho * z[:, 0] + (1 - rho**2) ** 0.5 * z[:, 1]], 1)


@pytest.mark.parametrize("rho", [0.0, 0.7])
def test_total_correlation_of_two_correlated_normal_latents(rho):
    """TC = -log(1 - rho^2) / 2, which the discriminator finds by its own loss alone (weight 0)."""
    term = total_correlation()
    optimizer = torch.optim.Adam(term.discriminator.parameters(), lr=3e-3, betas=(0.5, 0.9))
    found = []
    for number in range(400):
        term.draw(torch.Generator().manual_seed(number))
        step = coded(sample=correlated(512, rho, seed=1000 + number), tokens_per_sentence=1)
        term.weighted(step, 0.0)[1].backward()
        optimizer.step()
        optimizer.zero_grad()
        found.append(step.notes["nats"].item())
    assert sum(found[200:]) / 200 == pytest.approx(-math.log(1 - rho**2) / 2, abs=0.05)


def test_the_weight_scales_what_the_network_receives_and_not_what_the_discriminator_learns():
    gradients = {}
    for coefficient in (0.0, 1.0, 3.0):
        term, sample = total_correlation(), correlated(64, 0.5, 0).requires_grad_()
        penalty, weighted = term.weighted(coded(sample=sample), coefficient)
        weighted.backward()
        assert weighted.item() == pytest.approx(coefficient * penalty.item())
        gradients[coefficient] = sample.grad, [each.grad for each in term.discriminator.parameters()]
    assert not gradients[0.0][0].any()
    torch.testing.assert_close(gradients[3.0][0], 3 * gradients[1.0][0])
    for other in (1.0, 3.0):
        assert all(torch.equal(*pair) for pair in zip(gradients[0.0][1], gradients[other][1], strict=True))


def test_permuted_codes_keep_every_latents_values_and_depend_on_the_step_only():
    term, codes = total_correlation(latents=4), torch.randn(50, 4)
    term.draw(torch.Generator().manual_seed(1))
    first, again = term.permuted(codes), term.permuted(codes)
    term.draw(torch.Generator().manual_seed(2))
    assert torch.equal(first, again)
    assert not torch.equal(first, term.permuted(codes))
    assert torch.equal(first.sort(0).values, codes.sort(0).values)
    assert not torch.equal(first[:, 0].argsort(), first[:, 1].argsort())


def test_the_discriminator_has_settings_and_a_start_of_its_own():
    term, other = total_correlation(seed=1), total_correlation(seed=2)
    assert term.optimizer_settings == {"lr": 3e-3, "betas": (0.5, 0.9), "weight_decay": 0.0}
    pairs = zip(term.discriminator.parameters(), other.discriminator.parameters(), strict=True)
    assert not all(torch.equal(*pair) for pair in pairs)


FACTORS = {"tense": 2, "place": 16}


def supervision(labelled=1.0):
    term = Supervision(MEAN, weight=1.0, warmup=0.0, factors=FACTORS, labelled=labelled, rank="rank")
    term.attach({MEAN: Site(3, "document")})
    return term


def labels(sentences=800):
    draw = torch.Generator().manual_seed(0)
    values = {name: torch.randint(size, (sentences,), generator=draw) for name, size in FACTORS.items()}
    return values | {"rank": torch.randint(100, (sentences,), generator=draw)}


def ideal(known):
    scaled = [(known["tense"] - 0.5) / 0.5, (known["place"] - 7.5) / (255 / 12) ** 0.5]
    return torch.stack([*scaled, torch.randn(len(scaled[0]))], 1)


def test_supervision_is_zero_for_the_wanted_code_and_one_for_zeros():
    known = labels()
    assert supervision()(coded(mean=ideal(known), labels=known)).item() == pytest.approx(0, abs=1e-10)
    assert supervision()(coded(mean=torch.zeros(800, 3), labels=known)).item() == pytest.approx(1, abs=0.1)


@pytest.mark.parametrize("labelled", [0.0, 0.1, 0.5])
def test_only_labelled_sentences_count(labelled):
    known = labels()
    mean = torch.zeros(800, 3, requires_grad=True)
    penalty = supervision(labelled)(coded(mean=mean, labels=known))
    penalty.backward()
    counted = known["rank"] < 100 * labelled
    assert torch.equal(mean.grad[:, 0] != 0, counted)
    assert penalty.item() == pytest.approx(float(labelled > 0), abs=0.25)


def test_supervision_says_what_it_needs():
    assert supervision().labels == ("tense", "place", "rank")
    with pytest.raises(ValueError, match=r"latent\.mean has 1 latents for 2 supervised factors"):
        supervision().attach({MEAN: Site(1, "document")})
