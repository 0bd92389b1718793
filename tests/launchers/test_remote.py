"""Code for the remote machine, run in fresh interpreters with only the shipped files and two folders as volumes."""

import json
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from modal import exception

from tests.waiting import until
from tti.configuration import identity
from tti.launchers import remote, source
from tti.runs import Run

SMALL = [
    "experiment=demo", "data.corpus.train=300", "data.corpus.validation=40", "data.corpus.test=20", "model.d_model=32",
    "data.stories_per_step=8", "trainer.max_steps=80", "trainer.val_check_interval=20", "trainer.log_every_n_steps=5",
    "name=remote", "regularizer=l1", "variant=sparse", "seed=43",
]  # fmt: skip
FOLDER = "runs/demo-remote/sparse/seed-43"
TRAIN = """
import json, sys
from pathlib import Path
from tti.launchers import remote, source
def commit():
    with Path("commits").open("a") as file:
        file.write("x")
origin = {"source": source.digest(), "commit": "abc-dirty"}
print("ANSWER", json.dumps(remote.train(sys.argv[2:], sys.argv[1], origin, commit)))
"""


class Machine:
    """A container: the shipped folders, a bare environment, two volumes."""

    def __init__(self, shipped: Path, root: Path, data: Path) -> None:
        self.root = root
        self.volume = root / "checkpoints"
        self.volume.mkdir()
        self.environment = {
            "PATH": os.environ["PATH"], "PYTHONPATH": str(shipped), "TTI_CONF": str(shipped / "conf"),
            "TTI_CACHE": str(data), remote.HOME: str(self.volume), "OMP_NUM_THREADS": "1",
            "PYTHONDONTWRITEBYTECODE": "1",
        }  # fmt: skip

    def start(self, program: str, *arguments: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "-c", program, *arguments],
            cwd=self.root,
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )


@pytest.mark.nightly
def test_a_run_is_interrupted_goes_on_and_ends_as_on_the_command_line(shipped, cache_dir, tmp_path):
    machine = Machine(shipped, tmp_path, cache_dir)
    run = Run(machine.volume / FOLDER)
    first = machine.start(TRAIN, FOLDER, *SMALL)
    until(lambda: run.last_checkpoint or first.poll() is not None)
    first.send_signal(signal.SIGINT)  # as a preemption does
    said, _ = first.communicate(timeout=60)
    assert first.returncode == -signal.SIGINT, said  # KeyboardInterrupt, after which Modal restarts the call
    assert "ANSWER" not in said
    assert run.status == "unfinished"
    assert 0 < run.checkpoint_step < 80
    assert (tmp_path / "commits").read_text()

    second = machine.start(TRAIN, FOLDER, *SMALL)
    said, _ = second.communicate(timeout=120)
    assert second.returncode == 0, said
    answer = json.loads(said.partition("ANSWER ")[2].splitlines()[0])
    assert (answer["status"], answer["error"]) == ("finished", "")
    assert "resuming from" in said
    assert run.environment["commit"] == "abc-dirty"

    here = [sys.executable, "-m", "tti.train", *SMALL, "hydra.mode=RUN"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "TTI_CACHE": str(cache_dir)}
    subprocess.run(here, cwd=tmp_path, env=environment, check=True, capture_output=True, timeout=120)
    local = Run(tmp_path / FOLDER)
    assert identity(run.config) == identity(local.config)
    assert answer["result"] == local.summary["metrics"]["val/loss"]
    assert [row["step"] for row in run.metrics()] == [row["step"] for row in local.metrics()]
    assert len((run.folder / "metrics.jsonl").read_text().splitlines()) == len(
        (local.folder / "metrics.jsonl").read_text().splitlines()
    )

    report = "from tti.launchers import remote; raise SystemExit(remote.call('tti.report', {}, lambda: None))"
    compared = machine.start(report.format(["runs=runs/demo-remote", "baseline=sparse"]))
    said, _ = compared.communicate(timeout=120)
    assert compared.returncode == 0, said
    assert (machine.volume / "runs/demo-remote/report.md").exists()


@pytest.fixture
def module(tmp_path, monkeypatch):
    """``module(text)``: the name of a module that is run as ``python -m``."""
    monkeypatch.setenv(remote.HOME, str(tmp_path))
    monkeypatch.syspath_prepend(str(tmp_path))

    def made(text: str) -> str:
        (tmp_path / "some_command.py").write_text("import os, signal, sys, time\n" + text)
        return "some_command"

    return made


def test_a_command_is_repeated_and_its_last_lines_kept(module, capfd, tmp_path):
    code, said = remote.command(
        module("print(os.getcwd(), *sys.argv[1:])\nprint(os.environ['X'])"), ["a=b"], {"X": "y"}
    )
    assert (code, said) == (0, f"{tmp_path} a=b\ny\n")
    assert capfd.readouterr().out == said


