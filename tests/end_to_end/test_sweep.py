"""Sweeps through the real command line."""

import json
from pathlib import Path

import pytest
from commands import Commands, Done, rows, summary
from small import SMALL

from tti.runs import Run

SWEEP = [override for override in SMALL if not override.startswith("hydra.mode")] + ["trainer.max_steps=4"]
# One variant that fails, for a reason that shows only once the job has started.
VARIANTS = [
    "+hydra.sweeper.variants.good=[]",
    "+hydra.sweeper.variants.bad=['model.n_heads=5']",
    "+hydra.sweeper.variants.other=['regularizer=l1']",
    "variant=good,bad,other",
]


@pytest.fixture(scope="module")
def swept(commands_in, tmp_path_factory) -> tuple[Commands, Done]:
    tti = commands_in(tmp_path_factory.mktemp("sweep"))
    return tti, tti(*SWEEP, *VARIANTS)


def test_a_failing_job_does_not_stop_the_others(swept):
    tti, done = swept
    assert done.code == 1
    states = {folder.name: Run(folder / "seed-42").status for folder in (tti.folder / "runs/demo-small").glob("*/")}
    assert states == {"good": "finished", "bad": "failed", "other": "finished"}


def test_the_table_says_what_became_of_every_run_and_why(swept):
    _, done = swept
    text = " ".join(done.output.split())
    assert "bad/seed-42 failed" in text
    assert "d_model=32 is not a multiple" in text[text.index("bad/seed-42 failed") :]
    assert "good/seed-42 finished" in text
    assert "2 finished, 1 failed" in text
    assert "Repeat the command to continue what has not finished." in text
    assert "Traceback" not in done.output


def test_running_it_again_finishes_only_what_is_missing(swept):
    tti, _ = swept
    folder = tti.folder / "runs/demo-small"
    before = (folder / "good/seed-42/metrics.jsonl").stat().st_mtime_ns
    missing = folder / "other/seed-42/summary.json"
    missing.unlink()
    again = tti(*SWEEP, *VARIANTS)
    assert again.code == 1
    assert missing.exists()
    assert (folder / "good/seed-42/metrics.jsonl").stat().st_mtime_ns == before


def test_an_unknown_variant_is_an_error_before_anything_starts(tti):
    message = tti(*SWEEP, "variant=nope").failed()
    assert "no variant nope in this experiment; it has baseline, orthogonality, anti_polysemantic, topk" in message
    assert not list(tti.folder.rglob("config.yaml"))


@pytest.mark.parametrize(
    ("mistake", "answer"),
    [
        ("trainer.max_stepz=3", "trainer has: _target_, accelerator"),
        ("regularizer=nope", "anti_polysemantic"),
        ("model.mlp.keeep=1", "model.mlp has: "),
    ],
)
@pytest.mark.parametrize("mode", ["RUN", "MULTIRUN"])
def test_a_typo_fails_at_once_and_is_answered_with_what_there_is(tti, mistake, answer, mode):
    message = tti(*SWEEP, f"hydra.mode={mode}", mistake).failed()
    assert mistake.partition("=")[0] in message or "regularizer/nope" in message
    assert answer in message
    assert not list(tti.folder.rglob("config.yaml"))


@pytest.mark.nightly
def test_joblib_runs_jobs_side_by_side(tti):
    done = tti.real(*SWEEP, "variant=baseline,topk", "hydra/launcher=joblib", "hydra.launcher.n_jobs=2")
    assert "2 finished" in done.ok().output
    assert {Run(Path(f).parent).status for f in tti.folder.rglob("config.yaml")} == {"finished"}


@pytest.mark.nightly
def test_a_sweep_whose_jobs_are_killed_and_interrupted_ends_as_if_they_had_not_been(tti, commands_in, tmp_path_factory):
    """Four jobs, two at a time: one gets kill -9, one SIGINT, both in the middle of a step."""
    signalled = "+callbacks.signalled={{_target_: additions.Signalled, number: {}, step: {}}}"
    stopped = {
        "killed": ["regularizer=l1", signalled.format(9, 13)],
        "interrupted": ["regularizer=orthogonality", signalled.format(2, 12)],
    }

    def sweep(given: dict[str, list[str]]) -> list[str]:
        small = [override for override in SMALL if not override.startswith("hydra.mode")]
        listed = [f"+hydra.sweeper.variants.{name}={json.dumps(each)}" for name, each in given.items()]
        return [*small, "threads=1", *listed, "variant=killed,interrupted,topk,baseline"]

    joblib = ["hydra/launcher=joblib", "hydra.launcher.n_jobs=2"]
    codes = []
    while not codes or (codes[-1] and len(codes) < 4):  # either signal stops the sweep, and both may come at once
        done = tti.start(*sweep(stopped), *joblib).wait(timeout=400)
        codes.append(done.code)
    assert codes[-1] == 0, done.output
    assert len(codes) > 1
    assert {path.name for path in tti.folder.glob("signalled-*")} == {"signalled-9", "signalled-2"}
    whole = commands_in(tmp_path_factory.mktemp("whole"))
    whole(*sweep({name: each[:1] for name, each in stopped.items()})).ok()
    for variant in (*stopped, "topk", "baseline"):
        expected, got = (Path(each.folder, "runs/demo-small", variant, "seed-42") for each in (whole, tti))
        assert summary(got)["metrics"]["val/loss"] == summary(expected)["metrics"]["val/loss"]
        assert rows(got) == rows(expected)
        assert [row["step"] for row in rows(got)] == [1, 5, 10, 15, 20]


def test_two_jobs_of_one_folder_are_refused_before_any_starts(tti):
    message = tti(*SWEEP, "variant=good", "+hydra.sweeper.variants.good=[]", "seed=1,1").failed()
    assert "two jobs of this sweep have the folder runs/demo-small/good+" in message
    assert not list(tti.folder.rglob("config.yaml"))


def test_a_job_that_is_refused_counts_as_no_success(tti):
    one = [*SWEEP, "variant=good", "+hydra.sweeper.variants.good=[]"]
    tti(*one).ok()
    message = tti(*one, "optimizer.lr=0.5").failed()
    assert "holds a run of another configuration" in message
    assert "optimizer.lr: 0.012 there, 0.5 wanted" in message


def test_a_sweep_that_is_interrupted_says_so_and_ends(tti):
    signalled = "+callbacks.signalled={_target_: additions.Signalled, number: 2, step: 2}"
    done = tti(*SWEEP, "variant=baseline,topk", signalled)
    assert done.code == 130
    assert "Traceback" not in done.output
    assert "1 unfinished, 1 not started" in done.output
    assert "2 finished" in tti(*SWEEP, "variant=baseline,topk", signalled).ok().output


def test_a_variant_does_not_lead_out_of_the_folder_of_runs(tti):
    for given in ("variant=../../../x", "name=../../x"):
        done = tti("model=tiny", "data=grammar", given)
        assert done.code == 1
        assert "cannot name a folder" in done.output
        assert "Traceback" not in done.output
    assert not [path for path in tti.folder.rglob("*") if not path.name.startswith(".output")]
    assert not (tti.folder.parent / "x").exists()
