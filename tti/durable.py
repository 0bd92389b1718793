"""Atomic files and folders: each exists either complete or not at all."""

import errno
import glob
import itertools
import json
import os
import pickle
import platform
import shutil
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO

from filelock import FileLock


@contextmanager
def replacing(path: Path) -> Iterator[BinaryIO]:
    """A temporary file that replaces ``path`` once it is complete and on disk; on failure it is deleted.

    It is in the same folder: across file systems a move is a copy, which a kill can cut short.
    """
    partial = _partial(path)
    try:
        with partial.open("wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
    except BaseException:
        partial.unlink(missing_ok=True)  # makes room for what must still be written, such as the error
        raise


def write_atomically(path: Path, content: str | bytes) -> None:
    """Write a file atomically, even in case of a power cut."""
    with replacing(path) as file:
        file.write(content.encode() if isinstance(content, str) else content)


@contextmanager
def replacing_folder(path: Path) -> Iterator[Path]:
    """An empty temporary folder that replaces ``path`` once it is complete; on failure it is deleted."""
    beside = _partial(path)
    partial = beside / path.name  # has its final name already, since transformers names what it loads after the folder
    partial.mkdir(parents=True)
    try:
        yield partial
        _replace_folder(partial, path, beside)
    finally:
        shutil.rmtree(beside, ignore_errors=True)


def _replace_folder(new: Path, path: Path, beside: Path) -> None:
    for attempt in itertools.count():
        try:
            new.rename(path)
        except OSError as error:
            if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
                raise
        else:
            return
        with suppress(FileNotFoundError):  # another process was faster
            path.rename(beside / f"replaced-{attempt}")


def _partial(path: Path) -> Path:
    """This process's temporary name for ``path``; temporary files of killed processes on this machine are deleted."""
    ending = f".{path.name}.partial"
    for left in path.parent.glob(f".*{glob.escape(ending.removeprefix('.'))}"):
        if not _is_written(left.name.removesuffix(ending)):
            shutil.rmtree(left, ignore_errors=True) if left.is_dir() else left.unlink(missing_ok=True)
    return path.with_name(f".{platform.node()}-{os.getpid()}{ending}")


def _is_written(writer: str) -> bool:
    """Whether the process named by ``writer``, ``.machine-process``, may still be writing; True for other machines."""
    machine, _, process = writer.removeprefix(".").rpartition("-")
    if machine != platform.node() or not process.isdecimal():
        return machine != ""
    try:
        os.kill(int(process), 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass  # belongs to another user
    return True


def acquire(lock: FileLock, timeout: float = -1) -> None:
    """Acquire a lock.

    Raises:
        Timeout: another process holds it.
        ValueError: the file system does not support locks.
    """
    try:
        lock.acquire(timeout=timeout)
    except OSError as error:
        if error.errno not in (errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS):
            raise
        raise ValueError(
            f"cannot lock {lock.lock_file} ({error.strerror}): its file system keeps no locks, which prevent two "
            "processes from writing one folder. Mount it with locks (NFS: with its lock service, without nolock), or "
            "use a folder on a local disk: runs=FOLDER for runs, $TTI_CACHE for tokens"
        ) from error


def read_json(path: Path) -> dict[str, Any]:
    """The object in a JSON file.

    Raises:
        ValueError: the file is damaged.
    """
    try:
        return dict(json.loads(path.read_text(encoding="utf-8")))
    except (ValueError, TypeError) as error:
        raise ValueError(f"{path} is damaged: it is not a JSON object ({error})") from error


def read_lines(path: Path) -> list[dict[str, Any]]:
    """The objects in a JSON-lines file, oldest first, without lines cut short by a kill or a full disk."""
    found = []
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines() if path.exists() else []:
        with suppress(ValueError, TypeError):
            found.append(dict(json.loads(line)))
    return found


def append_line(path: Path, content: Mapping[str, Any]) -> None:
    """Append an object to a JSON-lines file, after terminating a line that was cut short."""
    with path.open("ab+") as file:
        before = b"\n" if _cut_short(file) else b""
        file.write(before + json.dumps(content).encode() + b"\n")


def _cut_short(file: BinaryIO) -> bool:
    if not file.seek(0, os.SEEK_END):
        return False
    file.seek(-1, os.SEEK_END)
    return file.read(1) != b"\n"


def require_whole(path: Path) -> None:
    """Verify a checkpoint's checksums.

    Raises:
        ValueError: it was truncated or modified.
    """
    try:
        with zipfile.ZipFile(path) as file:
            changed = file.testzip()
    except (zipfile.BadZipFile, EOFError) as error:  # the directory is at the end, which a truncated file lacks
        raise ValueError(f"{path} is damaged: it was cut short, or is not a checkpoint") from error
    if changed:
        raise ValueError(f"{path} is damaged: {changed} in it is not what was written")


def read_checkpoint(path: Path) -> dict[str, Any]:
    """Load a checkpoint as plain data, with tensors on the CPU and read from the file on use.

    Raises:
        ValueError: it is damaged, or was not written by training.
    """
    import torch  # takes seconds that a report can avoid

    require_whole(path)
    try:
        content = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
        content["global_step"]
    except (pickle.UnpicklingError, RuntimeError, LookupError, TypeError) as error:
        raise ValueError(f"{path} is not a checkpoint of training ({str(error).splitlines()[0]})") from error
    return dict(content)
