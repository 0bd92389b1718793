"""Sampling, and greedy decoding with a cache, compared with recomputing everything."""

from functools import partial

import pytest
import torch

from tti.models.generation import continuation, greedy
from tti.models.gpt import GPT
from tti.models.mlp import DenseMLP
from tti.models.stories import Separate

END = 9


@pytest.fixture(scope="module")
def net():
    torch.manual_seed(0)
    mlp = partial(DenseMLP, d_ff=16, activation=torch.nn.functional.gelu)
    return GPT(10, 12, n_layers=1, d_model=8, n_heads=2, mlp=mlp, dropout=0.5, attention_dropout=0.0).eval()


def sample(net, tokens, **options):
    settings = {"ids": torch.arange(10), "end": END, "limit": 100, "temperature": 1.0, "top_k": 10, "seed": 0} | options
    generator = torch.Generator().manual_seed(settings.pop("seed"))
    return list(continuation(net, tokens, generator=generator, **settings))


def test_stops_at_the_end_of_the_context(net):
    assert len(sample(net, [1, 2, 3], end=-1)) == net.context - 3


def test_stops_at_the_limit_and_at_the_end_of_text(net):
    assert len(sample(net, [1], limit=4, end=-1)) == 4
    first = sample(net, [1], limit=1, end=-1)[0]
    assert sample(net, [1], end=first) == []


def test_the_seed_decides(net):
    assert sample(net, [1], seed=3) == sample(net, [1], seed=3)
    assert sample(net, [1], seed=3, end=-1) != sample(net, [1], seed=4, end=-1)


def test_temperature_zero_and_top_one_are_greedy(net):
    assert sample(net, [1], temperature=0, seed=1) == sample(net, [1], top_k=1, seed=2)


def test_ids_without_a_token_are_never_drawn(net):
    ids = torch.tensor([0, 3, 4])
    drawn = {token for seed in range(20) for token in sample(net, [1], ids=ids, end=-1, seed=seed)}
    assert drawn == {0, 3, 4}
    assert set(sample(net, [1], ids=ids, end=-1, temperature=0)) <= drawn


def test_the_prompt_is_not_changed(net):
    prompt = [1, 2]
    sample(net, prompt)
    assert prompt == [1, 2]


# -- greedy -----------------------------------------------------------------------------------------------------------

PROMPTS = [[1, 2, 3], [4], [5, 6, 7, 8, 0], [2, 2], [4]]


@torch.no_grad()
def again(net, prompt, end, limit):
    """Continue one prompt, recomputing everything for each token."""
    story = list(prompt)
    while len(story) < min(net.context, len(prompt) + limit):
        token = int(net.logits(net(torch.tensor(story), Separate.of([len(story)])))[-1].argmax())
        if token == end:
            break
        story.append(token)
    return story[len(prompt) :]


@pytest.fixture(scope="module", params=["model/mlp=dense", "model/mlp=topk", "model/mlp=overcomplete"])
def lively(make_net, request):
    """A network in double precision, so that rounding does not matter; sharpened, so that continuations differ."""
    net = make_net(request.param, vocab_size=10, context=12).double()
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=torch.Generator().manual_seed(parameter.numel())) / 2)
    return net


@pytest.mark.parametrize("limit", [0, 1, 4, 100])
@pytest.mark.parametrize("end", [-1, *range(4)])
def test_a_batch_with_a_cache_is_each_prompt_run_again(lively, limit, end):
    found = greedy(lively, PROMPTS, end, limit)
    assert found == [again(lively, prompt, end, limit) for prompt in PROMPTS]
    if end == -1 and limit == 100:
        assert [len(each) + len(prompt) for each, prompt in zip(found, PROMPTS, strict=True)] == [12] * 5
        assert len({tuple(each) for each in found}) > 2


def test_a_network_with_attention_of_its_own_runs_every_story_again(lively, monkeypatch):
    expected = greedy(lively, PROMPTS, 3, 6)
    monkeypatch.setattr(lively, "attends_by_layout", False)
    assert greedy(lively, PROMPTS, 3, 6) == expected


def test_no_token_is_run_twice(lively, monkeypatch):
    run = []
    forward = lively.forward
    monkeypatch.setattr(lively, "forward", lambda tokens, *rest: run.append(len(tokens)) or forward(tokens, *rest))
    found = greedy(lively, PROMPTS, -1, 3)
    assert [len(each) for each in found] == [3] * 5
    assert run == [12, 5, 5]


def test_no_prompts_and_full_ones_have_no_continuation(lively):
    assert greedy(lively, [], -1, 3) == []
    assert greedy(lively, [[1] * 12, [1] * 11], -1, 3)[0] == []
