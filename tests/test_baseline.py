"""What a budget is counted from, and every way it can be wrong."""

import json

import pytest
from omegaconf import OmegaConf

from tti.baseline import training_curve

CONFIG = {
    "seed": 42,
    "data": {"stories_per_step": 8},
    "model": {"d_model": 16},
    "trainer": {"max_steps": 100, "log_every_n_steps": 10},
    "regularizer": {},
}
LOGGED = [(1, 100, 4.0), (10, 1000, 3.0), (20, 3000, 2.0), (30, 4000, 1.0)]  # step, tokens so far, cross-entropy


@pytest.fixture
def baseline(tmp_path):
    folder = tmp_path / "baseline" / "seed-42"
    folder.mkdir(parents=True)
    OmegaConf.save(OmegaConf.create(CONFIG), folder / "config.yaml")
    rows = [{"step": step, "train/tokens": tokens, "train/ce": nats} for step, tokens, nats in LOGGED]
    rows.insert(2, {"step": 15, "val/loss": 2.5})
    (folder / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (folder / "summary.json").write_text("{}")
    return folder


def like(**changes):
    return {key: CONFIG[key] | changes.get(key, {}) if key != "seed" else changes.get("seed", 42)
            for key in ("seed", "data", "model", "trainer")}  # fmt: skip


def test_it_is_the_mean_over_the_tokens_of_the_steps_between(baseline):
    curve = training_curve(str(baseline), like())
    assert curve(0, 1) == 4.0
    assert curve(1, 10) == 3.0
    assert curve(10, 30) == pytest.approx((2000 * 2.0 + 1000 * 1.0) / 3000)


def test_a_number_holds_everywhere():
    curve = training_curve(1.5, like())
    assert curve(0, 1) == curve(50, 100) == 1.5


def test_without_one_it_says_how_to_give_one():
    with pytest.raises(ValueError, match=r"weighting\.baseline\.of=FOLDER"):
        training_curve(None, like())


def test_a_folder_without_a_run_names_those_nearby(baseline):
    with pytest.raises(ValueError, match="holds no run"):
        training_curve(str(baseline.parent / "seed-43"), like())


def test_it_must_have_finished(baseline):
    (baseline / "summary.json").unlink()
    with pytest.raises(ValueError, match="is unfinished: start it again"):
        training_curve(str(baseline), like())


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"seed": 43}, r"seed \(42 there, 43 here\)"),
        ({"model": {"d_model": 32}}, r"model\.d_model \(16 there, 32 here\)"),
        ({"trainer": {"log_every_n_steps": 50}}, r"log_every_n_steps \(10 there, 50 here\)"),
        ({"data": {"max_length": 9}}, r"data\.max_length \(None there, 9 here\)"),
    ],
)
def test_it_must_be_the_same_training(baseline, changes, named):
    with pytest.raises(ValueError, match=f"is no baseline of this run.*{named}"):
        training_curve(str(baseline), like(**changes))


def test_what_cannot_change_the_result_may_differ(baseline):
    training_curve(str(baseline), like(trainer={"accelerator": "gpu"}, data={"num_workers": 3}))
