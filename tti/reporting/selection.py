"""Which of the runs below some folders are compared, and what there is to say about the others."""

import glob
import hashlib
import re
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tti.configuration import identity
from tti.runs import Run, find

# Of a run's data: these say in which order or how fast stories come, not which.
NOT_WHICH_DATA = ("data.seed", "data.layout", "data.num_workers", "data.validation_tokens", "data.stories_per_step")


@dataclass
class Selection:
    """The finished runs that are compared, the baseline's first, and remarks on what is missing or odd."""

    finished: list[Run]
    found: list[Run]
    remarks: list[str] = field(default_factory=list)

    @property
    def unfinished(self) -> list[Run]:
        """Found, but not finished."""
        return [run for run in self.found if run.status != "finished"]


def select(patterns: Sequence[str], baseline: str, compare_anyway: bool) -> Selection:
    """The runs at or below folders or globs.

    Raises:
        ValueError: there are none, none has finished, two are the same variant and seed, or they differ in data,
            tokenizer or validation set and ``compare_anyway`` is not set.
    """
    found = list({run.folder.resolve(): run for pattern in patterns for run in _runs(pattern)}.values())
    finished = [run for run in found if run.status == "finished"]
    if not finished:
        raise ValueError(f"none of the {len(found)} runs in {', '.join(patterns)} has finished")
    _require_distinct(finished)
    finished.sort(key=lambda run: (run.config.variant != baseline, by_size(run.config.variant), run.config.seed))
    remarks = _gaps(finished)
    if differing := differences(finished):
        if not compare_anyway:
            raise ValueError(
                "these runs differ in data, tokenizer or validation set, so their figures do not compare:\n"
                + "\n".join(f"  {line}" for line in differing)
                + "\nGive runs=... those that belong together, or compare_anyway=true."
            )
        remarks += [f"**compared anyway, although they differ**: {line}" for line in differing]
    return Selection(finished, found, remarks)


def by_size(variant: str) -> list[str | float]:
    """Sorting key under which ``l1_1e-2`` follows ``l1_1e-3``."""
    parts = re.split(r"(\d+\.?\d*(?:e[+-]?\d+)?)", variant)
    return [float(part) if i % 2 else part for i, part in enumerate(parts)]


def differences(runs: Iterable[Run]) -> list[str]:
    """What the runs do not share of data, tokenizer and validation set: a line a property, with who has what."""
    holders: dict[str, dict[str, list[str]]] = defaultdict(lambda: defaultdict(list))
    for run in runs:
        for name, value in fingerprint(run).items():
            holders[name][value].append(f"{run.config.variant}/seed-{run.config.seed}")
    return [
        f"{name}: " + ", ".join(f"{value} ({_some(names)})" for value, names in values.items())
        for name, values in holders.items()
        if len(values) > 1
    ]


def fingerprint(run: Run) -> dict[str, str]:
    """What must be equal for two runs' figures to compare; files by name, since machines keep them elsewhere."""
    data = {
        key: _by_name(value)
        for key, value in identity(run.config).items()
        if key.startswith("data.") and not key.startswith(NOT_WHICH_DATA)
    }
    tokenizer = run.folder / "tokenizer.json"
    digest = hashlib.sha256(tokenizer.read_bytes()).hexdigest()[:12] if tokenizer.exists() else "none"
    summary = run.summary
    validation = {"validation tokens": summary["metrics"].get("val/tokens"),
                  "unigram entropy of the validation tokens": summary.get("unigram_entropy")}  # fmt: skip
    tokens = {f"tokens of {split}": sha256[:12] for split, sha256 in summary.get("data", {}).items()}
    return data | tokens | {"tokenizer": digest} | {name: str(value) for name, value in validation.items()}


def _runs(pattern: str) -> list[Run]:
    matches = sorted(glob.glob(pattern))  # noqa: PTH207 (Path.glob takes no absolute one)
    folders = [Path(match) for match in matches] or [Path(pattern)]
    if len(folders) == 1:
        return find(folders[0])
    runs = [Run(path.parent) for folder in folders for path in sorted(folder.rglob("config.yaml"))]
    return [run for run in runs if (run.folder / "overrides.yaml").exists()]


def _require_distinct(runs: Iterable[Run]) -> None:
    seen: dict[tuple[str, int], Run] = {}
    for run in runs:
        key = (run.config.variant, run.config.seed)
        if key in seen:
            raise ValueError(
                f"{seen[key].folder} and {run.folder} are the same variant and seed. Runs of different experiments are "
                "not seeds of one: give runs=... the folder of one experiment"
            )
        seen[key] = run


def _gaps(runs: Sequence[Run]) -> list[str]:
    """Seeds that some variants have and others have not."""
    seeds: dict[str, set[int]] = defaultdict(set)
    for run in runs:
        seeds[run.config.variant].add(run.config.seed)
    every = set().union(*seeds.values())
    return [
        f"`{variant}` has no finished run of seed {', '.join(map(str, sorted(every - have)))}, which others have"
        for variant, have in seeds.items()
        if every - have
    ]


def _by_name(value: Any) -> str:
    return Path(value).name if isinstance(value, str) and Path(value).is_absolute() else str(value)


def _some(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else f"{names[0]} and {len(names) - 1} more"
