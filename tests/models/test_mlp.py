import pytest
import torch
from hydra.utils import instantiate
from torch.nn.functional import gelu, relu

from tti.models.mlp import DenseMLP, TopKMLP
from tti.models.taps import Recorder, no_tap


def run(mlp, x):
    recorder = Recorder(["pre", "post"])
    return mlp(x, recorder), recorder.activations


@pytest.mark.each_option("model/mlp")
def test_contract(compose, option):
    """What the transformer needs of any MLP: shapes, the sites pre and post, and what each neuron of post writes."""
    config = compose("model=tiny", f"model/mlp={option}").model
    torch.manual_seed(0)
    mlp = instantiate(config.mlp)(config.d_model)
    x = torch.randn(9, config.d_model, requires_grad=True)
    written, taps = run(mlp, x)
    assert written.shape == x.shape
    assert taps.keys() == {"pre", "post"}
    assert all(acts.ndim == 2 and len(acts) == 9 for acts in taps.values())
    torch.testing.assert_close(taps["post"] @ mlp.writes("post").T, written)
    (written.square().sum() + taps["post"].square().sum()).backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in [x, *mlp.parameters()])
    state = torch.get_rng_state()
    mlp.eval()(x, no_tap)
    assert torch.equal(torch.get_rng_state(), state)


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
