"""MLPs with other hidden layers: known values, gradients, and what evaluation sees."""

import pytest
import torch
from torch.nn.functional import gelu, relu

from tti.models.batch_topk import BatchTopKMLP
from tti.models.bilinear import BilinearMLP
from tti.models.codebook import CodebookMLP
from tti.models.jumprelu import Above, JumpReLUMLP
from tti.models.mlp import DenseMLP, TopKMLP
from tti.models.solu import SoLUMLP, solu
from tti.models.symmetry import InapplicableError
from tti.models.taps import Recorder, no_tap


@pytest.fixture
def x():
    return torch.randn(50, 6, generator=torch.Generator().manual_seed(0))


def test_solu_of_equal_neurons_is_their_mean_and_of_a_large_one_is_itself():
    torch.testing.assert_close(solu(torch.full((1, 4), 2.0)), torch.full((1, 4), 0.5))
    torch.testing.assert_close(solu(torch.tensor([[50.0, 1.0, -1.0]])), torch.tensor([[50.0, 0.0, 0.0]]))


def test_the_norm_of_solu_undoes_a_common_factor(x):
    plain, normed = SoLUMLP(6, 20, norm=False), SoLUMLP(6, 20, norm=True)
    pre = 3 * x @ torch.randn(6, 20)
    assert torch.equal(plain.hidden(pre), solu(pre))
    torch.testing.assert_close(normed.hidden(pre).var(-1, unbiased=False), torch.ones(50), atol=1e-2, rtol=0)
    with pytest.raises(InapplicableError, match="softmax"):
        plain.duplicate()
    with pytest.raises(InapplicableError, match="not homogeneous"):
        plain.rescale(2.0)


def test_a_bilinear_mlp_is_quadratic_and_has_the_weights_of_a_dense_one(x):
    mlp, dense = BilinearMLP(6, 24), DenseMLP(6, 24, gelu)
    assert mlp.width == 16
    assert mlp.weights_per_token == dense.weights_per_token
    torch.testing.assert_close(mlp(-2 * x, no_tap), 4 * mlp(x, no_tap))
    torch.testing.assert_close(mlp(x, no_tap), ((x @ mlp.inp.weight.T) * (x @ mlp.gate.weight.T)) @ mlp.out.weight.T)


def test_the_random_state_after_a_bilinear_mlp_is_that_after_a_dense_one():
    states = []
    for make in (BilinearMLP, lambda *sizes: DenseMLP(*sizes, gelu)):
        torch.manual_seed(0)
        make(6, 24)
        states.append(torch.get_rng_state())
    assert torch.equal(*states)


def test_jumprelu_passes_what_exceeds_its_threshold(x):
    mlp = JumpReLUMLP(6, 20, threshold=0.3, bandwidth=0.1)
    pre = 3 * x @ torch.randn(6, 20)
    expected = torch.where(pre > 0.3, pre, 0.0)
    torch.testing.assert_close(mlp.hidden(pre), expected)
    recorder = Recorder(["open", "post", "pre"])
    mlp(x, recorder)
    taps = recorder.activations
    assert torch.equal(taps["post"], taps["pre"] * taps["open"])
    assert set(taps["open"].unique().tolist()) <= {0.0, 1.0}
    mlp.rescale(2.0)
    torch.testing.assert_close(mlp.log_threshold.exp(), torch.full((20,), 0.6))


def test_the_gradient_of_a_threshold_counts_the_tokens_near_it():
    """3 of 4 tokens are within half a bandwidth of 1, so the slope of the number of active tokens is -3 / bandwidth."""
    pre = torch.tensor([[0.96], [1.0], [1.04], [2.0]], requires_grad=True)
    threshold = torch.ones(1, requires_grad=True)
    Above.apply(pre, threshold, 0.1).sum().backward()
    torch.testing.assert_close(threshold.grad, torch.tensor([-30.0]))
    assert pre.grad is None


@pytest.mark.parametrize("wrong", [{"threshold": 0.0}, {"bandwidth": -1.0}])
def test_jumprelu_refuses_values_that_are_not_above_0(wrong):
    with pytest.raises(ValueError, match="must be above 0"):
        JumpReLUMLP(6, 20, **({"threshold": 0.1, "bandwidth": 0.1} | wrong))


