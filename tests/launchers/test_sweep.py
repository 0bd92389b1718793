"""The launcher's loop, with simulated calls that answer like Modal's."""

import json
import re

import aiohttp
import grpclib.exceptions
import pytest
from modal import exception

from tti.launchers import volume
from tti.launchers.leave import Leave
from tti.launchers.sweep import launch
from tti.runs import Run

WAITING = TimeoutError()


@pytest.fixture
def sweep(modal, make_jobs, options):
    """``sweep(jobs, **options)``: launch the jobs, and return the outcomes by variant."""

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
        assert there == {"last.ckpt"}  # best.ckpt stays on the volume
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
        (exception.RemoteError("no such image"), "stopped at Modal: no such image"),
        (exception.InternalFailure("lost"), "InternalFailure: lost"),
        (exception.ExecutionError("could not be unpickled"), "could not be unpickled"),
        (ImportError("no module named x"), "ImportError: no module named x"),
        ({"status": "finished", "result": 1.0, "error": "", "traceback": ""}, "left no summary.json"),
    ],
)
def test_every_bad_end_is_a_failure_with_its_reason(sweep, jobs, modal, answer, why):
    modal.answers["b"] = [WAITING, answer]
    assert sweep(jobs) == {"a": "finished", "b": "failed", "c": "finished"}
    assert why in jobs[1].run.failure
    assert jobs[1].calls.open is None


@pytest.mark.parametrize("answer", [exception.RemoteError(), exception.OutputExpiredError()])
def test_a_job_that_was_cancelled_or_forgotten_is_unfinished_not_failed(sweep, jobs, modal, answer, capsys):
    modal.leave(jobs[1])
    modal.answers["b"] = [WAITING, answer]
    assert sweep(jobs)["b"] in ("stopped", "expired")
    assert jobs[1].run.status == "unfinished"
    assert jobs[1].calls.open is None
    assert re.search(r"b/seed-42: stopped (stopped at Modal: cancelled|Modal has forgotten)", capsys.readouterr().err)


TROUBLE = [
    exception.ResourceExhaustedError("rate limit"), exception.ServiceError("busy"), exception.AuthError("token"),
    exception.PermissionDeniedError("no"), exception.NotFoundError("another workspace"), exception.InternalError("x"),
    exception.ConnectionError("asleep"), exception.Error("new"), OSError("off"), aiohttp.ServerDisconnectedError(),
    grpclib.exceptions.StreamTerminatedError("reset"),
]  # fmt: skip


@pytest.mark.parametrize("trouble", TROUBLE, ids=lambda error: type(error).__name__)
def test_an_error_of_asking_is_not_the_end_of_a_job(sweep, jobs, modal, trouble):
    modal.answers["b"] = [trouble, WAITING, trouble, lambda: modal.finish(jobs[1])]
    assert set(sweep(jobs).values()) == {"finished"}
    assert len(modal.spawned) == 3


@pytest.mark.parametrize("trouble", TROUBLE, ids=lambda error: type(error).__name__)
def test_who_comes_back_to_an_error_of_asking_starts_no_second_copy(sweep, jobs, modal, trouble):
    modal.answers["b"] = [KeyboardInterrupt()]
    with pytest.raises(Leave):
        sweep(jobs)
    modal.answers["b"] = [trouble, trouble, lambda: modal.finish(jobs[1])]
    assert set(sweep(jobs).values()) == {"finished"}
    assert len(modal.spawned) == 3


@pytest.mark.parametrize("trouble", TROUBLE, ids=lambda error: type(error).__name__)
def test_after_many_looks_without_an_answer_it_leaves_and_the_jobs_stay_open(sweep, jobs, modal, trouble, capsys):
    for job in jobs:
        modal.answers[job.config.variant] = [trouble]
    with pytest.raises(Leave) as left:
        sweep(jobs, patience=3)
    assert left.value.code == 1
    said = capsys.readouterr().err
    assert f"Modal does not answer ({type(trouble).__name__}" in said
    assert "The jobs keep running at Modal without this machine, and cost" in said
    assert all(job.calls.open for job in jobs)
    assert [job.run.status for job in jobs] == ["not started"] * 3


def test_one_job_that_answers_is_waited_for_however_silent_the_others(sweep, jobs, modal):
    modal.answers["a"] = [WAITING] * 9 + [lambda: modal.finish(jobs[0])]
    modal.answers["b"] = [exception.AuthError("token")] * 9 + [lambda: modal.finish(jobs[1])]
    assert set(sweep(jobs, patience=3).values()) == {"finished"}


