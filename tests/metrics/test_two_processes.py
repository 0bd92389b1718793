"""Two processes with uneven shares of the data give the same results as one."""

from datetime import timedelta
from pathlib import Path

import pytest
import torch
from torch import distributed, multiprocessing, nn

from tti.metrics.firing import FiringRates
from tti.metrics.loss import Loss
from tti.metrics.orthogonality import MeanAbsCosine
from tti.metrics.polysemanticity import Polysemanticity
from tti.metrics.sparsity import Sparsity
from tti.metrics.step_means import StepMeans
from tti.models.stories import Separate
from tti.step import Batch, Step

TYPES = 6
SHARES = [[0, 1, 2], [3]]  # of the batches below


def batches():
    generator = torch.Generator().manual_seed(0)
    for tokens in (4, 1, 7, 5):
        acts = torch.randn(tokens, 3, generator=generator)
        acts[:, 2] = 0
        types = torch.randint(TYPES, (tokens,), generator=generator)
        batch = Batch(types, types, Separate.of([tokens]), types, TYPES, target_bytes=3 * tokens + 1)
        yield Step(batch, torch.rand(tokens, generator=generator), {"blocks.0.mlp_out": acts}, nn.Identity())


def measure(chosen):
    by_threshold = [kind(3, TYPES, threshold=0.5) for kind in (Sparsity, FiringRates)]
    at_site = [MeanAbsCosine(3, TYPES), Polysemanticity(3, TYPES), *by_threshold]
    loss, means = Loss(), StepMeans()
    for index, step in enumerate(batches()):
        if index in chosen:
            loss.update(step)
            means.update({"ce": step.nll.mean(), "l1": torch.tensor(float(index))}, len(step.batch))
            for metric in at_site:
                metric.update(step.activations["blocks.0.mlp_out"], step)
    results = [metric.compute() for metric in (*at_site, loss, means)]
    return [{name: value.item() for name, value in result.items()} for result in results]


def measure_together(rank, folder):
    meeting = f"file://{folder}/meeting"
    distributed.init_process_group("gloo", init_method=meeting, rank=rank, world_size=2, timeout=timedelta(minutes=2))
    try:
        return measure(SHARES[rank])
    finally:
        distributed.destroy_process_group()


def second_process(_, folder):
    torch.set_num_threads(1)
    torch.save(measure_together(1, folder), f"{folder}/second.pt")


def test_two_processes_measure_what_one_does(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(Path(__file__).parents[2])  # so that the processes find this file
    second = multiprocessing.spawn(second_process, (str(tmp_path),), nprocs=1, join=False)
    first = measure_together(0, tmp_path)
    assert second.join(timeout=60)
    alone = measure(range(4))
    for shared in (first, torch.load(tmp_path / "second.pt")):
        for got, expected in zip(shared, alone, strict=True):
            assert got == pytest.approx(expected, rel=1e-6, abs=1e-7)
    assert measure(SHARES[0]) != alone
