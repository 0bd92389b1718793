"""The ``evaluation/`` folder of a run: per part, a JSON file and at most one npz, written whole, checked when read.

``docs/evaluation.md`` documents the schema. Evaluation writes through :func:`write`, reports read through
:class:`Evaluation`; neither knows the other.
"""

import hashlib
import io
import json
import math
import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from tti.durable import write_atomically

SCHEMA = 1
FOLDER = "evaluation"
TRAINED, RANDOM_INIT, ROTATION = "trained", "random_init", "rotation"
NEURON = "/neuron/"


class AbsentArraysError(ValueError):
    """The file with a part's arrays is not there, while its figures are."""


class OtherSchemaError(ValueError):
    """A part has another version of the schema."""


@dataclass(frozen=True)
class Array:
    """An array with the names of its dimensions and its unit."""

    values: np.ndarray
    dims: tuple[str, ...]
    unit: str = ""

    def __post_init__(self) -> None:
        assert self.values.ndim == len(self.dims), (self.values.shape, self.dims)

    @property
    def described(self) -> dict[str, Any]:
        """Its description in the JSON file."""
        return {
            "shape": list(self.values.shape),
            "dtype": self.values.dtype.name,
            "dims": list(self.dims),
            "unit": self.unit,
        }


@dataclass(frozen=True)
class Result:
    """The result of a part: metrics, arrays, and notes needed to interpret them."""

    metrics: Mapping[str, float]
    arrays: Mapping[str, Array] = field(default_factory=dict)
    notes: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Evaluation:
    """The evaluation of a run that exists: one subject on one split.

    Args:
        run: the run's folder.
        split: split of the run's corpus.
        subject: ``trained``, ``random_init`` or ``rotation``.
    """

    run: Path
    split: str = "validation"
    subject: str = TRAINED

    @property
    def folder(self) -> Path:
        """Folder of its files."""
        return self.run / FOLDER / self.split / self.subject

    def parts(self) -> tuple[str, ...]:
        """The completed parts, in alphabetical order."""
        return tuple(sorted(path.stem for path in self.folder.glob("*.json")))

    def part(self, name: str) -> "Part":
        """One part.

        Raises:
            ValueError: it is missing, damaged, or has another schema version; the message says what to do.
        """
        path = self.folder / f"{name}.json"
        if not path.exists():
            known = ", ".join(self.parts()) or "none"
            raise ValueError(
                f"{self.run} has no evaluation {name!r} of {self.subject} on {self.split}; it has: {known}. "
                f"Create it with: python -m tti.evaluate run={self.run} split={self.split} parts=[{name}]"
            )
        return Part(path)

    def metrics(self) -> dict[str, float]:
        """``<part>/<metric>`` of all existing parts; NaN for undefined metrics.

        Raises:
            ValueError: a part is damaged or has another schema version.
        """
        return {f"{name}/{metric}": value for name in self.parts() for metric, value in self.part(name).metrics.items()}

    def sites(self) -> tuple[str, ...]:
        """The sites that have a table of neurons, in the order in which parts wrote them."""
        keys = (key for name in self.parts() for key in self.part(name).arrays if NEURON in key)
        return tuple(dict.fromkeys(key.partition(NEURON)[0] for key in keys))

    def neurons(self, site: str) -> dict[str, np.ndarray]:
        """The table of a site's neurons: name -> ``[width]``, from all existing parts.

        Raises:
            ValueError: a part is damaged or has another schema version.
        """
        table: dict[str, np.ndarray] = {}
        for name in self.parts():
            arrays = self.part(name).arrays
            table |= {key.rpartition("/")[2]: arrays[key] for key in arrays if key.startswith(site + NEURON)}
        return table


def evaluations(run: Path) -> list[Evaluation]:
    """Every split and subject of a run with at least one part."""
    folders = sorted({path.parent for path in (run / FOLDER).glob("*/*/*.json")})
    return [Evaluation(run, folder.parent.name, folder.name) for folder in folders]