def failing(times, error, part):
    """Fail on paths that contain ``part``, ``times`` times."""
    left = [error] * times
    return lambda path: left.pop() if part in path and left else None


READING = [
    exception.ResourceExhaustedError("rate"),
    exception.ServiceError("busy"),
    exception.AuthError("token"),
    OSError("off"),
]


@pytest.mark.parametrize("trouble", READING, ids=lambda error: type(error).__name__)
def test_progress_that_cannot_be_read_is_no_progress(sweep, jobs, modal, trouble):
    modal.checkpoints.trouble = failing(2, trouble, "progress.json")
    modal.answers["b"] = [WAITING, WAITING, WAITING, lambda: modal.finish(jobs[1])]
    for job in jobs:
        job.calls.made(f"fc-0:{job.remote}", modal.app, job.identity)
    assert set(sweep(jobs).values()) == {"finished"}


def test_progress_that_is_half_written_is_no_progress(sweep, jobs, modal):
    def half():
        (modal.leave(jobs[1]) / "progress.json").write_text('{"step": 4')
        raise WAITING

    modal.answers["b"] = [half, half, lambda: modal.finish(jobs[1])]
    assert set(sweep(jobs).values()) == {"finished"}


@pytest.mark.parametrize("trouble", READING, ids=lambda error: type(error).__name__)
def test_results_that_cannot_be_fetched_are_fetched_at_another_look(sweep, jobs, modal, trouble):
    modal.checkpoints.trouble = failing(2, trouble, "last.ckpt")
    assert set(sweep(jobs).values()) == {"finished"}
    assert all((job.folder / "checkpoints/last.ckpt").exists() for job in jobs)


@pytest.mark.parametrize("trouble", READING, ids=lambda error: type(error).__name__)
def test_results_that_can_never_be_fetched_leave_the_call_open(sweep, jobs, modal, trouble, capsys):
    modal.checkpoints.trouble = failing(99, trouble, "last.ckpt")
    with pytest.raises(Leave) as left:
        sweep(jobs, patience=3)
    assert left.value.code == 1
    assert "Modal does not answer" in capsys.readouterr().err
    assert all(job.calls.open for job in jobs)
    modal.checkpoints.trouble = failing(0, trouble, "")
    assert set(sweep(jobs).values()) == {"finished"}
    assert len(modal.spawned) == 3


@pytest.mark.parametrize("trouble", READING, ids=lambda error: type(error).__name__)
@pytest.mark.parametrize("file", ["calls.jsonl", "config.yaml", "summary.json"])
def test_a_volume_that_cannot_be_read_at_the_start_starts_nothing(sweep, jobs, modal, trouble, file, capsys):
    modal.checkpoints.trouble = failing(99, trouble, file)
    with pytest.raises(Leave) as left:
        sweep(jobs)
    assert left.value.code == 1
    assert modal.spawned == []
    said = capsys.readouterr().err
    assert f"error: Modal does not answer ({type(trouble).__name__}" in said
    assert "No job of this sweep is running" in said


def test_a_full_disk_here_leaves_the_call_open(sweep, jobs, modal, monkeypatch, capsys):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(volume, "replacing", full)
    with pytest.raises(Leave):
        sweep(jobs)
    assert "No space left on device" in capsys.readouterr().err
    assert all(job.calls.open for job in jobs)


def test_a_call_that_may_have_been_lost_is_said(sweep, jobs, modal, capsys):
    def lost(*_):
        raise exception.ServiceError("reset")

    modal._spawn = lost
    with pytest.raises(Leave):
        sweep(jobs)
    assert "Whether a/seed-42 was started is not known: `modal app logs tti-0123456789ab`" in capsys.readouterr().err


@pytest.fixture
def elsewhere(tmp_path, monkeypatch):
    """A function that switches to a second, empty machine."""

    def went():
        (tmp_path / "elsewhere").mkdir()
        monkeypatch.chdir(tmp_path / "elsewhere")

    return went


def test_a_second_machine_follows_the_jobs_that_the_first_started(sweep, jobs, modal, elsewhere):
    modal.answers["b"] = [KeyboardInterrupt()]
    with pytest.raises(Leave):
        sweep(jobs)
    elsewhere()
    modal.progress(jobs[1])
    modal.answers["b"] = [WAITING, lambda: modal.finish(jobs[1])]
    assert set(sweep(jobs).values()) == {"finished"}
    assert len(modal.spawned) == 3
    assert all(job.run.status == "finished" for job in jobs)


