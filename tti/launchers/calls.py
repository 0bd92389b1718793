"""Remote calls that started a run, recorded in ``calls.jsonl`` in its folder so that later commands find them.

A copy is on the volume, for commands on other machines.
"""

import json
import os
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

CALLS = "calls.jsonl"


@dataclass(frozen=True)
class Call:
    """A call with ``id`` to the deployed ``app``, to train the configuration with digest ``identity``."""

    id: str
    app: str
    identity: str
    at: str


@dataclass(frozen=True)
class Calls:
    """An append-only record: one line when a call is made, one when its end is known."""

    folder: Path

    @property
    def open(self) -> Call | None:
        """The last call whose end is unknown."""
        return self.all_open[-1] if self.all_open else None

    @property
    def all_open(self) -> list[Call]:
        """Every call whose end is unknown: several, if two machines started the run at the same time."""
        ended = {line["id"] for line in self._lines if "end" in line}
        calls = [Call(**line) for line in self._lines if "end" not in line and line["id"] not in ended]
        return sorted(calls, key=lambda call: call.at)

    @property
    def text(self) -> str:
        """All lines."""
        return self._path.read_text() if self._path.exists() else ""

    @property
    def any(self) -> bool:
        """Whether the run was ever started remotely."""
        return bool(self._lines)

    def made(self, id: str, app: str, identity: str) -> Call:
        """Record a call, immediately, since a call without a record cannot be found again."""
        call = Call(id, app, identity, datetime.now(UTC).isoformat(timespec="seconds"))
        self._append(asdict(call))
        return call

    def ended(self, call: Call, how: str) -> None:
        """Record the end of a call."""
        self._append({"id": call.id, "end": how})

    def learn(self, text: str) -> None:
        """Add the lines that another machine wrote."""
        known = self._lines
        for line in map(json.loads, text.splitlines()):
            if line not in known:
                self._append(line)

    @property
    def _path(self) -> Path:
        return self.folder / CALLS

    @property
    def _lines(self) -> list[dict[str, str]]:
        return [json.loads(line) for line in self.text.splitlines()]

    def _append(self, entry: dict[str, str]) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        with self._path.open("a") as file:
            file.write(json.dumps(entry) + "\n")
            file.flush()
            os.fsync(file.fileno())
