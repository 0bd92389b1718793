from dataclasses import replace

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from tti.benchmarking import clocks, flops
from tti.benchmarking.original import Original


def test_the_formula_counts_what_pytorch_counts(still):
    """A single story has no padding. The seed project's attention computes all pairs; ours is causal and half of it."""
    still = replace(still, stories=1, steps=1)
    (sample,) = still.samples
    story = len(sample.batch)
    sample = replace(sample, padded_tokens=sample.batch.tokens[None], padded_targets=sample.batch.targets[None])
    with FlopCounterMode(display=False) as counter:
        Original(still).loss(sample).backward()
    model = still.config.model
    all_pairs, causal_pairs = (
        12 * model.n_layers * model.d_model * story,
        6 * model.n_layers * model.d_model * (story + 1),
    )
    assert flops.per_token(still) - causal_pairs + all_pairs == pytest.approx(
        counter.get_total_flops() / story, rel=1e-6
    )


def test_a_run_has_all_stories_of_all_its_steps(setting):
    tokens = [sample.step_tokens for sample in setting.samples]
    assert flops.tokens_a_run(setting) == 100 * sum(tokens) / len(tokens)


@pytest.mark.parametrize(
    ("name", "peak"), [("NVIDIA A100-SXM4-80GB", 312e12), ("NVIDIA H100 PCIe", 756e12), ("Other", None)]
)
def test_peaks_by_the_names_of_devices(monkeypatch, name, peak):
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    monkeypatch.setattr("torch.cuda.get_device_name", lambda: name)
    assert flops.peak(clocks.wall, torch.bfloat16) == peak
    assert flops.peak(clocks.wall, torch.float32) is None


def test_a_cpu_is_measured(monkeypatch):
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    monkeypatch.setattr(flops, "SIZE", 64)
    ticks = iter([0, 5, 5, 7, 7, 16, 16, 19, 19, 23])
    assert flops.peak(lambda: next(ticks), torch.float32) == 2 * 64**3 / 2


@pytest.mark.parametrize(("precision", "dtype"), [("32-true", torch.float32), ("bf16-mixed", torch.bfloat16)])
def test_a_loop_is_held_against_products_of_its_own_precision(setting, precision, dtype):
    assert Original(setting.having(f"trainer.precision={precision}")).dtype == dtype
