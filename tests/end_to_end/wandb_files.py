"""Reads what W&B writes offline: protocol buffer records in LevelDB's log format."""

import json
import struct
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from wandb.proto.wandb_internal_pb2 import Record

BLOCK, HEADER, FILE_HEADER = 32768, 7, 7
FULL, LAST = 1, 4  # the other two kinds are a record's first and middle parts


def records(path: Path) -> Iterator[Record]:
    """The records of a ``.wandb`` file; a record truncated by a kill is skipped."""
    data, at, parts = path.read_bytes(), FILE_HEADER, []
    while at + HEADER <= len(data):
        if BLOCK - at % BLOCK < HEADER:
            at += BLOCK - at % BLOCK
            continue
        _, length, kind = struct.unpack("<IHB", data[at : at + HEADER])
        at += HEADER + length
        if kind == 0 or at > len(data):
            return
        parts.append(data[at - length : at])
        if kind in (FULL, LAST):
            record = Record()
            record.ParseFromString(b"".join(parts))
            parts = []
            yield record


def history(found: Iterable[Record]) -> list[dict[str, Any]]:
    """The logged metrics, line by line."""
    return [_values(record.history.item) for record in found if record.HasField("history")]


def configuration(found: Iterable[Record]) -> dict[str, Any]:
    """The last configuration recorded."""
    told: dict[str, Any] = {}
    for record in found:
        told |= _values(record.config.update) | _values(record.run.config.update)
    return told


def summary(found: Iterable[Record]) -> dict[str, Any]:
    """The last summary recorded."""
    told: dict[str, Any] = {}
    for record in found:
        told |= _values(record.summary.update)
    return told


def _values(items: Iterable[Any]) -> dict[str, Any]:
    return {item.key or "/".join(item.nested_key): json.loads(item.value_json) for item in items}
