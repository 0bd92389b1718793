"""The baseline of a budget, and every way in which it can be wrong."""

import json

import pytest
from omegaconf import OmegaConf

from tti.baseline import validation_curve

CONFIG = {
    "seed": 42,
    "data": {"stories_per_step": 8},
    "model": {"d_model": 16},
    "optimizer": {"lr": 1e-3},
    "schedule": {},
    "trainer": {"max_steps": 100, "val_check_interval": 5, "accumulate_grad_batches": 1},
    "regularizer": {},
}
LOSSES = {5: 4.0, 10: 3.0, 15: 2.5}


@pytest.fixture
def baseline(tmp_path):
    folder = tmp_path / "baseline" / "seed-42"
    folder.mkdir(parents=True)
    OmegaConf.save(OmegaConf.create(CONFIG), folder / "config.yaml")
    rows = [{"step": 1, "train/ce": 9.0}, *({"step": step, "val/loss": loss} for step, loss in LOSSES.items())]
    (folder / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (folder / "summary.json").write_text("{}")
    return folder


def like(**changes):
    return OmegaConf.merge(CONFIG, changes)


def test_it_is_the_validation_loss_at_a_step(baseline):
    curve = validation_curve(like(), str(baseline))
    assert {step: curve(step) for step in LOSSES} == LOSSES


def test_a_number_holds_everywhere():
    curve = validation_curve(like(), 1.5)
    assert curve(1) == curve(100) == 1.5


def test_too_few_validations_to_steer_by_is_an_error():
    with pytest.raises(ValueError, match="this run has 2; it needs 10 or more"):
        validation_curve(like(trainer={"val_check_interval": 50}), 1.5)


def test_without_one_it_says_how_to_give_one():
    with pytest.raises(ValueError, match=r"weighting\.baseline\.of=FOLDER"):
        validation_curve(like(), None)


def test_a_folder_without_a_run_names_those_nearby(baseline):
    with pytest.raises(ValueError, match="holds no run"):
        validation_curve(like(), str(baseline.parent / "seed-43"))


def test_it_must_have_finished(baseline):
    (baseline / "summary.json").unlink()
    with pytest.raises(ValueError, match="is unfinished: start it again"):
        validation_curve(like(), str(baseline))


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"seed": 43}, r"seed \(42 there, 43 here\)"),
        ({"model": {"d_model": 32}}, r"model\.d_model \(16 there, 32 here\)"),
        ({"trainer": {"val_check_interval": 10}}, r"trainer\.val_check_interval \(5 there, 10 here\)"),
        ({"data": {"max_length": 9}}, r"data\.max_length \(- there, 9 here\)"),
    ],
)
def test_it_must_be_the_same_training(baseline, changes, named):
    with pytest.raises(ValueError, match=f"cannot be the baseline of this run.*{named}"):
        validation_curve(like(**changes), str(baseline))


def test_what_cannot_change_the_result_may_differ(baseline):
    validation_curve(like(trainer={"accelerator": "gpu"}, data={"num_workers": 3}), str(baseline))
