"""Sources of story texts: local files, or a dataset on the Hugging Face Hub."""

import glob
import gzip
import hashlib
import re
from collections.abc import Iterable, Iterator, Sequence
from functools import cache
from pathlib import Path
from typing import Any, TypeVar

END_OF_TEXT = "<|endoftext|>"
BYTE_ORDER_MARK = "\ufeff"

# The names that `datasets` uses for the formats it reads for us.
_COLUMNAR = {".parquet": "parquet", ".jsonl": "json", ".json": "json"}
_TEXT = ".txt"
_KNOWN = sorted([_TEXT, *_COLUMNAR])
_IN_FOLDERS = sorted({*_KNOWN} - {".json"})  # a .json file next to data is metadata
_SPLITS = {"train": ("train", "training"), "validation": ("validation", "valid", "val", "dev"), "test": ("test",)}

Row = dict[str, Any]
Source = str | Sequence[str]
"""Files, folders, globs and Hub datasets: one, or a list of them."""
T = TypeVar("T")


def stories(source: Source, column: str = "text") -> Iterator[str]:
    """The stories of a source, in order and stripped; empty ones are dropped.

    Args:
        source: a ``.txt`` file whose stories end with ``<|endoftext|>``, or a ``.parquet`` or ``.jsonl`` file with a
            column of texts (any of them may be gzipped); a glob, a folder of such files, or ``FOLDER@split`` for those
            named after the split; ``owner/name`` or ``owner/name@split`` on the Hub; or a list of these.
        column: the column of texts.

    Raises:
        ValueError: a part of the source is missing, cannot be reached, has another format or no such column, or is a
            ``.txt`` file without ``<|endoftext|>``.
    """
    for part in parts(source):
        for text in _texts(part, column):
            for story in text.split(END_OF_TEXT):
                if story := story.strip().removeprefix(BYTE_ORDER_MARK).lstrip():
                    yield story


def count(source: Source) -> int | None:
    """Approximate number of stories, for a progress bar; None if finding out would mean reading them twice."""
    files = [part for part in parts(source) if isinstance(part, Path) and _kind(part) == _TEXT]
    if len(files) < len(parts(source)):
        return None
    return sum(END_OF_TEXT in line for file in files for line in _readable(_lines(file), file))


def fingerprint(source: Source) -> list[dict[str, str]]:
    """Identity of a source: the content of its files, and the names of its Hub datasets.

    Raises:
        ValueError: a part looks like a file and does not exist.
    """
    return [
        {"read_as": _format(part), "sha256": sha256(part)} if isinstance(part, Path) else {"hub": part}
        for part in parts(source)
    ]


def title(source: Source) -> str:
    """A short readable name."""
    first, *others = [source] if isinstance(source, str) else source
    return f"{Path(first).name}-and-{len(others)}-more" if others else Path(first).name


def parts(source: Source) -> list[Path | str]:
    """The local files of a source, one by one, and its Hub datasets by name.

    Raises:
        ValueError: nothing exists under a name that looks like a file's, or its format is unknown.
    """
    found = [part for name in ([source] if isinstance(source, str) else source) for part in _named(name)]
    if not found:
        raise ValueError("an empty list names no corpus: set data.corpus.train and data.corpus.validation to files")
    return found


def is_local(name: str) -> bool:
    """Whether a name stands for local files, existing or not, rather than for a Hub dataset."""
    path, folder = Path(name).expanduser(), Path(name.rpartition("@")[0] or name).expanduser()
    return (
        path.exists()
        or folder.is_dir()
        or path.is_absolute()
        or name.startswith((".", "~"))
        or name.count("/") != 1
        or any(mark in name for mark in "*?[")
        or _kind(path) in _KNOWN
    )


def sha256(path: Path) -> str:
    """Hash of a file's content, cached within a process as long as the file is unchanged."""
    status = path.stat()
    return _sha256(path, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns)


@cache
def _sha256(path: Path, *status: int) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _named(name: str) -> list[Path | str]:
    if not is_local(name):
        return [name]
    path = Path(name).expanduser()
    matches = [path] if path.exists() else [Path(match) for match in sorted(glob.glob(str(path), recursive=True))]  # noqa: PTH207
    folder, _, split = name.rpartition("@")
    if not matches and split in _SPLITS and Path(folder).expanduser().is_dir():
        return [*_of_split(Path(folder).expanduser(), split)]
    if not matches:
        raise ValueError(f"no such file: {path} (from folder {Path.cwd()})")
    return [file for match in matches for file in (_of_folder(match) if match.is_dir() else [_readable_kind(match)])]


def _readable_kind(path: Path) -> Path:
    if _kind(path) not in _KNOWN:
        raise ValueError(f"cannot read {path}: its name must end in one of {', '.join(_KNOWN)} (optionally with .gz)")
    return path


