"""The runs in some folders that are compared, and remarks on the others."""

import glob
import hashlib
import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from tti.configuration import flat
from tti.markdown import code, escaped
from tti.reporting.given import Given, Key
from tti.reporting.matched import shorter as shorter_runs
from tti.runs import find

# Keys of the data that affect the order, speed or location of the stories, but not which stories they are.
NOT_WHICH_DATA = (
    "data.seed",
    "data.layout",
    "data.num_workers",
    "data.validation_tokens",
    "data.stories_per_step",
    "data.corpus.cache_dir",
)


@dataclass(frozen=True)
class Selection:
    """The finished runs that are compared, all runs found, and remarks on what is missing or odd.

    ``finished`` is in display order: experiments as given, the baseline first in each, then by the numbers in the
    variants' names. ``shorter`` pairs finished runs that differ from one of these only in having fewer steps with that
    run. ``references`` are finished runs on other data, which are shown beside these and not compared with them.
    """

    finished: tuple[Given, ...]
    found: tuple[Given, ...]
    shorter: tuple[tuple[Given, Given], ...] = ()
    remarks: tuple[str, ...] = ()
    references: tuple[Given, ...] = ()

    @property
    def experiments(self) -> tuple[str, ...]:
        """Experiments, in the order given."""
        return tuple(dict.fromkeys(run.key.experiment for run in self.finished))

    def name(self, key: Key) -> str:
        """The variant's name in this report, which includes its experiment if there are several."""
        return key.variant if len(self.experiments) == 1 else f"{key.experiment}/{key.variant}"


def select(patterns: Sequence[str], baseline: str, compare_anyway: bool, references: Sequence[str] = ()) -> Selection:
    """The runs at or below folders or globs.

    Args:
        patterns: folders and globs.
        baseline: a variant, used in each experiment; or ``experiment/variant``, used for all.
        compare_anyway: also compare runs that differ in their data.
        references: globs of the variants that are references, unless there are no others.

    Raises:
        ValueError: there are no runs, none has finished, two have the same experiment, variant and seed, or runs that
            are compared differ in data, tokenizer or validation set and ``compare_anyway`` is false.
    """
    found = list({run.folder.resolve(): run for pattern in patterns for run in _runs(pattern)}.values())
    finished = [run for run in found if run.status == "finished"]
    if not finished:
        raise ValueError(f"none of the {len(found)} runs in {', '.join(patterns)} has finished")
    _require_distinct(finished)
    full, by_key = shorter_runs(finished), {run.key: run for run in finished}
    finished = [run for run in finished if run.key not in full]
    beside = [run for run in finished if any(fnmatchcase(run.key.variant, glob) for glob in references)]
    beside = beside if len(beside) < len(finished) else []
    finished = [run for run in finished if run not in beside]
    experiments = list(dict.fromkeys(run.key.experiment for run in finished))
    finished.sort(
        key=lambda run: (
            experiments.index(run.key.experiment),
            not is_baseline(run.key, baseline),
            by_size(run.key.variant),
            run.key.seed,
        )
    )
    remarks = _gaps(finished)
    compared = [[run for run in finished if run.key.experiment == experiment] for experiment in experiments]
    if differing := [line for runs in ([finished] if "/" in baseline else compared) for line in differences(runs)]:
        if not compare_anyway:
            raise ValueError(
                "these runs differ in data, tokenizer or validation set, so their figures are not comparable:\n"
                + "\n".join(f"  {line}" for line in differing)
                + "\nSet runs=... to those that belong together, or compare_anyway=true."
            )
        remarks += [f"**compared anyway, although they differ**: {escaped(line)}" for line in differing]
    elif len(compared) > 1 and (between := differences(finished)):
        remarks += [
            f"experiments differ, so compare changes, not figures, across them: {escaped(line)}" for line in between
        ]
    pairs = tuple((by_key[short], by_key[long]) for short, long in full.items())
    return Selection(tuple(finished), tuple(found), pairs, tuple(remarks), tuple(beside))


def is_baseline(key: Key, baseline: str) -> bool:
    """Whether a run belongs to the baseline ``variant`` or ``experiment/variant``."""
    return baseline in (key.variant, f"{key.experiment}/{key.variant}")