def test_batch_top_k_keeps_the_largest_of_the_batch(x):
    mlp = BatchTopKMLP(6, 20, relu, keep=0.1)
    pre = torch.cat([x @ torch.randn(6, 20), torch.zeros(1, 20)])  # the last token needs no neuron
    post = mlp.hidden(pre)
    assert (post != 0).sum() == 2 * 51
    assert (post[-1] == 0).all()
    assert post[post != 0].min() >= relu(pre)[post == 0].max()


def test_batch_top_k_in_evaluation_is_a_threshold_that_has_been_seen(x):
    mlp = BatchTopKMLP(6, 20, relu, keep=0.1)
    pre = x @ torch.randn(6, 20)
    assert torch.equal(mlp.eval().hidden(pre), TopKMLP(6, 20, relu, 0.1).hidden(pre))  # nothing has been seen
    smallest = mlp.train().hidden(pre)
    smallest = smallest[smallest != 0].min()
    torch.testing.assert_close(mlp.threshold, smallest)
    kept = mlp.eval().hidden(pre)
    torch.testing.assert_close(kept, torch.where(relu(pre) > smallest, relu(pre), 0.0))
    assert torch.equal(mlp.hidden(pre[:1]), kept[:1])  # a token does not depend on the others
    mlp.train().hidden(2 * pre)
    torch.testing.assert_close(mlp.threshold, 1.01 * smallest)


@pytest.fixture
def codebook():
    torch.manual_seed(1)
    return CodebookMLP(6, 10, gelu, codes=20, k=3)


def test_a_codebook_writes_the_sum_of_the_nearest_codes(codebook, x):
    recorder = Recorder(["pre", "post", "error"])
    written, original = codebook(x, recorder), codebook.dense(x, no_tap)
    codes = codebook.out.weight.T
    nearest = torch.cosine_similarity(original[:, None], codes[None], dim=-1).topk(3).indices
    torch.testing.assert_close(written, codes[nearest].sum(1))
    post = recorder.activations["post"]
    assert torch.equal(post.sum(1), torch.full((50,), 3.0))
    assert (post.gather(1, nearest) == 1).all()
    torch.testing.assert_close(recorder.activations["error"], written - original)


def test_the_size_of_a_code_does_not_decide_whether_it_is_used(codebook, x):
    recorder = Recorder(["post"])
    codebook(x, recorder)
    before = recorder.activations["post"]
    codebook.out.weight.data[:, 4] *= 100
    codebook(x, recorder)
    assert torch.equal(recorder.activations["post"], before)


def test_what_a_codebook_replaces_learns_as_if_it_had_been_written(codebook, x):
    target = torch.randn(50, 6)
    (codebook(x, no_tap) * target).sum().backward()
    learned = codebook.dense.out.weight.grad.clone()
    codebook.zero_grad()
    (codebook.dense(x, no_tap) * target).sum().backward()
    torch.testing.assert_close(learned, codebook.dense.out.weight.grad)


def test_the_error_of_a_codebook_draws_codes_and_output_to_each_other(codebook, x):
    recorder = Recorder(["error", "post"])
    codebook(x, recorder)
    error = recorder.activations["error"]
    (error.square().sum() / 2).backward()
    torch.testing.assert_close(codebook.out.weight.grad, error.T @ recorder.activations["post"])
    torch.testing.assert_close(codebook.dense.out.weight.grad, -error.T @ codebook.dense.hidden(codebook.dense.inp(x)))


@pytest.mark.parametrize("k", [0, 21])
def test_a_codebook_refuses_more_codes_than_it_has(k):
    with pytest.raises(ValueError, match=f"k={k} codes per token must be from 1 to the 20"):
        CodebookMLP(6, 10, gelu, codes=20, k=k)


def test_the_random_state_after_a_codebook_is_that_after_a_dense_mlp():
    states = []
    for make in (lambda *sizes: CodebookMLP(*sizes, gelu, codes=20, k=3), lambda *sizes: DenseMLP(*sizes, gelu)):
        torch.manual_seed(0)
        make(6, 24)
        states.append(torch.get_rng_state())
    assert torch.equal(*states)
