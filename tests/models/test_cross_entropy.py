import shutil

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn.functional import cross_entropy
from torch.utils._python_dispatch import TorchDispatchMode

from tti.models import cross_entropy as module
from tti.models.cross_entropy import linear_cross_entropy

VOCAB, D_MODEL = 50, 8


@pytest.fixture(autouse=True)
def small_chunks(monkeypatch):
    """Three rows at a time and twenty of the weight, so that every test crosses chunks and parts."""
    monkeypatch.setattr(module, "CHUNK", {})
    monkeypatch.setattr(module, "CHUNK_ELSEWHERE", 3)
    monkeypatch.setattr(module, "PART", {"cpu": 20})


def problem(tokens, dtype=torch.float32):
    torch.manual_seed(tokens)
    hidden = torch.randn(tokens, D_MODEL, dtype=dtype, requires_grad=True)
    weight = torch.randn(VOCAB, D_MODEL, dtype=dtype, requires_grad=True)
    return hidden, weight, torch.randint(VOCAB, (tokens,))


def reference(hidden, weight, targets):
    hidden, weight = (value.detach().double().requires_grad_() for value in (hidden, weight))
    nll = cross_entropy(hidden @ weight.T, targets, reduction="none")
    nll.mean().backward()
    return nll.mean().detach(), nll.detach(), hidden.grad, weight.grad


def ours(hidden, weight, targets, scale=1.0):
    mean, nll = linear_cross_entropy(hidden, weight, targets)
    (mean * scale).backward()
    return mean.detach().double(), nll.double(), hidden.grad.double() / scale, weight.grad.double() / scale


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@given(tokens=st.integers(1, 14))
@settings(max_examples=10, deadline=None)
def test_value_and_gradients_are_those_of_the_definition(dtype, tokens):
    args = problem(tokens, dtype)
    torch.testing.assert_close(ours(*args), reference(*args), rtol=1e-5, atol=1e-6)


def test_one_chunk_gives_what_many_give(monkeypatch):
    many = ours(*problem(14))
    monkeypatch.setattr(module, "CHUNK_ELSEWHERE", 64)
    torch.testing.assert_close(ours(*problem(14)), many, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("scale", [-2.5, 1e-3, 1e3])
def test_the_mean_may_be_scaled_by_anything(scale):
    torch.testing.assert_close(ours(*problem(7), scale=scale), reference(*problem(7)), rtol=1e-5, atol=1e-6)


def test_other_uses_of_the_tied_weight_add_up():
    hidden, weight, targets = problem(7)
    (linear_cross_entropy(hidden, weight, targets)[0] + weight.sum()).backward()
    torch.testing.assert_close(weight.grad.double(), reference(hidden, weight, targets)[3] + 1, rtol=1e-5, atol=1e-6)


def test_under_autocast_products_are_rounded_and_sums_are_not():
    args = problem(14)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        mean, nll = linear_cross_entropy(*args)
    mean.backward()
    assert mean.dtype == nll.dtype == torch.float32
    assert args[0].grad.dtype == args[1].grad.dtype == torch.float32
    got = (mean.detach().double(), nll.double(), args[0].grad.double(), args[1].grad.double())
    torch.testing.assert_close(got, reference(*args), rtol=0.05, atol=0.05)
    assert not torch.allclose(nll.double(), reference(*args)[1], rtol=1e-6)


@pytest.mark.skipif(shutil.which("g++") is None, reason="torch.compile needs a C++ compiler")
@pytest.mark.parametrize("autocast", [False, True])
def test_a_compiled_soft_max_gives_what_the_plain_one_does(autocast):
    compiled = torch.compile(module.soft_max_, dynamic=True, fullgraph=True)
    results = []
    for soft_max_ in (module.soft_max_, compiled):
        hidden, weight, targets = problem(7)  # chunks of two lengths
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=autocast):
            mean, nll = linear_cross_entropy(hidden, weight, targets, soft_max_)
        mean.backward()
        results.append((mean.detach(), nll, hidden.grad, weight.grad))
    torch.testing.assert_close(*results, rtol=1e-5, atol=1e-6)


def test_large_logits_do_not_overflow():
    hidden, weight, targets = problem(5)
    mean, _ = linear_cross_entropy(hidden * 1e4, weight, targets)
    assert mean.isfinite()


class Tallest(TorchDispatchMode):
    """The largest number of rows of any tensor as wide as the vocabulary."""

    rows = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        for tensor in out if isinstance(out, tuple | list) else (out,):
            if torch.is_tensor(tensor) and tensor.ndim == 2 and tensor.shape[-1] == VOCAB:
                self.rows = max(self.rows, len(tensor))
        return out


@pytest.mark.parametrize("autocast", [False, True])
def test_all_the_logits_are_never_there_at_once(autocast):
    hidden, weight, targets = problem(14)
    with Tallest() as tallest, torch.autocast("cpu", dtype=torch.bfloat16, enabled=autocast):
        linear_cross_entropy(hidden, weight, targets)[0].backward()
    # Only the chunks and the transposed weight, with its D_MODEL rows, are as wide as the vocabulary.
    assert tallest.rows == D_MODEL < 14
    with Tallest() as tallest:
        cross_entropy(hidden @ weight.T, targets)
    assert tallest.rows == 14


def test_without_gradient_there_is_none(monkeypatch):
    hidden, weight, targets = problem(7)
    with torch.no_grad():
        mean, nll = linear_cross_entropy(hidden, weight, targets)
    assert not mean.requires_grad
    torch.testing.assert_close(nll.double(), reference(hidden, weight, targets)[1], rtol=1e-5, atol=1e-6)


def test_the_losses_of_tokens_are_detached():
    mean, nll = linear_cross_entropy(*problem(7))
    assert mean.requires_grad
    assert not nll.requires_grad


def test_a_second_backward_is_refused():
    mean, _ = linear_cross_entropy(*problem(7))
    (2 * mean).backward(retain_graph=True)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        mean.backward()