def by_size(variant: str) -> list[str | float]:
    """Sort key that places ``l1_1e-2`` after ``l1_1e-3``."""
    parts = re.split(r"(\d+\.?\d*(?:e[+-]?\d+)?)", variant)
    return [float(part) if i % 2 else part for i, part in enumerate(parts)]


def differences(runs: Iterable[Given]) -> list[str]:
    """Properties of data, tokenizer and validation set that the runs do not share: one line each, with who has what."""
    holders: dict[str, dict[str, list[str]]] = defaultdict(lambda: defaultdict(list))
    runs = list(runs)
    for run in runs:
        for name, value in fingerprint(run).items():
            holders[name][value].append(f"{run.key.variant}/seed-{run.key.seed}")
    return [
        f"{name}: " + ", ".join(f"{value} ({_some(names)})" for value, names in values.items())
        for name, values in holders.items()
        # A key that only some runs have was added or removed by a version; its default is what the others had.
        if len(values) > 1 and sum(map(len, values.values())) == len(runs)
    ]


def fingerprint(run: Given) -> dict[str, str]:
    """What must be equal for two runs to be comparable; files by name, since folders differ by machine."""
    given = run.config.get("data")
    data = {
        key: _by_name(value)
        for key, value in flat(given if isinstance(given, Mapping) else {}, "data.").items()
        if not key.startswith(NOT_WHICH_DATA)
    }
    tokenizer = run.folder / "tokenizer.json"
    digest = hashlib.sha256(tokenizer.read_bytes()).hexdigest()[:12] if tokenizer.exists() else "none"
    summary = run.summary
    validation = {
        "validation tokens": summary["metrics"].get("val/tokens"),
        "unigram entropy of the validation tokens": summary.get("unigram_entropy"),
    }
    tokens = {f"tokens of {split}": sha256[:12] for split, sha256 in summary.get("data", {}).items()}
    return data | tokens | {"tokenizer": digest} | {name: str(value) for name, value in validation.items()}


def named(runs: Iterable[tuple[str, int]]) -> str:
    """Variants and seeds in short form: variants with the same seeds together."""
    seeds: dict[str, list[str]] = {}
    for variant, seed in runs:
        seeds.setdefault(variant, []).append(str(seed))
    groups: dict[str, list[str]] = {}
    for variant, numbers in seeds.items():
        groups.setdefault(", ".join(numbers), []).append(code(variant))
    return "; ".join(
        f"{', '.join(variants)} seed{'s' * (',' in numbers)} {numbers}" for numbers, variants in groups.items()
    )


def _runs(pattern: str) -> list[Given]:
    matches = sorted(glob.glob(pattern))  # noqa: PTH207 (Path.glob takes no absolute one)
    folders = [Path(match) for match in matches] or [Path(pattern)]
    if len(folders) == 1:
        return [Given(run.folder) for run in find(folders[0])]
    runs = [Given(path.parent) for folder in folders for path in sorted(folder.rglob("config.yaml"))]
    return [run for run in runs if (run.folder / "overrides.yaml").exists()]


def _require_distinct(runs: Iterable[Given]) -> None:
    seen: dict[Key, Given] = {}
    for run in runs:
        if run.key in seen:
            raise ValueError(
                f"{seen[run.key].folder} and {run.folder} are the same experiment, variant and seed. Set runs=... to "
                "one of them"
            )
        seen[run.key] = run


def _gaps(runs: Sequence[Given]) -> list[str]:
    """Seeds that some variants of an experiment have and others lack."""
    seeds: dict[tuple[str, str], set[int]] = defaultdict(set)
    every: dict[str, set[int]] = defaultdict(set)
    for run in runs:
        seeds[run.key[:2]].add(run.key.seed)
        every[run.key.experiment].add(run.key.seed)
    return [
        f"{code(variant)} has no finished run of seed {', '.join(map(str, sorted(every[experiment] - have)))}, which "
        "others have"
        for (experiment, variant), have in seeds.items()
        if every[experiment] - have
    ]


def _by_name(value: Any) -> str:
    return Path(value).name if isinstance(value, str) and Path(value).is_absolute() else str(value)


def _some(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else f"{names[0]} and {len(names) - 1} more"
