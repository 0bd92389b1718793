"""Tuning through the real command line: the grid, its extension, its tables, and the sweep that uses them."""

import csv

import pytest
from omegaconf import OmegaConf
from small import CORPUS

from tti.runs import find

TINY = [
    "experiment=demo", *CORPUS, "model.d_model=32", "data.stories_per_step=8", "trainer.max_steps=10",
    "trainer.val_check_interval=10",
]  # fmt: skip
GRID = [*TINY, "variant=baseline,topk", "optimizer.lr=1e-3", "hydra.sweeper.widenings=1"]


def table(tmp_path):
    with (tmp_path / "runs" / "demo" / "tuning.csv").open() as file:
        return list(csv.DictReader(file))


def tuned(tmp_path):
    return OmegaConf.to_container(OmegaConf.load(tmp_path / "runs" / "demo" / "tuning.yaml"))


@pytest.mark.nightly
def test_a_tuning_widens_its_grid_at_the_edge_resumes_and_gives_the_sweep_what_it_found(tti, tmp_path):
    tti("-m", "hydra/sweeper=tuning", *GRID, patch=DIES_AFTER_TWO_RUNS)
    assert 0 < len(find(tmp_path / "runs" / "demo-tuning")) < 6
    done = tti(*GRID, module="tti.tune").ok()
    rows = table(tmp_path)
    # With only ten steps the largest rate wins, so the grid of three has been extended by one.
    assert {
        row["variant"]: sorted(float(r["value"]) for r in rows if r["variant"] == row["variant"]) for row in rows
    } == {
        "baseline": [0.0005, 0.001, 0.002, 0.004],
        "topk": [0.0005, 0.001, 0.002, 0.004],
    }
    for name, overrides in tuned(tmp_path).items():
        losses = {float(row["value"]): float(row["val_loss"]) for row in rows if row["variant"] == name}
        assert overrides == [f"optimizer.lr={min(losses, key=losses.get)}"]
    assert {row["steps"] for row in rows} == {"10"}
    assert "hydra.sweeper.tuned=" in done.output

    before = (tmp_path / "runs" / "demo" / "tuning.csv").read_bytes()
    tti(*GRID, module="tti.tune").ok()  # everything exists: the same table, without training
    assert (tmp_path / "runs" / "demo" / "tuning.csv").read_bytes() == before

    tti("-m", *TINY, "variant=topk", "seed=42", "hydra.sweeper.tuned=runs/demo/tuning.yaml", "name=taken").ok()
    (run,) = find(tmp_path / "runs" / "demo-taken")
    assert [f"optimizer.lr={run.config.optimizer.lr}"] == tuned(tmp_path)["topk"]


DIES_AFTER_TWO_RUNS = """
import os, tti.runs
finish, count = tti.runs.Run.finish, []
def dying(run, summary):
    finish(run, summary)
    count.append(run)
    if len(count) == 2:
        os._exit(9)
tti.runs.Run.finish = dying
"""


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["hydra.sweeper.tuning_seeds=[41,42]", "seed=42"], "seed 42 is one of the experiment's"),
        (["hydra.sweeper.factors=[1]"], "must be two or more"),
        (["hydra.sweeper.tuning_seeds=[]"], "must be one or more seeds"),
        (["trainer.max_steps=10,20"], "tuning sweeps over optimizer.lr alone, not over trainer.max_steps"),
    ],
)
def test_a_tuning_that_makes_no_sense_is_refused_before_anything_is_trained(tti, tmp_path, arguments, message):
    assert message in tti(*TINY, *arguments, module="tti.tune").output
    assert not (tmp_path / "runs" / "demo-tuning").exists()


def test_a_sweep_refuses_a_table_that_lacks_its_method(tti, tmp_path):
    (tmp_path / "tuning.yaml").write_text("baseline: [optimizer.lr=0.01]\n")
    output = tti("-m", *TINY, "variant=baseline,topk", "hydra.sweeper.tuned=tuning.yaml").output
    assert "has no row for topk" in output


def test_a_sweep_refuses_a_knob_that_is_both_given_and_tuned(tti, tmp_path):
    (tmp_path / "tuning.yaml").write_text("baseline: [optimizer.lr=0.01]\n")
    given = ["variant=baseline", "optimizer.lr=0.001", "hydra.sweeper.tuned=tuning.yaml"]
    assert "optimizer.lr is given and tuned: leave it out" in tti("-m", *TINY, *given).output
    assert not (tmp_path / "runs" / "demo").exists()
