"""The packed token cache: all stories of a split, concatenated and memory-mapped.

A folder holds ``tokens.bin`` (uint16, every story followed by the end-of-text token), ``offsets.bin`` (int64, the start
of each story, and the end), further per-token arrays of the corpus (the grammar's factors), ``tokenizer.json``, and
``manifest.json`` (source, counts, sizes and hashes, including its own). It is built under a lock in a neighboring
folder and renamed into place, so it is either complete or absent.
"""

import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from filelock import FileLock, Timeout
from jaxtyping import Int
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from tokenizers import Tokenizer

from tti.data import tokenizers
from tti.durable import acquire

FORMAT = 2
TOKEN_DTYPE = np.dtype(np.uint16)
OFFSET_DTYPE = np.dtype(np.int64)
SEAL = "manifest_sha256"

EncodedStory = Mapping[str, np.ndarray]
"""``tokens`` without the end-of-text token, and any further arrays ``[token, ...]``; all stories have the same keys."""


@dataclass(frozen=True)
class PackedStories:
    """An open cache. ``tokens[offsets[i]:offsets[i + 1]]`` is story ``i`` with its end-of-text token."""

    folder: Path
    manifest: dict[str, Any]
    tokens: Int[np.ndarray, "token"]
    offsets: Int[np.ndarray, "story+1"]

    def __len__(self) -> int:
        """Number of stories."""
        return len(self.offsets) - 1

    @property
    def lengths(self) -> Int[np.ndarray, "story"]:
        """Tokens of each story without its end-of-text token, which is the number of predictions."""
        return np.diff(self.offsets) - 1

    def extra(self, name: str) -> np.ndarray:
        """A further per-token array, aligned with ``tokens`` (0 at end-of-text tokens).

        Raises:
            ValueError: the corpus has no array of that name.
        """
        known = self.manifest["arrays"]
        if name not in known:
            raise ValueError(f"{self.folder} has no array {name!r}; it has {', '.join(known)}")
        return _map(self.folder, name, known[name])

    def tokenizer(self) -> Tokenizer:
        """The tokenizer that made the tokens."""
        return tokenizers.read(self.folder / "tokenizer.json")


def cached(folder: Path, identity: Mapping[str, Any], make: Callable[[], "Maker"]) -> PackedStories:
    """Open the cache in ``folder``, and build it first if necessary; a second process waits for the first.

    Raises:
        ValueError: the cache is empty, damaged or was made from something else.
    """
    if not folder.exists():
        folder.parent.mkdir(parents=True, exist_ok=True)
        with _locked(folder):
            if not folder.exists():
                _build(folder, identity, make())
    return open_cache(folder, identity)


def open_cache(folder: Path, identity: Mapping[str, Any]) -> PackedStories:
    """Open the cache in ``folder``, after checking its identity and hashes.

    Raises:
        ValueError: as for :func:`cached`; the message says what differs and what to do.
    """
    way_out = f"Delete the folder {folder} and start again: it will be rebuilt."
    try:
        manifest = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
        seal = manifest.pop(SEAL, None)
        there = manifest["format"], manifest["identity"]
        hashes = {f"{name}.bin": array["sha256"] for name, array in manifest["arrays"].items()}
        hashes["tokenizer.json"] = manifest["tokenizer_sha256"]
    except (
        OSError,
        ValueError,
        LookupError,
        TypeError,
        AttributeError,
    ) as error:  # everything that a damaged file can cause
        raise ValueError(f"the token cache {folder} has no readable manifest.json ({error!r}). {way_out}") from error
    if there != (FORMAT, dict(identity)):
        raise ValueError(
            f"the token cache {folder} was made from something else:\n"
            f"  there:  format {there[0]}, {there[1]}\n  wanted: format {FORMAT}, {dict(identity)}\n{way_out}"
        )
    changed = [name for name, sha256 in hashes.items() if _hash(folder / name) != sha256]
    for name in ["manifest.json"] * (seal != _seal(manifest)) + changed:
        raise ValueError(f"the token cache is damaged: {folder / name} is not what was written. {way_out}")
    arrays = {name: _map(folder, name, manifest["arrays"][name]) for name in ("tokens", "offsets")}
    return PackedStories(folder, manifest, **arrays)


def tokens_digest(folder: Path) -> str | None:
    """SHA-256 of a cache's tokens as recorded in its manifest; None if there is no readable manifest."""
    try:
        manifest = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
        return str(manifest["arrays"]["tokens"]["sha256"])
    except (OSError, ValueError, LookupError, TypeError):
        return None


