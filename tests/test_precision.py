"""Which precision a training takes on a CPU, and that it keeps it."""

import logging

import pytest
import torch
from omegaconf import OmegaConf

from tti import precision
from tti.precision import decided
from tti.runs import Run

OPEN = OmegaConf.create({"trainer": {"precision": "auto"}, "seed": 1})


@pytest.fixture
def cpu(monkeypatch):
    """``cpu(2.3)``: a CPU that multiplies 2.3 times as fast in bfloat16 as in float32."""
    return lambda ratio: monkeypatch.setattr(precision, "speed_up", lambda: ratio)


@pytest.mark.parametrize(("ratio", "expected"), [(0.02, "32-true"), (1.2, "32-true"), (2.3, "bf16-mixed")])
def test_a_cpu_takes_what_it_multiplies_fast_in_and_says_so(cpu, caplog, ratio, expected):
    cpu(ratio)
    with caplog.at_level(logging.INFO):
        assert decided(OPEN).trainer.precision == expected
    assert f"trainer.precision={expected}: the CPU multiplies {ratio} times as fast" in caplog.text
    assert OPEN.trainer.precision == "auto"


def test_a_precision_that_was_asked_for_stays_and_nothing_is_measured(monkeypatch):
    monkeypatch.delattr(precision, "speed_up")
    asked = OmegaConf.create({"trainer": {"precision": "32-true"}})
    assert decided(asked) == asked


def test_a_resumed_run_keeps_its_precision_on_another_cpu(cpu, tmp_path):
    run = Run(tmp_path / "run")
    run.folder.mkdir()
    cpu(2.3)
    assert run.begin(OPEN, [], overwrite=False).trainer.precision == "bf16-mixed"
    cpu(0.5)
    again = Run(run.folder)
    assert again.config.trainer.precision == "bf16-mixed"
    assert again.begin(OPEN, [], overwrite=False).trainer.precision == "bf16-mixed"
    asked = OmegaConf.create({"trainer": {"precision": "32-true"}, "seed": 1})
    with pytest.raises(ValueError, match=r"trainer\.precision: bf16-mixed there, 32-true wanted"):
        Run(run.folder).begin(asked, [], overwrite=False)


def test_all_runs_of_a_sweep_have_the_precision_of_the_first(cpu, tmp_path, caplog):
    cpu(2.3)
    assert decided(OPEN, tmp_path / "sweep").trainer.precision == "bf16-mixed"
    cpu(0.5)
    with caplog.at_level(logging.INFO):
        assert decided(OPEN, tmp_path / "sweep").trainer.precision == "bf16-mixed"
    assert "precision.yaml keeps this for all runs of the sweep" in caplog.text
    assert decided(OPEN, tmp_path / "another").trainer.precision == "32-true"


def test_a_sweep_that_began_before_goes_on_as_it_began(cpu, tmp_path):
    cpu(2.3)
    earlier = tmp_path / "sweep/baseline/seed-1"
    earlier.mkdir(parents=True)
    earlier.joinpath("config.yaml").write_text("trainer: {precision: 32-true}\n")
    assert decided(OPEN, tmp_path / "sweep").trainer.precision == "32-true"


def test_products_are_timed(monkeypatch):
    monkeypatch.setattr(precision, "_seconds", lambda dtype: {torch.float32: 2.0, torch.bfloat16: 1.0}[dtype])
    assert precision.speed_up() == 2


def test_the_time_of_a_product_is_measured():
    assert precision._seconds(torch.float32) > 0
