"""The plain loops of the evaluation benchmark give correct results."""

import pytest
import torch

from tti.benchmarking.evaluation import our_cosine, plain_contexts, plain_cosine


@pytest.fixture(scope="module")
def acts():
    generator = torch.Generator().manual_seed(0)
    return [torch.randn(n, 12, generator=generator) for n in (50, 7, 90)]


def test_plain_contexts_are_exact(acts):
    found = plain_contexts(acts, [torch.arange(len(chunk)) for chunk in acts], 5, reservoir=20)
    torch.testing.assert_close(found, torch.cat(acts).topk(5, 0).values.T)


def test_cosine(acts):
    assert our_cosine(acts).item() == pytest.approx(plain_cosine(acts).item(), abs=1e-6)
