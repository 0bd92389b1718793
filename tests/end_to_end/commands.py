"""Starts `python -m tti.train` without waiting seconds for its imports each time.

A fork server imports torch, Lightning and Hydra once; every command is a fork of it that runs the module as
`__main__`, in its own process group, with its own environment, folder and output. `real=True` starts an interpreter.
"""

import json
import os
import runpy
import signal
import subprocess
import sys
import time
import traceback
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

PRELOADED = [
    "commands", "lightning", "lightning.pytorch.loggers", "lightning.pytorch.callbacks", "torch", "torchmetrics",
    "hydra.core.plugins", "hydra._internal.core_plugins.basic_sweeper", "rich.table", "tti.train", "tti.data.module",
    "tti.data.corpora", "tti.modules.language_model", "tti.metrics.polysemanticity", "tti.metrics.orthogonality",
    "tti.metrics.sparsity", "tti.loggers.metrics_file", "tti.callbacks.progress", "tti.evaluate",
]  # fmt: skip


@dataclass(frozen=True)
class Done:
    """A command that has ended; `output` is all of its output."""

    code: int
    output: str

    def ok(self) -> Self:
        assert self.code == 0, self.output
        return self

    def failed(self) -> str:
        """The output, which must be a message without a traceback."""
        assert self.code == 1, self.output
        assert "Traceback" not in self.output, self.output
        return self.output


class Commands:
    """Starts commands in a folder; `environment` is added to theirs."""

    def __init__(self, context: Any, folder: Path, environment: Mapping[str, str]) -> None:
        self.context, self.folder, self.environment = context, folder, dict(environment)
        self._outputs = 0

    def start(self, *overrides: str, patch: str = "", module: str = "tti.train", **environment: str) -> "Running":
        """Start a module in the background; `patch` is Python code that the process runs first."""
        self._outputs += 1
        output = self.folder / f".output-{os.getpid()}-{self._outputs}"
        arguments = (module, list(overrides), str(self.folder), self.environment | environment, patch, str(output))
        process = self.context.Process(target=_command, args=arguments, daemon=False)
        process.start()
        return Running(process, output)

    def __call__(self, *overrides: str, patch: str = "", module: str = "tti.train", **environment: str) -> Done:
        """Train (or run another module), and wait until it ends."""
        return self.start(*overrides, patch=patch, module=module, **environment).wait()

    def real(self, *overrides: str, timeout: float = 300, **environment: str) -> Done:
        """The same in a fresh interpreter, as for a user."""
        done = subprocess.run(
            [sys.executable, "-m", "tti.train", *overrides],
            cwd=self.folder,
            env=os.environ | self.environment | environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=timeout,
        )
        return Done(done.returncode, done.stdout)


class Running:
    """A command that runs in the background."""

    def __init__(self, process: Any, output: Path) -> None:
        self.process, self.output = process, output

    def wait(self, timeout: float = 300) -> Done:
        self.process.join(timeout)
        if self.process.exitcode is None:
            os.killpg(self.process.pid, signal.SIGKILL)
            raise TimeoutError(self.output.read_text())
        return Done(self.process.exitcode, self.output.read_text())

    def until(self, path: Path) -> Self:
        """Wait until a file exists; the command must not end before."""
        for _ in range(6000):
            if path.exists():
                return self
            assert self.process.exitcode is None, self.output.read_text()
            time.sleep(0.02)
        raise AssertionError(f"{path} never came: {self.output.read_text()}")

    def send(self, number: int) -> Self:
        os.kill(self.process.pid, number)
        return self


def _command(
    module: str, overrides: list[str], folder: str, environment: dict[str, str], patch: str, output: str
) -> None:
    os.setsid()
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a fork server ignores it
    os.chdir(folder)
    os.environ.update(environment)
    file = os.open(output, os.O_CREAT | os.O_WRONLY | os.O_APPEND)
    os.dup2(file, 1)
    os.dup2(file, 2)
    sys.stdout, sys.stderr = open(1, "w", closefd=False), open(2, "w", buffering=1, closefd=False)  # noqa: SIM115
    sys.path[:0] = [path for path in environment.get("PYTHONPATH", "").split(os.pathsep) if path]
    sys.argv = [module, *overrides]
    sys.modules.pop(module, None)
    code = 0
    try:
        exec(patch, {"__name__": "patch"})
        runpy.run_module(module, run_name="__main__", alter_sys=True)
    except SystemExit as exit_:
        message = exit_.code if isinstance(exit_.code, str) else ""
        print(message, end="\n" if message else "", file=sys.stderr)  # as the interpreter does
        code = 1 if message else int(exit_.code or 0)
    except BaseException:
        traceback.print_exc()
        code = 1
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def rows(folder: Path) -> list[dict[str, float]]:
    """A run's metrics, without those that measure time."""
    from tti.runs import Run

    timed = ("tokens_per_second",)
    return [{k: v for k, v in row.items() if not k.endswith(timed)} for row in Run(folder).metrics()]


def summary(folder: Path) -> dict[str, Any]:
    return dict(json.loads((folder / "summary.json").read_text()))
