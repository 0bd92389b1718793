"""The frame of every command: arguments, one-line messages for user errors, exit codes."""

import errno
import logging
import multiprocessing
import os
import re
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from functools import cache, wraps
from pathlib import Path
from typing import Any, NoReturn

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException, OverrideParseException
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import InterpolationResolutionError, OmegaConfBaseException

from tti.configuration import alternatives, conf_dir, flat, quoted, require_options, root_cause
from tti.schema import check

INTERRUPTED = 130  # the shells' convention
MISCONFIGURED = "MisconfigurationException"  # Lightning's; importing it takes seconds
FULL = (errno.ENOSPC, errno.EDQUOT)
UNWRITABLE = "it cannot be opened or written there: choose another folder, or change who may"
MISPLACED = "a file lies where a folder belongs, or a folder where a file does: move it away, or name another place"
WAYS_OUT = {
    errno.EACCES: UNWRITABLE,
    errno.EPERM: UNWRITABLE,
    errno.EROFS: UNWRITABLE,
    errno.ENOENT: "check the path, and the folder that the command is started from",
    errno.EEXIST: MISPLACED,
    errno.EISDIR: MISPLACED,
    errno.ENOTDIR: MISPLACED,
    errno.ENOTEMPTY: MISPLACED,
    errno.ENAMETOOLONG: "give it a shorter one (name=... for a run, to=... for what a command writes)",
    errno.EMFILE: "this process may open no more files: raise the limit (`ulimit -n`)",
    errno.EIO: "the disk or the network it lies on fails",
    errno.ESTALE: "the disk or the network it lies on fails",
}


def command(
    name: str, free: Sequence[str] = (), lists: Sequence[str] = ()
) -> Callable[[Callable[[DictConfig], Any]], Callable[[], Any]]:
    """Make a command line from a function of a composed configuration.

    Args:
        name: name of the configuration in ``conf/``.
        free: keys whose values are taken literally, including commas and quotes, except in a sweep.
        lists: those of ``free`` that may also be lists in Hydra's syntax, ``[a,b]``.
    """

    def made(work: Callable[[DictConfig], Any]) -> Callable[[], Any]:
        @wraps(work)
        def task(config: DictConfig) -> Any:
            swept = HydraConfig.get().mode == RunMode.MULTIRUN  # the sweep handles errors itself
            with nullcontext() if swept else errors_in_a_line():
                _require_given(config, name)
                check(config)
                return work(config)

        @wraps(work)
        def main() -> Any:
            logging.raiseExceptions = False  # report a full disk once, not for each line of a log
            sys.argv[1:] = quoted(sys.argv[1:], free, lists)
            os.environ.setdefault("HYDRA_FULL_ERROR", "1")  # so that errors arrive here unchanged
            with errors_in_a_line(), handling(signal.SIGTERM, signal.default_int_handler):
                require_options(sys.argv[1:])
                return hydra.main(version_base="1.3", config_path=conf_dir(), config_name=name)(task)()

        return main

    return made


@contextmanager
def handling(number: signal.Signals, handler: Any) -> Iterator[None]:
    """Handle a signal within the context; does nothing outside the main thread, where Python allows no handlers."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(number, handler)
    try:
        yield
    finally:
        signal.signal(number, before)


@cache
def end_with_parent() -> None:
    """End this process as soon as its parent has ended, if it is a worker of ``hydra/launcher=joblib``.

    Otherwise the jobs of a killed sweep would keep training, and keep their folders locked.
    """
    if multiprocessing.parent_process() is not None:
        threading.Thread(target=_wait_for_parent, args=(os.getppid(),), daemon=True).start()


def _wait_for_parent(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(0.5)
    os._exit(INTERRUPTED)


@contextmanager
def errors_in_a_line() -> Iterator[None]:
    """End the command with one message for errors that the user can fix; other errors are raised unchanged."""
    try:
        yield
    except (KeyboardInterrupt, Exception) as error:
        if is_interruption(error):
            said = "interrupted; everything written so far is complete, and repeating the command does the rest"
            leave(said, INTERRUPTED)
        message = explained(error)
        if message is None:
            raise
        leave(f"error: {message}", 1)


def leave(message: str, code: int) -> NoReturn:
    """Print ``message`` to stderr, and exit."""
    print(message, file=sys.stderr)
    sys.exit(code)


def is_interruption(error: BaseException) -> bool:
    """Whether an error is Ctrl-C, or the error into which OmegaConf turns it."""
    return any(isinstance(each, KeyboardInterrupt) for each in _chain(error))


def explained(error: BaseException) -> str | None:
    """The message for an error that the user can fix; None for a bug."""
    for each in _chain(error):
        if getattr(each, "errno", None) in FULL or os.strerror(errno.ENOSPC) in str(each):  # safetensors has words only
            where = getattr(each, "filename", None) or "while writing"
            return f"no space left ({where}). Free some and start again: the run resumes."
    root = root_cause(error)
    if type(root) is InterpolationResolutionError:  # raised by one of our resolvers, whose message it has
        root = next((each for each in _chain(root) if type(each) is ValueError), root)
    if isinstance(root, OverrideParseException):
        return f"{root}\nA value with brackets, spaces or = is quoted twice: 'key=\"a value (1)\"'"
    if isinstance(root, HydraException | OmegaConfBaseException):
        return f"{root}\n{root.__cause__ or ''}\n{alternatives(root)}".strip()
    if isinstance(root, OSError) and root.errno in WAYS_OUT and root.filename:
        return f"{root.filename}: {root.strerror}; {WAYS_OUT[root.errno]}"
    theirs = isinstance(root, ValueError | TimeoutError) or type(root).__name__ == MISCONFIGURED
    diverged = isinstance(root, ArithmeticError) and type(root).__module__ != "builtins"  # not a plain 1 / 0
    return str(root) if theirs or diverged else None


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    """An error and its causes, including those during whose handling a library raised its own."""
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def _require_given(config: DictConfig, name: str) -> None:
    given: Any = OmegaConf.to_container(config)  # unresolved: the data of hf= refer to a model that is not in it
    if missing := sorted(key for key, value in flat(given).items() if value == "???"):
        text = Path(conf_dir(), f"{name}.yaml").read_text(encoding="utf-8")
        said = dict(re.findall(r"^(\w+): \?\?\?\s*#\s*(.*)$", text, re.MULTILINE))
        lines = [f"{key}=... is missing: {said.get(key, 'it has no default')}" for key in missing]
        raise ValueError("\n".join(lines))
