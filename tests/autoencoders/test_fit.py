"""Training on recorded activations: order, schedule, and recovery of a known dictionary."""

import pytest
import torch

from tti.autoencoders.base import SparseAutoencoder
from tti.autoencoders.batch_topk import BatchTopK
from tti.autoencoders.fit import Fit
from tti.autoencoders.kinds import sweep
from tti.autoencoders.standard import Standard
from tti.autoencoders.topk import TopK

D, WIDE = 12, 24
QUICK = {"passes": 2, "batch": 64, "lr": 1e-2, "warmup": 0.1, "decay": 0.2, "seed": 0}
COMMON = {"d_in": D, "d_sae": WIDE, "seed": 0, "dead_after": 2000}
KINDS = {
    "topk": (TopK, {"k": 3}),
    "batch_topk": (BatchTopK, {"k": 3}),
    "standard": (Standard, {"sparsity_weight": 0.1}),
}
each_kind = pytest.mark.parametrize("kind", KINDS)


def made(kind, **changes) -> SparseAutoencoder:
    make, settings = KINDS[kind]
    return make(**COMMON | settings | changes)


def planted(tokens=20_000, seed=0):
    """Tokens that combine 3 of 24 directions with random sizes; and the directions."""
    generator = torch.Generator().manual_seed(seed)
    truth = torch.nn.functional.normalize(torch.randn(WIDE, D, generator=generator), dim=1)
    on = torch.rand(tokens, WIDE, generator=generator).argsort(1) < 3
    return (on * (0.5 + torch.rand(tokens, WIDE, generator=generator))) @ truth, truth


@each_kind
def test_a_planted_dictionary_is_found_again(kind):
    acts, truth = planted()
    autoencoder = made(kind)
    Fit(**QUICK | {"passes": 3, "batch": 128})([autoencoder], acts)
    cosines = truth @ autoencoder.folded()["W_dec"].T
    assert cosines.max(1).values.mean() > 0.9
    assert not autoencoder.training


def test_those_that_are_trained_together_come_out_as_if_alone():
    acts, _ = planted(1000)
    together = [made(kind) for kind in KINDS]
    Fit(**QUICK)(together, acts)
    for kind, one in zip(KINDS, together, strict=True):
        alone = made(kind)
        Fit(**QUICK)([alone], acts)
        assert all(torch.equal(value, alone.state_dict()[name]) for name, value in one.state_dict().items())


def test_every_token_is_seen_once_a_pass_in_an_order_that_the_seed_decides():
    acts = torch.arange(640.0)[:, None] + torch.zeros(640, D)
    seen = []

    class Watched(TopK):
        def loss(self, x):
            seen.append(x[:, 0].long())
            return super().loss(x)

    def order(seed):
        seen.clear()
        Fit(**QUICK | {"seed": seed})([Watched(**COMMON, k=3)], acts)
        return torch.cat(seen)

    one, same, other = order(0), order(0), order(1)
    assert torch.equal(one, same)
    assert not torch.equal(one, other)
    for a_pass in one.chunk(2):
        assert torch.equal(a_pass.sort().values, torch.arange(640))
    assert not torch.equal(*one.chunk(2))


def test_the_learning_rate_rises_stays_and_falls():
    fit = Fit(**QUICK | {"warmup": 0.1, "decay": 0.5})
    factors = [fit.factor(step, 20) for step in range(21)]
    assert factors[:3] == [0.5, 1, 1]
    assert factors[10] == 1
    assert factors[15] == 0.5
    assert factors[20] == 0


def test_training_draws_nothing_from_the_global_generator():
    state = torch.get_rng_state()
    Fit(**QUICK)([made("topk")], planted(200)[0])
    assert torch.equal(torch.get_rng_state(), state)


def test_fewer_tokens_than_a_batch_are_an_error():
    with pytest.raises(ValueError, match="20 tokens of activations, but a batch of autoencoders takes 64"):
        Fit(**QUICK)([made("topk")], torch.randn(20, D))


@each_kind
def test_again_is_the_same_untrained_and_sparser_is_sparser(kind):
    acts, _ = planted(3000)
    one = made(kind)
    fresh = one.again()
    assert torch.equal(one.W_dec, fresh.W_dec)
    Fit(**QUICK)([one], acts)
    again = one.again()
    assert all(torch.equal(value, again.state_dict()[name]) for name, value in fresh.state_dict().items())
    denser, sparser = (one.again(**one.sparser(factor)) for factor in (0.5, 3))
    Fit(**QUICK)([denser, sparser], acts)
    assert denser.loss(acts).l0 > one.loss(acts).l0 > sparser.loss(acts).l0


def test_a_sweep_makes_one_for_every_value_of_those_asked_for():
    makes = sweep(["topk", "standard"], {"k": [2, 4]})
    assert list(makes) == ["topk_2", "topk_4", "standard_0.03"]  # as in its YAML
    assert makes["topk_4"](**COMMON).arguments == COMMON | {"k": 4}
    with pytest.raises(ValueError, match="no kind of autoencoder gated; there are: batch_topk, standard, topk"):
        sweep(["gated"], {})
