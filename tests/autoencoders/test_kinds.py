"""Properties of every kind of sparse autoencoder."""

from functools import partial

import pytest
import torch

from tti.autoencoders.base import SparseAutoencoder
from tti.autoencoders.batch_topk import BatchTopK
from tti.autoencoders.standard import Standard
from tti.autoencoders.topk import TopK

D, WIDE, K = 12, 40, 5
KINDS = {
    "standard": partial(Standard, D, WIDE, seed=0, dead_after=1000, sparsity_weight=0.1),
    "topk": partial(TopK, D, WIDE, seed=0, dead_after=1000, k=K),
    "batch_topk": partial(BatchTopK, D, WIDE, seed=0, dead_after=1000, k=K),
}
every_kind = pytest.mark.parametrize("kind", KINDS)


def tokens(number=50, width=D, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return 0.3 + 2 * torch.randn(number, width, generator=generator)


def train(autoencoder: SparseAutoencoder, batches, lr=3e-3):
    optimizer = torch.optim.Adam(autoencoder.parameters(), lr=lr)
    autoencoder.train()
    for x in batches:
        optimizer.zero_grad()
        autoencoder.loss(x).total.backward()
        optimizer.step()
    return autoencoder


@every_kind
def test_making_one_draws_from_a_generator_of_its_own(kind):
    state = torch.get_rng_state()
    one, same, other = KINDS[kind](), KINDS[kind](), KINDS[kind](seed=1)
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(one.W_dec, same.W_dec)
    assert not torch.equal(one.W_dec, other.W_dec)


@every_kind
def test_what_is_folded_is_what_acts(kind):
    """In evaluation, the output is SAELens' formula with these tensors, whatever was learned and at any scale."""
    autoencoder = train(KINDS[kind](), [40 * tokens(seed=i) for i in range(30)]).eval()
    weights, x = autoencoder.folded(), 40 * tokens()
    assert torch.allclose(weights["W_dec"].norm(dim=1), torch.ones(WIDE))
    pre = (x - weights["b_dec"]) @ weights["W_enc"] + weights["b_enc"]
    latents = autoencoder.encode(x)
    on = latents > 0
    assert torch.allclose(latents[on], pre[on])
    assert torch.allclose(autoencoder.decode(latents), latents @ weights["W_dec"] + weights["b_dec"])
    assert torch.equal(autoencoder(x), autoencoder.decode(latents))


@every_kind
@pytest.mark.parametrize("factor", [1e-3, 1e3])
def test_training_does_not_depend_on_the_activations_scale(kind, factor):
    batches = [tokens(seed=i) for i in range(20)]
    one = train(KINDS[kind](), batches)
    scaled = train(KINDS[kind](), [factor * x for x in batches])
    ours, theirs = one.loss(batches[0]), scaled.loss(factor * batches[0])
    for term in ("error", "sparsity", "penalty"):
        assert getattr(theirs, term).item() == pytest.approx(getattr(ours, term).item(), rel=1e-3)


@every_kind
def test_the_decoders_gradient_is_orthogonal_to_its_rows(kind):
    autoencoder = KINDS[kind]()
    autoencoder.loss(tokens()).total.backward()
    along = (autoencoder.W_dec * autoencoder.W_dec.grad).sum(1)
    assert along.abs().max() < 1e-5 * autoencoder.W_dec.grad.norm()


@every_kind
def test_the_gradient_in_x_is_what_finite_differences_say(kind):
    autoencoder = train(KINDS[kind](), [tokens(seed=i) for i in range(30)]).double().eval()
    x = tokens(8).double().requires_grad_()
    assert torch.autograd.gradcheck(lambda x: autoencoder.loss(x).penalty, (x,), atol=1e-6)


@every_kind
def test_the_gradient_in_its_parameters_is_what_finite_differences_say(kind):
    autoencoder = KINDS[kind](dead_after=1).double().eval()
    autoencoder.idle += 1  # all are dead: AuxK acts
    x, direction = tokens(20).double(), torch.randn(D, WIDE, generator=torch.Generator().manual_seed(1)).double()
    autoencoder.threshold = torch.tensor(0.5).double()
    autoencoder.loss(x).penalty.backward()
    slope = (autoencoder.W_enc.grad * direction).sum().item()
    step, values = 1e-6, []
    for sign in (1, -1):
        autoencoder.W_enc.data += sign * step * direction
        values.append(autoencoder.loss(x).penalty.item())
        autoencoder.W_enc.data -= sign * step * direction
    assert (values[0] - values[1]) / (2 * step) == pytest.approx(slope, rel=1e-4)


@every_kind
def test_a_perfect_one_has_error_0_and_the_mean_has_error_1(kind):
    autoencoder = KINDS[kind]()
    x = tokens()
    autoencoder.W_enc.data.zero_()  # nothing fires, and b_dec replaces the tokens' mean
    assert autoencoder.loss(x).error.item() == pytest.approx(1, rel=1e-5)
    one_direction = (
        torch.randn(50, 1, generator=torch.Generator().manual_seed(2)).abs() * autoencoder.W_dec[:1].detach()
    )
    perfect = KINDS[kind]().eval()
    perfect.W_enc.data[:, 1:] = 0
    if isinstance(perfect, Standard):
        perfect.W_enc.data[:, :1] = perfect.W_dec.data[:1].T
    assert perfect.loss(one_direction).error.item() == pytest.approx(0, abs=1e-10)


@every_kind
def test_activations_that_do_not_vary_have_no_error_and_no_gradient(kind):
    x = torch.zeros(6, D, requires_grad=True)
    loss = KINDS[kind]().loss(x)
    loss.total.backward()
    assert loss.error == loss.sparsity == 0
    assert (x.grad == 0).all()


@every_kind
def test_evaluation_changes_nothing(kind):
    autoencoder = KINDS[kind]().eval()
    before = {name: value.clone() for name, value in autoencoder.state_dict().items()}
    autoencoder.loss(tokens())
    assert all(torch.equal(value, before[name]) for name, value in autoencoder.state_dict().items())


@every_kind
def test_latents_that_do_not_fire_are_counted_dead(kind):
    autoencoder = KINDS[kind](dead_after=100)
    autoencoder.b_enc.data[:7] = -1e3
    for seed in range(3):
        assert not autoencoder.dead[:7].any() or seed == 2
        autoencoder.loss(tokens(40, seed=seed))
    assert autoencoder.dead[:7].all()
    assert autoencoder.idle[:7].tolist() == [120] * 7
    assert not autoencoder.dead.all()


def test_topk_keeps_exactly_k():
    autoencoder = KINDS["topk"]()
    on = autoencoder.encode(tokens()) > 0
    assert (on.sum(1) == K).all()
    assert autoencoder.loss(tokens()).l0 == K


def test_batch_topk_keeps_exactly_k_a_token_on_average():
    on = KINDS["batch_topk"]().encode(tokens()) > 0
    assert on.sum() == K * 50
    assert len(on.sum(1).unique()) > 1


def test_batch_topk_keeps_about_as_many_in_evaluation_after_few_steps():
    autoencoder = train(KINDS["batch_topk"](), [tokens(200, seed=i) for i in range(60)]).eval()
    assert autoencoder.loss(tokens(1000, seed=99)).l0.item() == pytest.approx(K, rel=0.25)
    one = tokens(1)
    assert torch.allclose(autoencoder.encode(one), autoencoder.encode(torch.cat([one, tokens(9)]))[:1])


def test_auxk_revives_dead_latents():
    x = [tokens(100, seed=i) for i in range(150)]

    def killed():
        autoencoder = KINDS["topk"](dead_after=200)
        autoencoder.b_enc.data[:20] = -3.0
        return autoencoder

    without = killed()
    without.auxiliary = lambda x, *_: x.new_zeros(())
    assert train(killed(), x).dead.sum() < train(without, x).dead.sum()


@pytest.mark.parametrize(
    ("kind", "changes", "message"),
    [
        ("topk", {"k": WIDE + 1}, "k=41 latents per token: must be from 1 to 40"),
        ("batch_topk", {"k": 0}, "k=0 latents"),
        ("standard", {"sparsity_weight": -1}, "sparsity_weight=-1"),
        ("standard", {"dead_after": 0}, "dead_after=0"),
    ],
)
def test_what_makes_no_sense_is_an_error(kind, changes, message):
    with pytest.raises(ValueError, match=message):
        KINDS[kind](**changes)


@pytest.mark.parametrize("kind", KINDS)
def test_a_known_sparse_dictionary_is_recovered(kind):
    """Tokens combine 3 of 24 directions in 12 dimensions: each direction has a decoder row close to it."""
    generator = torch.Generator().manual_seed(0)
    truth = torch.nn.functional.normalize(torch.randn(24, D, generator=generator), dim=1)

    def batch():
        on = torch.rand(256, 24, generator=generator).argsort(1) < 3
        return (on * (0.5 + torch.rand(256, 24, generator=generator))) @ truth

    settings = {"k": 3} if kind != "standard" else {"sparsity_weight": 0.1}
    autoencoder = train(KINDS[kind](**settings), [batch() for _ in range(400)], lr=1e-2)
    cosines = truth @ autoencoder.folded()["W_dec"].T
    assert cosines.max(1).values.mean() > 0.9
