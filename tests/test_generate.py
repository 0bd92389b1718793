"""Sampling from a model, and the command's errors. That a trained run continues a story is in tests/end_to_end."""

import subprocess
import sys
from functools import partial

import pytest
import torch

from tti.configuration import quoted
from tti.generate import continuation
from tti.models.gpt import GPT
from tti.models.mlp import DenseMLP

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


def test_values_are_taken_as_they_stand():
    assert quoted(["prompt=One, 'two'", "top_k=3"], ["prompt"]) == [r"prompt='One, \'two\''", "top_k=3"]


def test_a_folder_without_a_run_is_one_clear_line(tmp_path):
    command = [sys.executable, "-m", "tti.generate", f"run={tmp_path}", "prompt=Hi, there"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr.strip() == f"error: {tmp_path} holds no run (no config.yaml). Runs nearby: none"
