"""Files and folders that are there whole or not at all."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO


@contextmanager
def replacing(path: Path) -> Iterator[BinaryIO]:
    """A file to write into, which takes the place of ``path`` once it is whole and on the disk; else it is gone.

    It lies beside it: where another folder is another file system, a move is a copy, which a kill cuts short.
    """
    partial = path.with_name(f".{path.name}.partial")
    try:
        with partial.open("wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
    except BaseException:
        partial.unlink(missing_ok=True)  # room for what is still to be written, such as the reason
        raise


def write_atomically(path: Path, content: str | bytes) -> None:
    """Write a file that is there whole or not at all, also after a power cut."""
    with replacing(path) as file:
        file.write(content.encode() if isinstance(content, str) else content)


@contextmanager
def replacing_folder(path: Path) -> Iterator[Path]:
    """An empty folder to write into, which takes the place of ``path`` once it is whole; else it is gone."""
    beside = path.with_name(f".{path.name}.partial")
    shutil.rmtree(beside, ignore_errors=True)  # of a process that was killed
    partial = beside / path.name  # under its own name already: transformers names what it loads by its folder
    partial.mkdir(parents=True)
    try:
        yield partial
        if path.exists():
            path.rename(beside / "replaced")
        partial.rename(path)
    finally:
        shutil.rmtree(beside, ignore_errors=True)