def test_a_command_that_fails(module):
    assert remote.command(module("sys.exit('error: no')"), [], {}) == (1, "error: no\n")


def test_a_command_that_is_killed_is_an_error_at_which_modal_tries_again(module):
    with pytest.raises(RuntimeError, match=r"python -m some_command was killed by signal 9"):
        remote.command(module("os.kill(os.getpid(), 9)"), [], {})


def test_an_interruption_is_passed_on_waited_for_and_raised_again(module, tmp_path):
    name = module(
        "try:\n    print('ready', flush=True)\n    open('ready', 'w')\n    time.sleep(60)\n"
        "except KeyboardInterrupt:\n    time.sleep(0.2)\n    open('saved', 'w')\n    sys.exit(130)"
    )

    def interrupt() -> None:
        until((tmp_path / "ready").exists)
        os.kill(os.getpid(), signal.SIGINT)

    threading.Thread(target=interrupt).start()
    with pytest.raises(KeyboardInterrupt):
        remote.command(name, [], {})
    assert (tmp_path / "saved").exists()


def test_a_command_that_was_interrupted_itself_counts_as_interrupted(module):
    with pytest.raises(KeyboardInterrupt):
        remote.command(module("sys.exit(130)"), [], {})


def test_a_command_that_finishes_in_spite_of_an_interruption_has_finished(module, tmp_path):
    name = module("signal.signal(2, lambda *_: sys.exit(0))\nopen('ready', 'w')\ntime.sleep(60)")

    def interrupt() -> None:
        until((tmp_path / "ready").exists)
        os.kill(os.getpid(), signal.SIGINT)

    threading.Thread(target=interrupt).start()
    assert remote.command(name, [], {})[0] == 0


class Cancelled(BaseException):
    """The exception that Modal raises in a call that is cancelled."""


@pytest.fixture
def cancelled(module, tmp_path):
    """``cancelled(text)``: run a command, and cancel the call when it has written ``pid``."""

    def cancel() -> None:
        until(lambda: (tmp_path / "pid").exists() and (tmp_path / "pid").read_text())
        os.kill(os.getpid(), signal.SIGUSR1)

    def raising(*_: object) -> None:
        raise Cancelled

    before = signal.signal(signal.SIGUSR1, raising)

    def run(text: str) -> None:
        threading.Thread(target=cancel).start()
        with pytest.raises(Cancelled):
            remote.command(module(text), [], {})

    yield run
    signal.signal(signal.SIGUSR1, before)


def test_a_command_saves_when_the_call_is_cancelled(cancelled, tmp_path):
    cancelled(
        "try:\n    open('pid', 'w').write(str(os.getpid()))\n    time.sleep(60)\n"
        "except KeyboardInterrupt:\n    time.sleep(0.2)\n    open('saved', 'w')\n    sys.exit(130)"
    )
    assert (tmp_path / "saved").exists()


def test_a_command_that_does_not_stop_when_the_call_is_cancelled_is_killed(cancelled, tmp_path, monkeypatch):
    monkeypatch.setattr(remote, "GRACE", 0.1)
    cancelled("signal.signal(2, signal.SIG_IGN)\nopen('pid', 'w').write(str(os.getpid()))\ntime.sleep(60)")
    with pytest.raises(ProcessLookupError):
        os.kill(int((tmp_path / "pid").read_text()), 0)


def test_a_volume_that_fails_is_an_error_that_can_be_unpickled_anywhere(monkeypatch, tmp_path):
    """And whoever waits for the call does not mistake it for an error of waiting."""

    def commit():
        raise exception.ServiceError("busy")

    monkeypatch.setenv(remote.HOME, str(tmp_path))
    monkeypatch.setattr(remote, "command", lambda *_: (0, ""))
    with pytest.raises(RuntimeError, match=r"^ServiceError: busy$"):
        remote.train([], "run", {"source": source.digest(), "commit": "abc"}, commit)


def test_a_commit_that_fails_is_tried_again(tmp_path, monkeypatch):
    monkeypatch.setattr(remote, "COMMITS_EVERY", 0.01)
    path, commits, troubles = tmp_path / "last.ckpt", [], [exception.ServiceError("busy"), OSError("open files")]

    def commit():
        if troubles:
            raise troubles.pop()
        commits.append(path.read_text())

    with remote._committed(path, commit):
        path.write_text("one")
        until(lambda: commits)
    assert commits == ["one"]


def test_every_new_checkpoint_is_committed(tmp_path, monkeypatch):
    monkeypatch.setattr(remote, "COMMITS_EVERY", 0.01)
    path, commits = tmp_path / "last.ckpt", []
    with remote._committed(path, lambda: commits.append(path.read_text())):
        for content in ("one", "two"):
            (tmp_path / "partial").write_text(content)
            (tmp_path / "partial").replace(path)
            until(lambda content=content: content in commits)
    assert commits == ["one", "two"]