def test_a_second_machine_cancels_the_jobs_that_the_first_started(sweep, jobs, modal, elsewhere, capsys):
    modal.answers["b"] = [KeyboardInterrupt()]
    with pytest.raises(Leave):
        sweep(jobs)
    modal.answers = {variant: [WAITING] for variant in "abc"}
    elsewhere()
    with pytest.raises(Leave) as left:
        sweep(jobs, cancel=True)
    assert left.value.code == 0
    assert "stopped 3 jobs" in capsys.readouterr().err
    assert len(modal.cancelled) == 3
    with pytest.raises(Leave):
        sweep(jobs, cancel=True)
    assert "stopped 0 jobs" in capsys.readouterr().err


def test_cancelling_without_an_answer_says_that_jobs_go_on(sweep, jobs, modal, elsewhere, capsys):
    modal.answers["b"] = [KeyboardInterrupt()]
    with pytest.raises(Leave):
        sweep(jobs)
    modal.answers = {variant: [WAITING] for variant in "abc"}
    elsewhere()
    modal.checkpoints.trouble = failing(99, exception.ServiceError("busy"), "b/seed-42/calls.jsonl")
    with pytest.raises(Leave) as left:
        sweep(jobs, cancel=True)
    assert left.value.code == 1
    said = capsys.readouterr().err
    assert "stopped 2 jobs" in said
    assert (
        "Modal did not answer for 1 jobs, which may still run and cost money:\n  b/seed-42: ServiceError: busy" in said
    )
    assert "modal app stop tti-0123456789ab" in said


def test_a_run_that_goes_on_by_a_call_that_nobody_knows_is_not_started_again(sweep, jobs, modal):
    modal.progress(jobs[1])
    with pytest.raises(ValueError, match=r"by an unknown call.*modal volume rm tti-checkpoints .*progress\.json"):
        sweep(jobs)
    assert modal.spawned == []
    (modal.checkpoints.root / jobs[1].remote / "progress.json").unlink()
    assert set(sweep(jobs).values()) == {"finished"}


def test_a_preempted_job_is_seen_running_again_and_finishes(sweep, jobs, modal, capsys):
    def running(step):
        return lambda: (modal.progress(jobs[1], step=step), (_ for _ in ()).throw(TimeoutError()))[0]

    modal.answers["b"] = [running(40), running(60), WAITING, running(50), lambda: modal.finish(jobs[1])]
    assert set(sweep(jobs).values()) == {"finished"}
    assert len(modal.spawned) == 3  # Modal itself restarts it
    assert "b/seed-42: running" in capsys.readouterr().err


def test_ctrl_c_leaves_the_jobs_running_and_the_same_command_finds_them(sweep, jobs, modal, capsys):
    modal.answers["b"] = [WAITING, KeyboardInterrupt()]
    with pytest.raises(Leave) as left:
        sweep(jobs)
    assert left.value.code == 130
    said = capsys.readouterr().err
    assert "keep running at Modal without this machine" in said
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
    modal.answers = {variant: [WAITING] for variant in "abc"}
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
    with pytest.raises(ValueError, match=r"another configuration:\n  optimizer.lr: 0.012 there, 0.5 wanted"):
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
    """No job is started alongside them; they are followed."""
    modal.answers["b"] = [KeyboardInterrupt()]
    with pytest.raises(Leave):
        sweep(jobs[:2])
    modal.app = "tti-anothercode0"
    modal.answers["b"] = [WAITING, WAITING, lambda: modal.finish(jobs[1])]
    with pytest.raises(ValueError, match=r"running with other code .* 1 jobs of this sweep have not been started"):
        sweep(jobs)
    assert set(sweep(jobs[:2]).values()) == {"finished"}
    assert len(modal.spawned) == 2


def test_calls_are_kept_in_lines_that_are_never_rewritten(sweep, jobs):
    sweep(jobs)
    first, second = map(json.loads, (jobs[0].folder / "calls.jsonl").read_text().splitlines())
    assert first["id"].startswith("fc-1:")
    assert first["identity"] == jobs[0].identity
    assert second == {"id": first["id"], "end": "finished"}
