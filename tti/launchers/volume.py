"""Reading run folders of a Modal volume from outside."""

from collections.abc import Iterator, Sequence
from io import BytesIO
from pathlib import Path, PurePosixPath
from typing import Any

from tti.durable import replacing
from tti.launchers.answers import ABSENT, asking
from tti.launchers.calls import CALLS

DATA, CHECKPOINTS = "/data", "/checkpoints"  # where a job finds the volumes
KEPT_THERE = (".lock", ".partial", CALLS)  # of the last, each machine has its own and the volume one for all
PASSING = ("failure.json", "progress.json")  # what a run that goes on, or finishes, takes away


def read(volume: Any, path: str) -> bytes | None:
    """A file, if it is there.

    Raises:
        NoAnswerError: whether it is cannot be learned now; so with all functions here.
    """
    try:
        return b"".join(_pieces(volume, path))
    except ABSENT:
        return None


def write(volume: Any, path: str, content: bytes) -> None:
    """Put a file there, in place of one that there is."""
    with asking(), volume.batch_upload(force=True) as batch:
        batch.put_file(BytesIO(content), path)


def files(volume: Any, folder: str) -> list[PurePosixPath]:
    """The files in a folder and below it; none if it is not there."""
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
    """Copy a folder here, whole: its runs, which are returned, and what lies beside them, such as a report."""
    runs = runs_below(volume, folder)
    for run in runs:
        fetch_run(volume, run, Path(run), leave=())
    for path in files(volume, folder):
        if not any(path.is_relative_to(run) for run in runs):
            _download(volume, str(path), Path(path))
    return runs


def fetch_run(volume: Any, run: str, to: Path, leave: Sequence[str]) -> None:
    """Copy a run folder here, but for files that match a pattern of ``leave``; each whole or not at all.

    What says that the run has finished comes last, so that a copy cut short is never taken for whole.
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
