"""Launching remote jobs, following them, and fetching their results, all of which can be resumed at any time."""

import shlex
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, replace

from rich.console import Console
from rich.text import Text

from tti.launchers import checks
from tti.launchers.answers import NoAnswerError
from tti.launchers.board import Board
from tti.launchers.calls import CALLS, Call
from tti.launchers.cloud import Cloud, Outcome
from tti.launchers.estimate import estimate
from tti.launchers.job import Job
from tti.launchers.leave import Leave
from tti.launchers.options import Options

FINISHED = Outcome("finished")
TRACEBACK_LINES = 25


@dataclass(frozen=True)
class Sweep:
    """The jobs of one sweep, and Modal.

    The state of a job is in its folders: if it has finished here or on the volume, it is not run again; its open call
    is in ``calls.jsonl``. The same command can therefore be repeated at any time.
    """

    jobs: Sequence[Job]
    options: Options
    cloud: Cloud

    def run(self) -> dict[Job, Outcome]:
        """Run or follow all jobs; returns their outcomes, with their folders copied here.

        Raises:
            ValueError: an error that can be found before anything is spent.
            Leave: the user left, or Modal did not answer; running jobs continue.
        """
        missing = [job for job in self.jobs if job.run.status != "finished"]
        with ExitStack() as claims:
            for job in missing:
                claims.enter_context(job.run.claimed())  # so that no second command follows them
            try:
                outcomes = self._run(missing)
            except KeyboardInterrupt:
                raise self._left(130) from None
            except NoAnswerError as error:
                _say(f"error: Modal does not answer ({error})")
                raise self._left(1) from None
            except OSError as error:  # on this machine, such as a full disk
                _say(f"error: {error}")
                raise self._left(1) from None
        _show_tracebacks(outcomes)
        return {job: outcomes.get(job, FINISHED) for job in self.jobs}

    def cancel(self) -> None:
        """Stop every running job, keep what it has saved on the volume, and leave."""
        stopped, unanswered = 0, []
        for job in self.jobs:
            try:
                stopped += self._cancelled(job)
            except NoAnswerError as error:
                unanswered.append(f"  {job.name}: {error}")
        _say(f"stopped {stopped} jobs; what they saved stays in tti-checkpoints, and the same command without")
        _say("hydra.launcher.cancel=true continues from there")
        if unanswered:
            _say(
                "\n".join(
                    [
                        f"error: Modal did not answer for {len(unanswered)} jobs, which may still run and cost money:",
                        *unanswered,
                    ]
                )
            )
            _say(f"Repeat the command, or stop all jobs of this code: modal app stop {self.cloud.app}")
        raise Leave(1 if unanswered else 0)

    def _run(self, jobs: Sequence[Job]) -> dict[Job, Outcome]:
        for job in jobs:
            self._learn_calls(job)
        checks.there(jobs, self.options, self.cloud)
        calls = {job: call for job in jobs if (call := self._under_way(job))}
        absent = [job for job in jobs if job not in calls and not self._fetched(job)]
        checks.to_be_started(absent, calls, self.cloud)
        if absent:
            self.cloud.deploy()
        board = Board(jobs)
        for job in absent:
            calls[job] = self._start(job)
        with board.showing():
            return self._follow(jobs, calls, board)

    def _cancelled(self, job: Job) -> bool:
        """Cancel a job; returns whether it was running."""
        if job.run.status == "finished":
            return False
        self._learn_calls(job)
        waiting = [call for call in job.calls.all_open if self.cloud.outcome(call.id).status == "waiting"]
        for call in waiting:
            self.cloud.cancel(call.id)
            self._note_end(job, call, "cancelled")
        return bool(waiting)

    def _under_way(self, job: Job) -> Call | None:
        """The job's open call; a call that failed or expired unseen is closed."""
        for call in reversed(job.calls.all_open):
            if self.cloud.outcome(call.id).status in ("waiting", "finished"):
                return call
            self._note_end(job, call, "failed or expired")
        return None

    def _fetched(self, job: Job) -> bool:
        """Fetch the finished run from the volume; returns whether there is one."""
        if self.cloud.read(f"{job.remote}/summary.json") is None:
            return False
        self.cloud.fetch(job.remote, job.folder, self.options.leave)
        return True

    def _start(self, job: Job) -> Call:
        try:
            id = self.cloud.spawn(job.overrides, job.remote)
        except NoAnswerError:
            _say(f"Whether {job.name} was started is not known: `modal app logs {self.cloud.app}` shows it.")
            raise
        call = job.calls.made(id, self.cloud.app, job.identity)
        self._publish_calls(job)
        return call

    def _follow(self, jobs: Sequence[Job], calls: dict[Job, Call], board: Board) -> dict[Job, Outcome]:
        outcomes = {job: FINISHED for job in jobs if job not in calls}
        for job in outcomes:
            board.ended(job, "done")
        unanswered = 0  # consecutive rounds without any answer
        while waiting := [job for job in calls if job not in outcomes]:
            looks = {job: self._look(job, calls[job], board) for job in waiting}
            outcomes |= {job: look for job, look in looks.items() if look.status != "waiting"}
            unanswered = (
                unanswered + 1 if all(look.status == "waiting" and look.error for look in looks.values()) else 0
            )
            if unanswered == 1:
                board.say(f"Modal does not answer ({looks[waiting[0]].error}); the jobs keep running; waiting for it")
            if unanswered >= self.options.patience:
                raise NoAnswerError(looks[waiting[0]].error)
            if len(outcomes) < len(jobs):
                time.sleep(self.options.look_every)
        return outcomes

    def _look(self, job: Job, call: Call, board: Board) -> Outcome:
        outcome = self.cloud.outcome(call.id)
        try:
            if outcome.status == "waiting":
                board.running(job, self.cloud.read(f"{job.remote}/progress.json"))
            else:
                outcome = self._ended(job, call, outcome, board)
        except NoAnswerError as error:  # progress or results are read in a later round
            outcome = Outcome("waiting", outcome.error or str(error))
        board.refresh()
        return outcome

    def _ended(self, job: Job, call: Call, outcome: Outcome, board: Board) -> Outcome:
        self.cloud.fetch(job.remote, job.folder, self.options.leave)
        self._note_end(job, call, outcome.status)
        if job.run.status == "finished":
            board.ended(job, "done")
            return FINISHED
        if outcome.status == "finished":
            outcome = Outcome("failed", "said to have finished, but left no summary.json on the volume")
        if outcome.status == "failed" and job.run.status != "failed":  # it could not record the failure itself
            job.run.fail(RuntimeError(outcome.error))
        board.ended(job, "failed" if outcome.status == "failed" else "stopped", outcome.error)
        return outcome

    def _learn_calls(self, job: Job) -> None:
        """Learn of calls that another machine made."""
        there = self.cloud.read(f"{job.remote}/{CALLS}")
        if there:
            job.calls.learn(there.decode())

    def _note_end(self, job: Job, call: Call, how: str) -> None:
        job.calls.ended(call, how)
        self._publish_calls(job)

    def _publish_calls(self, job: Job) -> None:
        with suppress(NoAnswerError):  # it is written next time; until then this machine knows
            self.cloud.write(f"{job.remote}/{CALLS}", job.calls.text.encode())

    def _left(self, code: int) -> Leave:
        command = f"python -m tti.train {shlex.join(sys.argv[1:])}"
        if any(job.calls.open for job in self.jobs):
            _say("The jobs keep running at Modal without this machine, and cost money. Repeat this command to follow:")
            _say(f"  {command}")
            _say(f"To stop them:\n  {command} hydra.launcher.cancel=true")
        else:
            _say("No job of this sweep is running.")
        return Leave(code)


def launch(jobs: Sequence[Job], options: Options, connect: Callable[[Options], Cloud]) -> dict[Job, Outcome]:
    """Run all jobs to their end and return their outcomes, or do what the options ask instead.

    Raises:
        ValueError: an error that can be found before anything is spent.
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
