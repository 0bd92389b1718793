"""Blind rating of neurons: a sample that hides its methods, and the results of several raters."""

import json
import math
import random
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from fnmatch import fnmatchcase
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np

from tti.configuration import digest
from tti.durable import write_atomically
from tti.markdown import code, escaped, table
from tti.reporting import assets, encoding
from tti.reporting.agreement import krippendorff_alpha
from tti.reporting.analysis import Analysis
from tti.reporting.browser import Browsed
from tti.reporting.contexts import OUTSIDE, Contexts
from tti.reporting.statistics import CONFIDENCE, wilson

SCHEMA = 1
CATEGORIES = ("monosemantic", "polysemantic", "unclear")
KEY = "rating-key.json"
CONTEXTS_SHOWN = 12


@dataclass(frozen=True)
class Rated:
    """The raters' results.

    Attributes:
        labels: variant -> the label of each rated neuron, by majority (*unclear* in case of a tie).
        alpha: Krippendorff's α.
        raters: number of ratings of each rater.
        remarks: on files that could not be read.
        sampled: number of neurons in the sample.
    """

    labels: Mapping[str, Sequence[str]] = field(default_factory=dict)
    alpha: float = math.nan
    raters: Mapping[str, int] = field(default_factory=dict)
    remarks: Sequence[str] = ()
    sampled: int = 0

    def rates(self) -> list[dict[str, Any]]:
        """One row per variant: the number of rated neurons, and each category's rate with its Wilson interval."""
        rows = []
        for variant, labels in self.labels.items():
            counts, n = Counter(labels), len(labels)
            rates = {c: (counts[c] / n, *wilson(counts[c], n)) for c in CATEGORIES}
            rows.append({"variant": variant, "n": n, **rates})
        return rows

    def sections(self) -> list[str]:
        """Markdown sections; empty if nobody rated."""
        if not self.raters:
            return []
        rows = [
            [code(row["variant"]), str(row["n"]), *[_rate(*row[category]) for category in CATEGORIES]]
            for row in self.rates()
        ]
        return ["## Blind rating", self.summary(), table(["variant", "neurons", *CATEGORIES], rows)]

    def summary(self) -> str:
        """The raters, and their agreement."""
        alpha = (
            "not defined (no neuron was rated twice, or all alike)" if math.isnan(self.alpha) else f"{self.alpha:.2f}"
        )
        raters = ", ".join(f"{escaped(name)} ({count})" for name, count in self.raters.items())
        return (
            f"Raters who did not see the method: {raters}. A neuron counts as the majority rated it, and as unclear in "
            f"case of a tie; {CONFIDENCE:.0%} Wilson intervals over neurons. Krippendorff's α between raters: "
            f"{alpha}."
        )


def rated(analysis: Analysis, folder: Path, runs: Sequence[Browsed]) -> Rated:
    """Write the sample to rate into ``folder/rating``, and read the existing ratings.

    The key to the sample is stored outside that folder, so that the folder can be given away. Keys of earlier samples
    are kept: their ratings still count.
    """
    settings = analysis.config.rating
    items = list(sample(runs, settings.sites, settings.neurons, settings.seed))
    key = _former_key(folder / KEY) | {item["id"]: item.pop("key") for item in items}
    if items:
        write_page(folder / "rating", items, settings.seed)
        write_atomically(folder / KEY, json.dumps(key, indent=1))
    patterns = settings.files or str(folder / "ratings" / "*.json")
    return replace(read(_files(patterns), key), sampled=len(items))


