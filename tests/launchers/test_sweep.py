"""The launcher's loop against calls that answer as Modal's do."""

import json

import pytest
from modal import exception

from tti.launchers.leave import Leave
from tti.launchers.sweep import launch
from tti.runs import Run

WAITING = TimeoutError()


@pytest.fixture
def sweep(modal, make_jobs, options):
    """``sweep(jobs, **options)``: launch, and what became of each by its variant."""

    def run(jobs, **others):
        outcomes = launch(jobs, options(**others), modal.cloud)
        return {job.config.variant: outcome.status for job, outcome in outcomes.items()}

    return run


@pytest.fixture
def jobs(make_jobs, modal):
    """Three jobs that wait once and finish."""
    made = make_jobs("a", "b", "c")
    for job in made:
        modal.answers[job.config.variant] = [WAITING, lambda job=job: modal.finish(job)]
    return made


def test_all_good(sweep, jobs, modal):
    assert sweep(jobs) == {"a": "finished", "b": "finished", "c": "finished"}
    assert modal.spawned == [f"runs/demo-small/{variant}/seed-42" for variant in "abc"]
    assert modal.deployed == 1
    for job in jobs:
        assert job.run.status == "finished"
        there = {path.name for path in (job.folder / "checkpoints").iterdir()}
        assert there == {"last.ckpt"}  # the best stays on the volume
        assert (job.folder / "checkpoints/last.ckpt").read_bytes() == b"weights" * 50


def test_a_second_start_asks_modal_nothing(sweep, jobs, modal, capsys):
    sweep(jobs)
    modal.answers.clear()
    assert set(sweep(jobs).values()) == {"finished"}
    assert (len(modal.spawned), modal.deployed) == (3, 1)
    assert "3 of 3 jobs have finished already" in capsys.readouterr().err


def test_what_the_volume_has_is_fetched_and_not_run_again(sweep, jobs, modal):
    modal.finish(jobs[0], loss=1.25)
    assert set(sweep(jobs).values()) == {"finished"}
    assert len(modal.spawned) == 2
    assert jobs[0].run.summary["metrics"]["val/loss"] == 1.25


def test_one_failure_does_not_stop_the_others(sweep, jobs, modal, capsys):
    failed = {"status": "failed", "result": None, "error": "ValueError: why", "traceback": "Traceback\n  deep inside"}
    modal.answers["b"] = [WAITING, failed]
    assert sweep(jobs) == {"a": "finished", "b": "failed", "c": "finished"}
    assert jobs[1].run.status == "failed"
    assert "why" in jobs[1].run.failure
    said = capsys.readouterr().err
    assert "b/seed-42: failed ValueError: why" in said
    assert "deep inside" in said
    modal.answers["b"] = [lambda: modal.finish(jobs[1])]
    assert set(sweep(jobs).values()) == {"finished"}
    assert len(modal.spawned) == 4


@pytest.mark.parametrize(
    ("answer", "why"),
    [
        (exception.FunctionTimeoutError("x"), "stopped by its time limit, hydra.launcher.timeout_hours, at every try"),
        (RuntimeError("python -m tti.train was killed by signal 9"), "killed by signal 9"),
        (exception.RemoteError("cancelled"), "stopped at Modal: cancelled"),
        (exception.OutputExpiredError(), "forgotten"),
        ({"status": "finished", "result": 1.0, "error": "", "traceback": ""}, "left no summary.json"),
    ],
)
def test_every_bad_end_is_a_failure_with_its_reason(sweep, jobs, modal, answer, why):
    modal.answers["b"] = [WAITING, answer]
    assert sweep(jobs) == {"a": "finished", "b": "failed", "c": "finished"}
    assert why in jobs[1].run.failure
    assert jobs[1].calls.open is None


@pytest.mark.parametrize(
    "trouble", [exception.ConnectionError("asleep"), exception.ServiceError("busy"), OSError("off")]
)
def test_a_machine_that_was_asleep_goes_on_waiting(sweep, jobs, modal, trouble):
    modal.answers["b"] = [trouble, WAITING, trouble, lambda: modal.finish(jobs[1])]
    assert set(sweep(jobs).values()) == {"finished"}


def test_a_preempted_job_is_seen_running_again_and_finishes(sweep, jobs, modal, capsys):
    def running(step):
        return lambda: (modal.progress(jobs[1], step=step), (_ for _ in ()).throw(TimeoutError()))[0]

    modal.answers["b"] = [running(40), running(60), WAITING, running(50), lambda: modal.finish(jobs[1])]
    assert set(sweep(jobs).values()) == {"finished"}
    assert len(modal.spawned) == 3  # Modal starts it again itself
    assert "b/seed-42: running" in capsys.readouterr().err


def test_ctrl_c_leaves_the_jobs_running_and_the_same_command_finds_them(sweep, jobs, modal, capsys):
    modal.answers["b"] = [WAITING, KeyboardInterrupt()]
    with pytest.raises(Leave) as left:
        sweep(jobs)
    assert left.value.code == 130
    said = capsys.readouterr().err
    assert "go on at Modal without this machine" in said
    assert "hydra.launcher.cancel=true" in said
    assert modal.cancelled == []
    for job in jobs:
        modal.answers[job.config.variant] = [WAITING, lambda job=job: modal.finish(job)]
    assert set(sweep(jobs).values()) == {"finished"}
    assert len(modal.spawned) == 3