def _of_folder(folder: Path) -> list[Path]:
    """All files of a folder, which must be of one kind and one split."""
    files = _files(folder)
    splits = list(dict.fromkeys(split for file in files if (split := _split_of(file, folder))))
    if len(splits) > 1:
        named = " or ".join(f"{folder}@{split}" for split in splits)
        raise ValueError(f"{folder} holds files of several splits: choose one, {named}, or give a glob")
    return files


def _of_split(folder: Path, split: str) -> list[Path]:
    files = [file for file in _files(folder) if _split_of(file, folder) == split]
    if not files:
        raise ValueError(
            f"no file in {folder} has a name with {' or '.join(_SPLITS[split])}, which marks the split {split}"
        )
    return files


def _files(folder: Path) -> list[Path]:
    found = [path for path in sorted(folder.rglob("*")) if path.is_file() and _kind(path) in _IN_FOLDERS]
    files = [path for path in found if not any(part.startswith(".") for part in path.relative_to(folder).parts)]
    kinds = sorted({_kind(path) for path in files})
    if len(kinds) != 1:
        what = f"files of several kinds ({', '.join(kinds)}): give a glob" if kinds else "no file to read"
        raise ValueError(
            f"the folder {folder} holds {what}; supported are {', '.join(_IN_FOLDERS)} (optionally with .gz)"
        )
    return files


def _split_of(file: Path, folder: Path) -> str | None:
    """The split named by a word in the file's name, or in the names of its parent folders."""
    words = re.findall(r"[a-z]+", file.relative_to(folder).as_posix().lower())
    return next((split for word in words for split, names in _SPLITS.items() if word in names), None)


def _format(path: Path) -> str:
    """``.txt``, ``.txt.gz``, ..."""
    suffix = path.suffix.lower()
    return path.with_suffix("").suffix.lower() + suffix if suffix == ".gz" else suffix


def _kind(path: Path) -> str:
    return _format(path).removesuffix(".gz")


def _texts(part: Path | str, column: str) -> Iterator[str]:
    if isinstance(part, str):
        return _column(_from_hub(part), part, column)
    if _kind(part) == _TEXT:
        return _from_text(_readable(_lines(part), part), part)
    return _column(_readable(_columnar(part), part), part, column)


def _readable(items: Iterable[T], path: Path) -> Iterator[T]:
    try:
        yield from items
    except UnicodeDecodeError as error:
        raise ValueError(
            f"cannot read {path}: it is not UTF-8 ({error.reason}: byte 0x{error.object[error.start]:02x}). Convert "
            "it, for instance with `iconv -f cp1252 -t utf-8`"
        ) from error
    except Exception as error:  # gzip, datasets and pyarrow raise many unrelated types
        raise ValueError(
            f"cannot read {path} ({type(error).__name__}: {error}): it is empty, damaged, or not what its name says"
        ) from error


def _from_text(lines: Iterable[str], path: Path) -> Iterator[str]:
    held: list[str] = []
    ends = 0
    for line in lines:
        held.append(line)
        if END_OF_TEXT in line:
            ends += 1
            yield "".join(held)
            held = []
    if not ends:
        raise ValueError(
            f"{path} has no {END_OF_TEXT}, which must end each story of a .txt file: all of it would be one story. Put "
            'one after every story, or write a .jsonl file, with a line {"text": "..."} for each'
        )
    yield "".join(held)


def _lines(path: Path) -> Iterator[str]:
    opened = gzip.open if path.suffix.lower() == ".gz" else open
    with opened(path, "rt", encoding="utf-8-sig") as lines:  # without the byte-order mark that some tools write
        yield from lines


def _columnar(path: Path) -> Iterator[Row]:
    import datasets  # imports pyarrow and pandas, which takes seconds that plain text can avoid

    file = glob.escape(str(path))
    yield from datasets.load_dataset(_COLUMNAR[_kind(path)], data_files=file, split="train", streaming=True)


def _from_hub(source: str) -> Iterable[Row]:
    import datasets

    name, _, split = source.partition("@")
    try:
        rows: Iterable[Row] = datasets.load_dataset(name, split=split or "train")
    except Exception as error:  # the Hub's clients raise a dozen unrelated types when it is unreachable
        raise ValueError(
            f"cannot load {source!r} from the Hugging Face Hub ({type(error).__name__}: {error}).\n"
            "Without network: set data.corpus.train and data.corpus.validation to local .txt, .txt.gz, .parquet or "
            ".jsonl files, or use the built-in corpus with data=grammar."
        ) from error
    return rows


def _column(rows: Iterable[Row], source: Path | str, column: str) -> Iterator[str]:
    for number, row in enumerate(rows, 1):
        if column not in row:
            raise ValueError(
                f"{source} has no column {column!r}; it has {', '.join(row)}. Name the one that holds the texts with "
                "data.corpus.column"
            )
        text = row[column]
        if not isinstance(text, str | None):
            raise ValueError(f"{source}: column {column!r} of row {number:,} holds {text!r}, which is not text")
        yield text or ""  # some text columns contain nulls
