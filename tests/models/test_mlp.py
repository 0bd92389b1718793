import pytest
import torch
from hydra.utils import instantiate
from torch.nn.functional import gelu, relu

from tti.models.gpt import GPT
from tti.models.mlp import DenseMLP, FeedForward, TopKMLP
from tti.models.symmetry import InapplicableError
from tti.models.taps import Recorder, no_tap


def run(mlp, x):
    recorder = Recorder(["pre", "post"])
    return mlp(x, recorder), recorder.activations


@pytest.mark.each_option("model/mlp")
def test_contract(compose, option):
    """What the transformer requires of any MLP: shapes, and information about its weights."""
    config = compose("model=tiny", f"model/mlp={option}").model
    torch.manual_seed(0)
    mlp = instantiate(config.mlp)(config.d_model)
    x = torch.randn(9, config.d_model, requires_grad=True)
    written, taps = run(mlp, x)
    assert written.shape == x.shape
    assert taps.keys() == {"pre", "post"}
    assert all(acts.ndim == 2 and len(acts) == 9 for acts in taps.values())
    torch.testing.assert_close(taps["post"] @ mlp.writes("post").T, written)
    matrices = {id(p): p.numel() for p in mlp.parameters() if p.ndim > 1}
    assert matrices.keys() <= {id(weight) for draws in mlp.draws(1.0, 1.0) for weight, _ in draws}
    assert 0 < mlp.weights_per_token <= sum(matrices.values())
    (written.square().sum() + taps["post"].square().sum()).backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in [x, *mlp.parameters()])
    state = torch.get_rng_state()
    mlp.eval()(x, no_tap)
    assert torch.equal(torch.get_rng_state(), state)


class Experts(FeedForward):
    """Two experts with one pair of matrices each, chosen by the sign of the first coordinate; no dense counterpart."""

    def __init__(self, d_model):
        super().__init__()
        self.stand_in = (DenseMLP(d_model, d_model, gelu),)  # in a tuple, so not a submodule
        self.inp, self.out = (torch.nn.Parameter(torch.zeros(2, d_model, d_model)) for _ in range(2))

    def forward(self, x, tap):
        expert = (x[:, 0] > 0).long()
        post = tap("post", torch.einsum("ti,tij->tj", x, self.inp[expert]).relu())
        return torch.einsum("ti,tij->tj", post, self.out[expert])

    def draws(self, std, residual_std):
        added = [(self.inp, std), (self.out, residual_std)]
        return self.stand_in[0].draws(std, residual_std)._replace(added=added)

    @property
    def weights_per_token(self):
        return self.inp[0].numel() + self.out[0].numel()


class Forgetful(Experts):
    def draws(self, std, residual_std):
        return super().draws(std, residual_std)._replace(added=[(self.inp, std)])


def network(mlp):
    torch.manual_seed(0)
    return GPT(37, 32, n_layers=2, d_model=16, n_heads=2, mlp=mlp, dropout=0.0, attention_dropout=0.0)


def test_a_mixture_of_experts_is_an_mlp(make_batch):
    net, dense = network(Experts), network(lambda d_model: DenseMLP(d_model, d_model, gelu))
    shared = [name for name in dense.state_dict() if ".mlp." not in name]
    assert all(torch.equal(net.state_dict()[name], dense.state_dict()[name]) for name in shared)
    assert all(block.mlp.inp.std() > 0.01 for block in net.blocks)
    assert net.operations_per_token == 6 * (2 * (4 + 2) * 16**2 + 37 * 16)
    assert net.writes("blocks.1.mlp.post") is net.reads("blocks.1.mlp.post") is None
    batch = make_batch([5, 3])
    assert net.loss(net(batch.tokens, batch.stories), batch.targets)[0].isfinite()
    for change in (net.duplicate_hidden, lambda: net.rescale_hidden(2.0)):
        with pytest.raises(InapplicableError, match="Experts has no hidden"):
            change()


def test_a_matrix_that_nobody_draws_is_an_error():
    with pytest.raises(ValueError, match=r"does not name blocks.0.mlp.out, blocks.1.mlp.out"):
        network(Forgetful)


@pytest.mark.parametrize("activation", [gelu, relu])
def test_dense_is_out_of_activation_of_inp(activation):
    mlp, x = DenseMLP(4, 10, activation), torch.randn(5, 4)
    assert torch.equal(mlp(x, no_tap), activation(x @ mlp.inp.weight.T) @ mlp.out.weight.T)


@pytest.mark.parametrize(("keep", "k"), [(0.1, 2), (0.25, 5), (0.5, 10), (0.001, 1)])
def test_top_k_keeps_exactly_k_a_token_the_largest_in_magnitude(keep, k):
    torch.manual_seed(0)
    mlp = TopKMLP(6, 20, gelu, keep)
    _, taps = run(mlp, 3 * torch.randn(50, 6))
    dense, post = gelu(taps["pre"]), taps["post"]
    assert ((post != 0).sum(-1) == k).all()
    assert ((post == dense) | (post == 0)).all()
    threshold = dense.abs().sort(-1, descending=True).values[:, k - 1, None]
    assert (post.abs() == torch.where(dense.abs() >= threshold, dense.abs(), 0)).all()


def test_top_k_of_all_is_dense():
    mlp, x = TopKMLP(6, 20, gelu, 1.0), torch.randn(5, 6)
    assert torch.equal(run(mlp, x)[1]["post"], gelu(run(mlp, x)[1]["pre"]))


def test_top_k_opens_k_also_among_equals():
    mlp = TopKMLP(2, 10, gelu, 0.3)
    pre = torch.ones(4, 10)
    assert ((mlp.hidden(pre) != 0).sum(-1) == 3).all()


def test_gradient_passes_through_the_kept_units_only():
    torch.manual_seed(0)
    mlp, pre = TopKMLP(6, 20, gelu, 0.25), torch.randn(50, 20, requires_grad=True)
    post = mlp.hidden(pre)
    (gradient,) = torch.autograd.grad(post.sum(), pre)
    (dense,) = torch.autograd.grad(gelu(pre).sum(), pre)
    assert torch.equal(gradient, dense.where(post != 0, 0))


@pytest.mark.parametrize("keep", [0, -0.1, 1.1])
def test_keep_must_be_a_fraction(keep):
    with pytest.raises(ValueError, match=r"fraction in \(0, 1\] of the 20 hidden units"):
        TopKMLP(6, 20, gelu, keep)