def test_interrupted_between_two_spawns_no_call_is_lost(sweep, jobs, modal):
    spawn = modal._spawn

    def interrupted(overrides, folder, origin):
        if len(modal.spawned) == 1:
            raise KeyboardInterrupt
        return spawn(overrides, folder, origin)

    modal._spawn = interrupted
    with pytest.raises(Leave):
        sweep(jobs)
    assert [job.calls.open is not None for job in jobs] == [True, False, False]
    modal._spawn = spawn
    assert set(sweep(jobs).values()) == {"finished"}
    assert len(modal.spawned) == 3


def test_cancel_stops_what_is_under_way_and_the_next_start_goes_on(sweep, jobs, modal, capsys):
    modal.answers["b"] = [KeyboardInterrupt()]
    with pytest.raises(Leave):
        sweep(jobs)
    with pytest.raises(Leave) as left:
        sweep(jobs, cancel=True)
    assert left.value.code == 0
    assert [call.partition(":")[2].split("/")[2] for call in modal.cancelled] == ["a", "b", "c"]
    modal.answers |= {job.config.variant: [lambda job=job: modal.finish(job)] for job in jobs}
    assert set(sweep(jobs).values()) == {"finished"}


def test_an_expired_result_of_a_finished_run_is_fetched_and_of_another_started_again(sweep, jobs, modal):
    modal.answers["a"] = [KeyboardInterrupt()]
    with pytest.raises(Leave):
        sweep(jobs)
    modal.finish(jobs[0])
    modal.answers["a"] = [exception.OutputExpiredError()]
    modal.answers["b"] = [exception.OutputExpiredError(), lambda: modal.finish(jobs[1])]
    modal.answers["c"] = [lambda: modal.finish(jobs[2])]
    assert set(sweep(jobs).values()) == {"finished"}
    assert [folder.split("/")[2] for folder in modal.spawned] == ["a", "b", "c", "b"]


def test_a_fetch_cut_short_is_fetched_again(sweep, jobs, modal, monkeypatch):
    read = modal.checkpoints.read_file

    def cut(path):
        yield from read(path)
        if path.endswith("last.ckpt"):
            raise KeyboardInterrupt

    monkeypatch.setattr(modal.checkpoints, "read_file", cut)
    with pytest.raises(Leave):
        sweep(jobs)
    assert Run(jobs[0].folder).status != "finished"
    monkeypatch.setattr(modal.checkpoints, "read_file", read)
    assert set(sweep(jobs).values()) == {"finished"}
    assert len(modal.spawned) == 3


def test_a_dry_run_needs_no_account_and_leaves_nothing(jobs, options, capsys, tmp_path):
    def no_account(_):
        raise AssertionError("asked for an account")

    with pytest.raises(Leave) as left:
        launch(jobs, options(dry_run=True), no_account)
    assert left.value.code == 0
    assert "3 jobs on A100-40GB" in capsys.readouterr().err
    assert not (tmp_path / "home/runs").exists()


def test_a_second_command_does_not_follow_the_same_jobs(sweep, jobs):
    with jobs[1].run.claimed(), pytest.raises(ValueError, match="another process"):
        sweep(jobs)


def test_another_configuration_in_a_folder_here(sweep, jobs, make_jobs, modal):
    sweep(jobs)
    with pytest.raises(ValueError, match=r"another configuration:\n  optimizer.lr: 0.003 there, 0.5 wanted"):
        sweep(make_jobs("a", "b", "c", more=("optimizer.lr=0.5",)))
    assert len(modal.spawned) == 3


def test_another_configuration_in_a_folder_of_the_volume(sweep, jobs, make_jobs, modal):
    modal.leave(jobs[1])
    with pytest.raises(ValueError, match=r"tti-checkpoints:runs/demo-small/b/seed-42 holds a run of another config"):
        sweep(make_jobs("a", "b", "c", more=("optimizer.lr=0.5",)))
    assert modal.spawned == []


def test_another_configuration_that_is_queued(sweep, jobs, make_jobs, modal):
    modal.answers["b"] = [KeyboardInterrupt()]
    with pytest.raises(Leave):
        sweep(jobs)
    with pytest.raises(ValueError, match="belongs to a job of another configuration"):
        sweep(make_jobs("c", more=("optimizer.lr=0.5",)))


def test_jobs_under_way_with_other_code(sweep, jobs, modal):
    modal.answers["b"] = [KeyboardInterrupt()]
    with pytest.raises(Leave):
        sweep(jobs)
    modal.app = "tti-anothercode0"
    modal.answers["b"] = [WAITING]
    with pytest.raises(ValueError, match="under way with other code"):
        sweep(jobs)


def test_calls_are_kept_in_lines_that_are_never_rewritten(sweep, jobs):
    sweep(jobs)
    first, second = map(json.loads, (jobs[0].folder / "calls.jsonl").read_text().splitlines())
    assert first["id"].startswith("fc-1:")
    assert first["identity"] == jobs[0].identity
    assert second == {"id": first["id"], "end": "finished"}
