"""Access to run folders on a Modal volume from outside."""

from collections.abc import Iterator, Sequence
from io import BytesIO
from pathlib import Path, PurePosixPath
from typing import Any

from tti.durable import replacing
from tti.launchers.answers import ABSENT, asking
from tti.launchers.calls import CALLS

DATA, CHECKPOINTS = "/data", "/checkpoints"  # mount points of the volumes in a job
KEPT_THERE = (".lock", ".partial", CALLS)  # calls.jsonl is per machine, with one for all on the volume
PASSING = ("failure.json", "progress.json")  # files that a resumed or finished run deletes


def read(volume: Any, path: str) -> bytes | None:
    """Content of a file, or None if it does not exist.

    Raises:
        NoAnswerError: Modal does not answer; so do all functions here.
    """
    try:
        return b"".join(_pieces(volume, path))
    except ABSENT:
        return None


def write(volume: Any, path: str, content: bytes) -> None:
    """Write a file, replacing an existing one."""
    with asking(), volume.batch_upload(force=True) as batch:
        batch.put_file(BytesIO(content), path)


def files(volume: Any, folder: str) -> list[PurePosixPath]:
    """All files in a folder and below it; empty if it does not exist."""
    try:
        with asking(*ABSENT):
            entries = volume.listdir(folder, recursive=True)
    except ABSENT:
        return []
    return [PurePosixPath(entry.path.lstrip("/")) for entry in entries if entry.type.name == "FILE"]


def runs_below(volume: Any, folder: str) -> list[str]:
    """The run folders at or below a folder."""
    return sorted(str(path.parent) for path in files(volume, folder) if path.name == "config.yaml")


def fetch(volume: Any, folder: str) -> list[str]:
    """Copy a folder here with everything in it, such as a report; returns its runs."""
    runs = runs_below(volume, folder)
    for run in runs:
        fetch_run(volume, run, Path(run), leave=())
    for path in files(volume, folder):
        if not any(path.is_relative_to(run) for run in runs):
            _download(volume, str(path), Path(path))
    return runs


def fetch_run(volume: Any, run: str, to: Path, leave: Sequence[str]) -> None:
    """Copy a run folder here, without files that match a pattern in ``leave``; each file is copied atomically.

    The mark of a finished run comes last, so that a partial copy is never taken for complete.
    """
    found = files(volume, run)
    for passing in PASSING:
        if found and PurePosixPath(run, passing) not in found:
            (to / passing).unlink(missing_ok=True)
    for path in sorted(found, key=lambda path: path.name == "summary.json"):
        name = path.relative_to(run)
        if not name.name.endswith(KEPT_THERE) and not any(name.match(pattern) for pattern in leave):
            _download(volume, str(path), to / name)


def _download(volume: Any, path: str, to: Path) -> None:
    to.parent.mkdir(parents=True, exist_ok=True)
    with replacing(to) as file:
        for piece in _pieces(volume, path):
            file.write(piece)


def _pieces(volume: Any, path: str) -> Iterator[bytes]:
    with asking(*ABSENT):
        yield from volume.read_file(path)
