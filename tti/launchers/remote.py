"""The remote side: it runs one of our commands in a volume's folder, and reports how it ended.

Nothing here depends on Modal, so it runs and is tested anywhere.
"""

import os
import signal
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from tti.configuration import conf_dir, quoted
from tti.launchers import source
from tti.runs import Run

HOME = "TTI_HOME"  # environment variable with the folder, a volume, in which commands run
COMMITS_EVERY = 2.0  # seconds between checks for a new checkpoint
GRACE = 25.0  # seconds that a command gets to save when this process must end
LINES = 60  # last output lines returned with a failure
INTERRUPTED = 130


def train(
    overrides: Sequence[str], folder: str, origin: Mapping[str, str], commit: Callable[[], None]
) -> dict[str, Any]:
    """Run ``python -m tti.train overrides`` in ``folder``, resuming an unfinished run.

    Args:
        overrides: overrides of one job of a sweep.
        folder: the run folder, relative to the volume.
        origin: ``source`` (``source.digest()``) and ``commit`` of the calling machine.
        commit: commits the volume, so that writes persist; called after every checkpoint.

    Returns:
        ``status`` (``finished`` or ``failed``), ``result`` (the final validation loss), ``error``, ``traceback``: plain
        values, since an exception that cannot be unpickled would end the waiting sweep. A returned result is final:
        Modal does not retry.

    Raises:
        KeyboardInterrupt: the machine is being taken away. Modal restarts the call, and the run resumes.
        RuntimeError: the training process was killed, for example for lack of memory, or the volume failed. Modal
            retries.
    """
    if source.digest() != origin["source"]:
        return _failed(f"this machine has other code ({source.digest()}) than asked for ({origin['source']})", "")
    run = Run(home() / folder)
    job = [*overrides, "hydra.mode=RUN", *quoted([f"run_dir={folder}"], ["run_dir"])]
    with _plain_errors():
        try:
            with _committed(run.folder / "checkpoints" / "last.ckpt", commit):
                code, said = command("tti.train", job, {"TTI_COMMIT": origin["commit"]})
        finally:
            commit()
    if code == 0:
        return {"status": "finished", "result": run.summary["metrics"]["val/loss"], "error": "", "traceback": ""}
    if run.status != "failed":  # it failed before it began
        return _failed(said.rpartition("error: ")[2].strip() or f"exit code {code}", said)
    return _failed(run.failure, run.traceback)


def cache(overrides: Sequence[str], commit: Callable[[], None]) -> dict[str, int]:
    """Tokenize the corpus of a configuration into ``$TTI_CACHE``; returns the number of stories of each split."""
    from hydra import compose, initialize_config_dir
    from hydra.utils import instantiate

    with initialize_config_dir(conf_dir(), version_base=None):
        data = instantiate(compose("train", list(overrides)).data)
    stories = {}
    for split in data.corpus.splits:
        stories[split] = len(data.split(split))
        commit()
    return stories


def call(module: str, arguments: Sequence[str], commit: Callable[[], None]) -> int:
    """Run ``python -m module arguments``; returns its exit code.

    Raises:
        ValueError: this version of tti has no such command.
    """
    if find_spec(module) is None:
        raise ValueError(f"this version of tti has no python -m {module}")
    try:
        return command(module, arguments, {})[0]
    finally:
        commit()


def home() -> Path:
    """The folder in which commands run."""
    return Path(os.environ[HOME])


def command(module: str, arguments: Sequence[str], environment: Mapping[str, str]) -> tuple[int, str]:
    """Run ``python -m module arguments`` and echo its output; returns its exit code and its last lines.

    It runs in a process of its own: Lightning starts further ones from its command line, and nothing of it remains.

    Anything that ends this process, such as a cancellation, interrupts the command, which then saves.

    Raises:
        KeyboardInterrupt: this process was interrupted, and so was the command, which has saved and stopped.
        RuntimeError: the command was killed.
    """
    child = subprocess.Popen(
        [sys.executable, "-u", "-m", module, *arguments],
        cwd=home(),
        env={**os.environ, **environment, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        process_group=0,  # so that an interruption of this process's group reaches it once, from here
    )
    assert child.stdout is not None
    last: deque[str] = deque(maxlen=LINES)
    interrupted = ended = False
    try:
        while not ended:
            try:
                for line in child.stdout:
                    print(line, end="", flush=True)
                    last.append(line)
                child.wait()
                ended = True
            except KeyboardInterrupt:
                interrupted = True
                child.send_signal(signal.SIGINT)
    except BaseException:
        if not interrupted:  # a second signal would stop it at once
            child.send_signal(signal.SIGINT)
        with suppress(subprocess.TimeoutExpired):
            print(child.communicate(timeout=GRACE)[0], end="", flush=True)
        raise
    finally:
        child.kill()
        child.wait()
    code = child.returncode
    if code == INTERRUPTED or (interrupted and code):
        raise KeyboardInterrupt
    if code < 0:
        raise RuntimeError(f"python -m {module} was killed by signal {-code} (9 is often a lack of memory)")
    return code, "".join(last)


@contextmanager
def _committed(path: Path, commit: Callable[[], None]) -> Iterator[None]:
    """Call ``commit`` whenever the file has been rewritten."""
    done, seen = threading.Event(), _written(path)

    def watch() -> None:
        nonlocal seen
        while not done.wait(COMMITS_EVERY):
            if (now := _written(path)) != seen:
                try:
                    commit()
                    seen = now
                except Exception as error:  # either it passes, or the final commit raises it
                    print(f"the checkpoint was not committed, and will be: {error}", flush=True)

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    try:
        yield
    finally:
        done.set()
        watcher.join()


@contextmanager
def _plain_errors() -> Iterator[None]:
    """Convert all errors to RuntimeError, which the waiting side can unpickle and not mistake for its own."""
    try:
        yield
    except Exception as error:
        said = str(error) if type(error) is RuntimeError else f"{type(error).__name__}: {error}"
        raise RuntimeError(said) from None


def _written(path: Path) -> int:
    return path.stat().st_mtime_ns if path.exists() else 0


def _failed(error: str, traceback: str) -> dict[str, Any]:
    return {"status": "failed", "result": None, "error": error, "traceback": traceback}
