"""What a court has measured, kept line by line, and when its sealed seeds were opened."""

import json
import math
from collections.abc import Mapping
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any

from tti.court.bench import Layer, Measured
from tti.durable import append_line, read_json, read_lines, write_atomically

TRIED, OPENED = "tried.jsonl", "opened.json"


class Record:
    """The measurements in a folder, one line each. Whatever interrupts a court, they are kept.

    Args:
        folder: the folder, made if it is not there.
    """

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self._known = {line["of"]: line for line in read_lines(folder / TRIED) if "of" in line}

    def find(self, layer: Layer, part: str, how: str) -> Measured | None:
        """A measurement, if it was made."""
        line = self._known.get(_of(layer, part, how))
        if line is None:
            return None
        return Measured({k: math.nan if v is None else v for k, v in line["metrics"].items()}, line["passes"])

    def add(self, layer: Layer, part: str, how: str, found: Measured) -> None:
        """Keep a measurement."""
        metrics = {name: value if math.isfinite(value) else None for name, value in found.metrics.items()}
        line = {"of": _of(layer, part, how), "metrics": metrics, "passes": found.passes}
        append_line(self.folder / TRIED, line)
        self._known[line["of"]] = line

    def opened(self, asked: Mapping[str, Any]) -> str | None:
        """When the sealed seeds were opened for exactly this court; None if they were not.

        Args:
            asked: what identifies the court: ``frozen``, the digest of the frozen file; ``metrics``, the metrics on
                trial; ``parts``, the digest of the settings of each part.

        Raises:
            ValueError: the file that says so is damaged.
        """
        path = self.folder / OPENED
        found = read_json(path) if path.exists() else {}
        return found.get("at") if not _differing(found, asked) else None

    def open(self, asked: Mapping[str, Any]) -> None:
        """Record that the sealed seeds are opened, before the first of them is measured.

        Raises:
            ValueError: they were opened before, for another court; or the file is damaged.
        """
        path = self.folder / OPENED
        if not path.exists():
            at = datetime.now(UTC).isoformat(timespec="seconds")
            write_atomically(path, json.dumps({"at": at, **asked}, indent=1) + "\n")
        before = read_json(path)
        if differing := _differing(before, asked):
            raise ValueError(
                f"the sealed seeds of {self.folder} were opened on {before.get('at')} with other "
                f"{', '.join(differing)}: they are no longer unseen. Repeat that command, or take unseen ones "
                "(trial.seeds.sealed=[...]) and another folder=..."
            )


def _differing(found: Mapping[str, Any], asked: Mapping[str, Any]) -> list[str]:
    return [key for key, value in asked.items() if found.get(key) != value]


@cache
def _of(layer: Layer, part: str, how: str) -> str:
    return json.dumps({"part": part, "how": how, **layer.key}, sort_keys=True)