@dataclass(frozen=True)
class Maker:
    """What fills a cache: a tokenizer, portions of encoded stories, and a title to show while they are made."""

    title: str
    tokenizer: Tokenizer
    portions: Iterable[list[EncodedStory]]
    stories: int | None = None  # approximate number of stories, if known


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    lock = FileLock(folder.with_name(folder.name + ".lock"))
    try:
        acquire(lock, timeout=0)
    except Timeout:
        Console(stderr=True).print(f"waiting for another process that builds {folder}")
        acquire(lock)
    try:
        yield
    finally:
        lock.release()


def _build(folder: Path, identity: Mapping[str, Any], make: Maker) -> None:
    partial = folder.with_name(folder.name + ".partial")
    shutil.rmtree(partial, ignore_errors=True)  # left by a killed build; the lock guarantees that none is running
    partial.mkdir()
    try:
        manifest = {"format": FORMAT, "identity": dict(identity), **_write(partial, make)}
        manifest[SEAL] = _seal(manifest)
        _write_durably(partial / "tokenizer.json", make.tokenizer.to_str())
        _write_durably(partial / "manifest.json", json.dumps(manifest, indent=2))
        partial.rename(folder)
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise


def _seal(manifest: Mapping[str, Any]) -> str:
    """Hash of the rest of the manifest."""
    return hashlib.sha256(json.dumps(manifest, sort_keys=True).encode()).hexdigest()


def _write(folder: Path, make: Maker) -> dict[str, Any]:
    size, most = tokenizers.vocabulary_size(make.tokenizer), np.iinfo(TOKEN_DTYPE).max + 1
    if size > most:
        raise ValueError(
            f"{make.title}: the tokenizer has ids up to {size - 1:,}, a cache holds {most - 1:,} at most. Set "
            "data.corpus.tokenizer to a smaller one, such as gpt2, or train one on the corpus with bpe:4096."
        )
    end = np.array([tokenizers.end_of_text(make.tokenizer)], dtype=TOKEN_DTYPE)
    files: dict[str, _ArrayFile] = {"tokens": _ArrayFile(folder / "tokens.bin", TOKEN_DTYPE, ())}
    offsets = _ArrayFile(folder / "offsets.bin", OFFSET_DTYPE, ())
    offsets.append(np.zeros(1, OFFSET_DTYPE))
    written = stories = 0
    columns = (TextColumn("{task.description}"), BarColumn(bar_width=20), TimeElapsedColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True)) as progress:
        task = progress.add_task(make.title, total=make.stories)
        for portion in make.portions:
            for story in portion:
                tokens = story["tokens"].astype(TOKEN_DTYPE)
                files["tokens"].append(np.concatenate([tokens, end]))
                for name, values in story.items():
                    if name != "tokens":
                        if name not in files:
                            files[name] = _ArrayFile(folder / f"{name}.bin", values.dtype, values.shape[1:])
                        files[name].append(np.concatenate([values, np.zeros_like(values[:1])]))
                written += len(tokens) + 1
                stories += 1
                offsets.append(np.array([written], OFFSET_DTYPE))
            progress.update(
                task, completed=stories, description=f"{make.title}: {stories:,} stories, {written:,} tokens"
            )
    if not stories:
        raise ValueError(f"{make.title}: the source holds no stories")
    arrays = {name: file.close() for name, file in {**files, "offsets": offsets}.items()}
    return {
        "stories": stories,
        "tokens": written - stories,
        "vocab_size": size,
        "tokenizer_sha256": tokenizers.fingerprint(make.tokenizer),  # also of tokenizer.json, which is the same text
        "arrays": arrays,
    }


class _ArrayFile:
    """An array that grows on disk along its first axis, hashed as it grows."""

    def __init__(self, path: Path, dtype: np.dtype, shape: tuple[int, ...]) -> None:
        self.file: BinaryIO = path.open("wb")
        self.dtype, self.shape = dtype, shape
        self.hash = hashlib.sha256()
        self.bytes = 0

    def append(self, values: np.ndarray) -> None:
        data = np.ascontiguousarray(values, self.dtype).tobytes()
        self.file.write(data)
        self.hash.update(data)
        self.bytes += len(data)

    def close(self) -> dict[str, Any]:
        self.file.flush()
        os.fsync(self.file.fileno())
        self.file.close()
        return {
            "dtype": self.dtype.str,
            "shape": list(self.shape),
            "bytes": self.bytes,
            "sha256": self.hash.hexdigest(),
        }


def _hash(path: Path) -> str:
    if not path.is_file():
        return "nothing there"
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _map(folder: Path, name: str, array: Mapping[str, Any]) -> np.ndarray:
    flat = np.memmap(folder / f"{name}.bin", np.dtype(array["dtype"]), "r")
    return flat.reshape(-1, *array["shape"]) if array["shape"] else flat


def _write_durably(path: Path, text: str) -> None:
    with path.open("w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