def sample(runs: Sequence[Browsed], sites: str, neurons: int, seed: int) -> Iterable[dict[str, Any]]:
    """The same number of neurons of every variant, in random order, without neurons that never fire.

    Args:
        runs: runs with contexts.
        sites: glob; neurons of all matching layers are equally likely.
        neurons: total number of neurons.
        seed: seed of the sample and its order.
    """
    draw = random.Random(seed)
    variants: dict[str, list[Browsed]] = {}
    for run in runs:
        variants.setdefault(run.variant, []).append(run)
    items: list[dict[str, Any]] = []
    for variant, of_variant in variants.items():
        firing = [place for run in of_variant for place in _firing(run, sites)]
        chosen = random.Random(f"{seed} {variant}").sample(firing, min(len(firing), neurons // len(variants)))
        chosen.sort(key=lambda place: (place[0].number, *place[1:]))
        for (run, site), places in groupby(chosen, key=lambda place: place[:2]):
            items += _items(run, site, [neuron for _, _, neuron in places], seed)
    draw.shuffle(items)
    return items


def write_page(folder: Path, items: Sequence[Mapping[str, Any]], seed: int) -> None:
    """Write the folder for the raters."""
    folder.mkdir(parents=True, exist_ok=True)
    assets.write_page("rating.html", ("style.css", "data.js", "tokens.js", "rating.js"), folder)
    sample = digest(" ".join(sorted(item["id"] for item in items)))
    encoding.write(folder, "items", {"schema": SCHEMA, "sample": sample, "seed": seed, "items": items})


def read(paths: Iterable[Path], key: Mapping[str, Mapping[str, Any]]) -> Rated:
    """The ratings of the neurons in the key; unreadable files are skipped with a remark."""
    said: dict[str, dict[str, str]] = {}
    remarks = []
    for path in paths:
        try:
            rater, ratings = _ratings(path)
        except (OSError, ValueError, LookupError, TypeError, AttributeError) as error:
            remarks.append(f"ratings left out: {code(path.name)}: {escaped(str(error))}")
            continue
        unknown = [item for item in ratings if item not in key]
        if unknown:
            remarks.append(
                f"{code(path.name)}: {len(unknown)} of {len(ratings)} ratings are of neurons that no key here knows"
            )
        name = rater if rater not in said else f"{rater} ({path.stem})"
        said[name] = {item: rating for item, rating in ratings.items() if item in key}
    units: dict[str, list[str]] = {}
    for ratings in said.values():
        for item, rating in ratings.items():
            units.setdefault(item, []).append(rating)
    labels: dict[str, list[str]] = {}
    for item in key:
        if item in units:
            labels.setdefault(key[item]["variant"], []).append(majority(units[item]))
    return Rated(labels, krippendorff_alpha(units.values()), {name: len(r) for name, r in said.items()}, remarks)


def majority(ratings: Sequence[str]) -> str:
    """The most frequent rating; *unclear* in case of a tie."""
    (first, count), *others = Counter(ratings).most_common()
    return "unclear" if others and others[0][1] == count else first


def _ratings(path: Path) -> tuple[str, dict[str, str]]:
    content = json.loads(path.read_text(encoding="utf-8"))
    if content.get("schema") != SCHEMA:
        raise ValueError(f"schema {content.get('schema')}, but this version reads {SCHEMA}")
    ratings = {item: given["rating"] for item, given in content["ratings"].items()}
    if odd := sorted(set(ratings.values()) - set(CATEGORIES)):
        raise ValueError(f"unknown ratings {', '.join(odd)}; there are {', '.join(CATEGORIES)}")
    return content.get("rater") or path.stem, ratings


def _files(patterns: Any) -> list[Path]:
    every = [patterns] if isinstance(patterns, str) else list(patterns)
    found = []
    for pattern in every:
        path = Path(pattern)
        found += sorted(path.parent.glob(path.name)) if "*" in path.name else [path]
    return found


def _former_key(path: Path) -> dict[str, Any]:
    return dict(json.loads(path.read_text())) if path.exists() else {}


def _firing(browsed: Browsed, sites: str) -> Iterable[tuple[Browsed, str, int]]:
    for site in browsed.sites:
        activation = browsed.part.arrays.get(f"{site}/top_activation") if fnmatchcase(site, sites) else None
        if activation is not None:
            yield from ((browsed, site, int(j)) for j in np.flatnonzero(activation[:, 0] > 0))


def _items(browsed: Browsed, site: str, neurons: Sequence[int], seed: int) -> Iterator[dict[str, Any]]:
    """Neurons of a site, with their contexts as text."""
    part, text, of_seed = browsed.part, browsed.run.tokenizer, browsed.run.key.seed
    contexts, tokens, before = Contexts.of(part, site), part.arrays["tokens"], int(part.metrics["window_before"])
    assert contexts is not None
    for neuron in neurons:
        rows = []
        places, windows = (each["top"][neuron, :CONTEXTS_SHOWN] for each in (contexts.places, contexts.windows))
        for place, window in zip(places, windows, strict=True):
            inside = [i for i, level in enumerate(window) if place >= 0 and level != OUTSIDE]
            if inside:
                words = [text.decode([int(tokens[place - before + i])], skip_special_tokens=False) for i in inside]
                rows.append({"tokens": words, "levels": [int(window[i]) for i in inside], "mark": inside.index(before)})
        key = {"variant": browsed.variant, "seed": of_seed, "site": site, "neuron": neuron}
        named = f"{seed} {browsed.variant} {of_seed} {site} {neuron}"
        yield {"id": digest(named), "contexts": rows, "key": key}


def _rate(rate: float, low: float, high: float) -> str:
    return f"{rate:.0%} ({low:.0%} to {high:.0%})"
