"""The plain loops of the evaluation's benchmark find what ours finds, where they see everything."""

import pytest
import torch

from tti.benchmarking.evaluation import our_contexts, our_cosine, plain_contexts, plain_cosine


@pytest.fixture(scope="module")
def acts():
    generator = torch.Generator().manual_seed(0)
    return [torch.randn(n, 12, generator=generator) for n in (50, 7, 90)]


def test_contexts(acts):
    story = [torch.zeros(len(chunk), dtype=torch.int64) for chunk in acts]
    ours = our_contexts(acts, story, 5)
    torch.testing.assert_close(ours, plain_contexts(acts, 5, reservoir=1000))
    torch.testing.assert_close(ours, torch.cat(acts).topk(5, 0).values.T)
    few = plain_contexts(acts, 5, reservoir=20)
    assert 0 < torch.isin(ours, few).double().mean() < 0.7


def test_cosine(acts):
    assert our_cosine(acts).item() == pytest.approx(plain_cosine(acts).item(), abs=1e-6)
