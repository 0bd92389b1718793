"""Where story texts come from: local files, or a dataset of the Hugging Face Hub."""

import gzip
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import IO, TypeVar

END_OF_TEXT = "<|endoftext|>"

# How `datasets` names the formats that it reads for us.
_COLUMNAR = {".parquet": "parquet", ".jsonl": "json", ".json": "json"}
_TEXT = {".txt"}

Row = dict[str, str | None]
T = TypeVar("T")


def stories(source: str) -> Iterator[str]:
    """The stories of a source, stripped, empty ones dropped.

    Args:
        source: a ``.txt`` file whose stories end with ``<|endoftext|>``, a ``.parquet`` or ``.jsonl`` file with a
            ``text`` column (any of them may be gzipped), or ``owner/name`` or ``owner/name@split`` on the Hub.

    Raises:
        ValueError: the source is not there, cannot be reached, has another format, or has no ``text`` column.
    """
    for text in _texts(source):
        for story in text.split(END_OF_TEXT):
            if story := story.strip():
                yield story


def count(source: str) -> int | None:
    """About how many stories there are, for a progress bar; None where finding out would mean reading them twice."""
    path = _local(source)
    if path is None or _kind(path) not in _TEXT:
        return None
    with _open(path) as lines:
        return sum(1 for _ in _readable((line for line in lines if END_OF_TEXT in line), path))


def fingerprint(source: str) -> dict[str, str | int]:
    """What identifies a source's content cheaply: a file's size and time of change, a Hub dataset's name.

    Raises:
        ValueError: it looks like a file and is not there.
    """
    path = _local(source)
    if path is None:
        return {"source": source}
    status = path.stat()
    return {"source": str(path.resolve()), "bytes": status.st_size, "changed_ns": status.st_mtime_ns}


def _texts(source: str) -> Iterator[str]:
    path = _local(source)
    if path is None:
        return _from_hub(source)
    kind = _kind(path)
    if kind in _TEXT:
        return _readable(_from_text(path), path)
    return _column(_readable(_columnar(path, _COLUMNAR[kind]), path), path)


def _local(source: str) -> Path | None:
    """The file that ``source`` names, or None for a Hub dataset."""
    path = Path(source).expanduser()
    if path.is_file():
        if _kind(path) not in {*_TEXT, *_COLUMNAR}:
            known = ", ".join(sorted({*_TEXT, *_COLUMNAR}))
            raise ValueError(f"cannot read {path}: its name must end in one of {known} (or that and .gz)")
        return path
    looks_like_a_file = path.is_absolute() or source.startswith((".", "~")) or source.count("/") != 1
    if looks_like_a_file or _kind(path) in {*_TEXT, *_COLUMNAR}:
        raise ValueError(f"no such file: {path} (from folder {Path.cwd()})")
    return None


def _kind(path: Path) -> str:
    return path.with_suffix("").suffix if path.suffix == ".gz" else path.suffix


def _readable(items: Iterable[T], path: Path) -> Iterator[T]:
    try:
        yield from items
    except Exception as error:  # gzip, datasets and pyarrow raise many unrelated types
        raise ValueError(
            f"cannot read {path} ({type(error).__name__}: {error}): it is empty, damaged, or not what its name says"
        ) from error


def _from_text(path: Path) -> Iterator[str]:
    with _open(path) as lines:
        held: list[str] = []
        for line in lines:
            held.append(line)
            if END_OF_TEXT in line:
                yield "".join(held)
                held = []
        yield "".join(held)


def _open(path: Path) -> IO[str]:
    return gzip.open(path, "rt", encoding="utf-8") if path.suffix == ".gz" else path.open(encoding="utf-8")


def _columnar(path: Path, format_: str) -> Iterator[Row]:
    import datasets  # imports pyarrow and pandas: seconds that plain text need not wait for

    yield from datasets.load_dataset(format_, data_files=str(path), split="train", streaming=True)


def _from_hub(source: str) -> Iterator[str]:
    import datasets

    name, _, split = source.partition("@")
    try:
        rows = datasets.load_dataset(name, split=split or "train")
    except Exception as error:  # the Hub's clients raise a dozen unrelated types when it cannot be reached
        raise ValueError(
            f"cannot load {source!r} from the Hugging Face Hub ({type(error).__name__}: {error}).\n"
            "Without network: set data.corpus.train and data.corpus.validation to local .txt, .txt.gz, .parquet or "
            ".jsonl files, or use the built-in corpus with data=grammar."
        ) from error
    return _column(rows, source)


def _column(rows: Iterable[Row], source: Path | str) -> Iterator[str]:
    for row in rows:
        if "text" not in row:
            raise ValueError(f"{source} has no column 'text'; it has {', '.join(row)}")
        yield row["text"] or ""  # null in some columns of texts
