"""Launching jobs elsewhere, following them, fetching what they leave; and coming back to all of it at any time."""

import shlex
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace

from rich.console import Console
from rich.text import Text

from tti.launchers import checks
from tti.launchers.board import Board
from tti.launchers.calls import Call
from tti.launchers.cloud import Cloud, Outcome
from tti.launchers.estimate import estimate
from tti.launchers.job import Job
from tti.launchers.leave import Leave
from tti.launchers.options import Options

FINISHED = Outcome("finished")
TRACEBACK_LINES = 25


@dataclass(frozen=True)
class Sweep:
    """Jobs of one sweep, and Modal.

    What is known of a job lies in its folders: finished here or on the volume, it is not run again; its open call is
    found in ``calls.jsonl``. So the same command can be given again at any time, from start to long after.
    """

    jobs: Sequence[Job]
    options: Options
    cloud: Cloud

    def run(self) -> dict[Job, Outcome]:
        """What became of every job, whose folders then lie here.

        Raises:
            ValueError: something is wrong that can be known before anything is spent.
            Leave: the user did, and the jobs go on.
        """
        missing = [job for job in self.jobs if job.run.status != "finished"]
        with ExitStack() as claims:
            for job in missing:
                claims.enter_context(job.run.claimed())  # no second command follows them
            checks.there(missing, self.options, self.cloud)
            calls = {job: call for job in missing if (call := self._under_way(job))}
            absent = [job for job in missing if job not in calls and not self._fetched(job)]
            if absent:
                self.cloud.deploy()
            board = Board(missing)
            try:
                calls |= {job: self._start(job) for job in absent}
                with board.showing():
                    outcomes = self._follow(missing, calls, board)
            except KeyboardInterrupt:
                raise self._left() from None
        _show_tracebacks(outcomes)
        return {job: outcomes.get(job, FINISHED) for job in self.jobs}

    def cancel(self) -> None:
        """Stop every job that is under way, keep what it has saved on the volume, and leave."""
        calls = {job: call for job in self.jobs if (call := job.calls.open)}
        for job, call in calls.items():
            self.cloud.cancel(call.id)
            job.calls.ended(call, "cancelled")
        _say(f"stopped {len(calls)} jobs; what they saved stays in tti-checkpoints, and the same command without")
        _say("hydra.launcher.cancel=true goes on from there")
        raise Leave(0)

    def _under_way(self, job: Job) -> Call | None:
        """The job's open call; one whose end nobody saw is as good as none if the volume knows no better."""
        call = job.calls.open
        if call is None:
            return None
        if self.cloud.outcome(call.id).status in ("waiting", "finished"):
            return call
        job.calls.ended(call, "failed or expired")
        return None

    def _fetched(self, job: Job) -> bool:
        """Whether the volume has the finished run, which then lies here too."""
        if self.cloud.read(f"{job.remote}/summary.json") is None:
            return False
        self.cloud.fetch(job.remote, job.folder, self.options.leave)
        return True

    def _start(self, job: Job) -> Call:
        return job.calls.made(self.cloud.spawn(job.overrides, job.remote), self.cloud.app, job.identity)

    def _follow(self, jobs: Sequence[Job], calls: dict[Job, Call], board: Board) -> dict[Job, Outcome]:
        outcomes = {job: FINISHED for job in jobs if job not in calls}
        for job in outcomes:
            board.done(job)
        while waiting := [job for job in calls if job not in outcomes]:
            for job in waiting:
                outcome = self.cloud.outcome(calls[job].id)
                if outcome.status == "waiting":
                    board.running(job, self.cloud.read(f"{job.remote}/progress.json"))
                else:
                    outcomes[job] = self._ended(job, calls[job], outcome, board)
                board.refresh()
            if len(outcomes) < len(jobs):
                time.sleep(self.options.look_every)
        return outcomes

    def _ended(self, job: Job, call: Call, outcome: Outcome, board: Board) -> Outcome:
        self.cloud.fetch(job.remote, job.folder, self.options.leave)
        job.calls.ended(call, outcome.status)
        if job.run.status == "finished":
            board.done(job)
            return FINISHED
        if outcome.status == "finished":
            outcome = Outcome("failed", "said to have finished, but left no summary.json on the volume")
        if job.run.status != "failed":  # it could not leave word itself
            job.run.fail(RuntimeError(outcome.error))
        board.failed(job, outcome.error)
        return replace(outcome, status="failed")

    def _left(self) -> Leave:
        command = f"python -m tti.train {shlex.join(sys.argv[1:])}"
        _say("The jobs go on at Modal without this machine, and cost. The same command follows them again:")
        _say(f"  {command}")
        _say(f"To stop them:\n  {command} hydra.launcher.cancel=true")
        return Leave(130)


def launch(jobs: Sequence[Job], options: Options, connect: Callable[[Options], Cloud]) -> dict[Job, Outcome]:
    """What became of every job, once all have ended; or of the options' other wishes.

    Raises:
        ValueError: something is wrong that can be known before anything is spent.
        Leave: nothing was to be launched, or the user left.
    """
    options = _with_secrets(jobs, options)
    if options.cancel:
        Sweep(jobs, options, connect(options)).cancel()
    checks.here(jobs, options)
    missing = [job for job in jobs if job.run.status != "finished"]
    if len(missing) < len(jobs):
        _say(f"{len(jobs) - len(missing)} of {len(jobs)} jobs have finished already")
    if missing:
        _say(str(estimate(missing, options)))
    if options.dry_run:
        raise Leave(0)
    return Sweep(jobs, options, connect(options)).run() if missing else dict.fromkeys(jobs, FINISHED)


def _with_secrets(jobs: Sequence[Job], options: Options) -> Options:
    if options.secrets is not None:
        return options
    online = any("wandb" in job.config.logger and not job.config.logger.wandb.offline for job in jobs)
    return replace(options, secrets=["wandb-secret"] if online else [])


def _show_tracebacks(outcomes: dict[Job, Outcome]) -> None:
    for job, outcome in outcomes.items():
        if outcome.traceback:
            last = "\n".join(outcome.traceback.rstrip().splitlines()[-TRACEBACK_LINES:])
            _say(f"\n{job.name} failed at Modal:\n{last}")


def _say(text: str) -> None:
    Console(stderr=True).print(Text(text), soft_wrap=True)
