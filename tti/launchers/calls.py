"""The remote calls by which a run was started, so that who comes back finds them: ``calls.jsonl`` in its folder."""

import json
import os
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path


@dataclass(frozen=True)
class Call:
    """``id`` of a call to the deployed ``app``, to train the configuration that ``identity`` stands for."""

    id: str
    app: str
    identity: str
    at: str


@dataclass(frozen=True)
class Calls:
    """Append-only: a line when a call is made, a line when its end is known."""

    folder: Path

    @property
    def open(self) -> Call | None:
        """The last call, unless its end is known."""
        last = self._lines[-1] if self._lines else None
        return Call(**last) if last and "end" not in last else None

    @property
    def any(self) -> bool:
        """Whether the run was ever started elsewhere."""
        return bool(self._lines)

    def made(self, id: str, app: str, identity: str) -> Call:
        """Take note of a call; at once, for one without a note cannot be found again."""
        call = Call(id, app, identity, datetime.now(UTC).isoformat(timespec="seconds"))
        self._append(asdict(call))
        return call

    def ended(self, call: Call, how: str) -> None:
        """Take note of its end."""
        self._append({"id": call.id, "end": how})

    @property
    def _path(self) -> Path:
        return self.folder / "calls.jsonl"

    @property
    def _lines(self) -> list[dict[str, str]]:
        return [json.loads(line) for line in self._path.read_text().splitlines()] if self._path.exists() else []

    def _append(self, entry: dict[str, str]) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        with self._path.open("a") as file:
            file.write(json.dumps(entry) + "\n")
            file.flush()
            os.fsync(file.fileno())