class Part:
    """One part, as stored in its files; arrays are read on access.

    Raises:
        ValueError: the JSON file is damaged or has another schema version.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            self.content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
            schema = self.content["schema"]
        except (ValueError, LookupError, TypeError) as error:
            raise ValueError(f"{path} is damaged ({error!r}). Delete it and evaluate again.") from error
        if schema != SCHEMA:
            raise OtherSchemaError(
                f"{path} has schema version {schema}; this version of tti reads {SCHEMA}. Delete it and evaluate "
                "again, or read it with the version that wrote it."
            )

    @cached_property
    def metrics(self) -> dict[str, float]:
        """The metrics; NaN if undefined."""
        return {name: math.nan if value is None else float(value) for name, value in self.content["metrics"].items()}

    @cached_property
    def arrays(self) -> "Arrays":
        """The arrays by key."""
        return Arrays(self.path.with_suffix(".npz"), self.content["arrays"], self.content["arrays_file"])

    @property
    def of(self) -> dict[str, Any]:
        """What was evaluated: checkpoint, data, tokenizer."""
        return dict(self.content["of"])

    @property
    def settings(self) -> dict[str, Any]:
        """The part's settings."""
        return dict(self.content["settings"])

    @property
    def notes(self) -> dict[str, str]:
        """Notes needed to interpret the metrics."""
        return dict(self.content["notes"])

    @property
    def cost(self) -> dict[str, float]:
        """Time and memory that the part took."""
        return dict(self.content["cost"])


class Arrays(Mapping[str, np.ndarray]):
    """The arrays of an npz by key, each read from the file on access.

    The file's size is checked whenever it is opened, and its hash the first time.
    """

    def __init__(self, path: Path, described: Mapping[str, Any], file: Mapping[str, Any] | None) -> None:
        self.path, self.described, self.file = path, described, file
        self.verified = False

    def __getitem__(self, key: str) -> np.ndarray:
        if key not in self.described:
            raise KeyError(f"{self.path} has no array {key!r}")
        with self._opened as arrays:
            try:
                return arrays[key]
            except (KeyError, OSError, ValueError, zipfile.BadZipFile) as error:
                raise self._damaged(repr(error)) from error

    def __iter__(self) -> Iterator[str]:
        return iter(self.described)

    def __len__(self) -> int:
        return len(self.described)

    def verify(self) -> None:
        """Check the file's hash.

        Raises:
            ValueError: it differs from the recorded one.
        """
        if not self.file:
            return
        if not self.path.exists():
            raise self._absent()
        if hashlib.sha256(self.path.read_bytes()).hexdigest() != self.file["sha256"]:
            raise self._damaged("its hash differs")
        self.verified = True

    @property
    def _opened(self) -> Any:
        assert self.file is not None
        size = self.path.stat().st_size if self.path.exists() else None
        if size is None:
            raise self._absent()
        if size != self.file["bytes"]:
            raise self._damaged(f"{size} bytes, {self.file['bytes']} were written")
        if not self.verified:
            self.verify()
        try:
            return np.load(self.path)
        except (OSError, ValueError, zipfile.BadZipFile) as error:
            raise self._damaged(repr(error)) from error

    def _absent(self) -> "AbsentArraysError":
        return AbsentArraysError(
            f"{self.path} is missing: the folder was copied without arrays, or the file was deleted. Evaluate again."
        )

    def _damaged(self, why: str) -> ValueError:
        return ValueError(
            f"{self.path} is damaged ({why}). Delete it and the JSON file next to it, and evaluate again."
        )


def write(evaluation: Evaluation, name: str, result: Result, about: Mapping[str, Any]) -> None:
    """Write one part: arrays first, then the JSON file, whose presence marks it as complete.

    Args:
        evaluation: the evaluation it belongs to.
        name: name of the part.
        result: its result. Numbers that are not finite become ``null``.
        about: ``of``, ``settings``, ``cost`` and ``environment``.
    """
    evaluation.folder.mkdir(parents=True, exist_ok=True)
    path = evaluation.folder / f"{name}.json"
    path.unlink(missing_ok=True)  # from here on, its arrays may not match it
    content = {
        "schema": SCHEMA,
        "part": name,
        "split": evaluation.split,
        "subject": evaluation.subject,
        **about,
        "metrics": {key: _finite(value) for key, value in result.metrics.items()},
        "notes": dict(result.notes),
        "arrays": {key: array.described for key, array in result.arrays.items()},
        "arrays_file": None,
    }
    if result.arrays:
        buffer = io.BytesIO()
        arrays: dict[str, Any] = {key: array.values for key, array in result.arrays.items()}
        np.savez_compressed(buffer, **arrays)
        data = buffer.getvalue()
        write_atomically(path.with_suffix(".npz"), data)
        content["arrays_file"] = {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
    write_atomically(path, json.dumps(content, indent=1, allow_nan=False))


def _finite(value: Any) -> float | int | None:
    number = value.item() if hasattr(value, "item") else value
    return number if math.isfinite(number) else None
