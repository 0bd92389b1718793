"""The plain loops of the evaluation benchmark give correct results."""

from dataclasses import replace

import pytest
import torch

from tests.conftest import options
from tti.benchmarking import evaluation, parts
from tti.benchmarking.clocks import cpu
from tti.benchmarking.evaluation import Evaluation, our_cosine, plain_contexts, plain_cosine


@pytest.fixture(scope="module")
def acts():
    generator = torch.Generator().manual_seed(0)
    return [torch.randn(n, 12, generator=generator) for n in (50, 7, 90)]


def test_plain_contexts_are_exact(acts):
    found = plain_contexts(acts, [torch.arange(len(chunk)) for chunk in acts], 5, reservoir=20)
    torch.testing.assert_close(found, torch.cat(acts).topk(5, 0).values.T)


def test_cosine(acts):
    assert our_cosine(acts).item() == pytest.approx(plain_cosine(acts).item(), abs=1e-6)


def test_every_part_is_measured():
    assert sorted(parts.names()) == options("evaluation")


def test_a_part_has_a_cost_or_a_reason(setting):
    done = parts.cost("performance", setting, "validation", 300, 200, cpu)
    assert 300 <= done.tokens < 700
    assert 0 < done.own < done.seconds + 1
    assert not done.left_out
    assert "no concept module" in parts.cost("leakage", setting, "validation", 300, 200, cpu).left_out


def test_parts_that_cannot_be_done_are_named_with_the_reason(setting, monkeypatch):
    costs = {"performance": parts.Cost(10, 3, 2.0, 1.0, 5.4), "leakage": parts.Cost(10, left_out="it has none")}
    monkeypatch.setattr(parts, "cost", lambda name, *_: replace(costs[name]))
    monkeypatch.setattr(evaluation, "in_a_process", lambda work, *args: work(*args))
    measured = Evaluation("embed", "validation", 40, 20, 1, 1, 1, list(costs))
    *_, section = measured._parts(setting, cpu)
    assert section.rows == [["`performance`", "2.0", "1.0", "5", "5"]]
    assert section.notes[-1] == "`leakage` is left out: it has none."
