"""Reading run folders of a Modal volume from outside."""

from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from typing import Any

from modal import exception

from tti.durable import replacing

ABSENT = (FileNotFoundError, exception.NotFoundError)
DATA, CHECKPOINTS = "/data", "/checkpoints"  # where a job finds the volumes
KEPT_THERE = (".lock", ".partial")
PASSING = ("failure.json", "progress.json")  # what a run that goes on, or finishes, takes away


def read(volume: Any, path: str) -> bytes | None:
    """A file, if it is there."""
    try:
        return b"".join(volume.read_file(path))
    except ABSENT:
        return None


def files(volume: Any, folder: str) -> list[PurePosixPath]:
    """The files in a folder and below it; none if it is not there."""
    try:
        entries = volume.listdir(folder, recursive=True)
    except ABSENT:
        return []
    return [PurePosixPath(entry.path.lstrip("/")) for entry in entries if entry.type.name == "FILE"]


def runs_below(volume: Any, folder: str) -> list[str]:
    """The run folders at or below a folder."""
    return sorted(str(path.parent) for path in files(volume, folder) if path.name == "config.yaml")


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
        for piece in volume.read_file(path):
            file.write(piece)
