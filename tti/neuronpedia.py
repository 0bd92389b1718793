"""``python -m tti.neuronpedia run=FOLDER to=FOLDER``: contexts of a run's neurons as Neuronpedia's activation records.

The layout is that of Neuronpedia's exports, ``<model>/<layer>-<set>/activations/batch-<n>.jsonl.gz``: one line per
context, with the fields of the class ``Activation`` in its ``neuronpedia-utils``.
"""

import gzip
import hashlib
import json
import re
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from omegaconf import DictConfig
from rich.console import Console
from rich.progress import track
from tokenizers import Tokenizer

from tti.command import command
from tti.durable import replacing_folder
from tti.evaluation_folder import Evaluation, Part
from tti.models.taps import choose, kind_of
from tti.runs import Run

CONSOLE = Console(stderr=True, highlight=False, soft_wrap=True)
TOP = "/top_place"
NEURONS_PER_BATCH = 128  # as in Neuronpedia


class Contexts:
    """The highest activations of a site's neurons, from the evaluation part ``contexts``."""

    def __init__(self, part: Part, site: str, tokenizer: Tokenizer) -> None:
        self.tokens = part.arrays["tokens"]
        self.places = part.arrays[f"{site}/top_place"]
        self.activations = part.arrays[f"{site}/top_activation"]
        self.windows = part.arrays[f"{site}/top_window"]
        self.before = int(part.metrics["window_before"])
        self.tokenizer = tokenizer

    def of(self, neuron: int) -> Iterator[dict[str, Any]]:
        """Tokens, activations and the position of the activating token of each context, highest first."""
        for place, activation, window in zip(
            self.places[neuron], self.activations[neuron], self.windows[neuron], strict=True
        ):
            if place >= 0:  # otherwise there are fewer than k contexts
                yield self._context(int(place), float(activation), window.astype(float))

    def _context(self, place: int, activation: float, window: np.ndarray) -> dict[str, Any]:
        window[self.before] = activation  # exact; its neighbors are in half precision
        there = np.flatnonzero(~np.isnan(window))  # the others are outside the story
        values = window[there]
        return {
            "tokens": [self.tokenizer.decode([int(self.tokens[place - self.before + i])]) for i in there],
            "values": values.tolist(),
            "maxValue": float(values.max()),
            "maxValueTokenIndex": int(values.argmax()),
            "minValue": float(values.min()),
            "qualifyingTokenIndex": int(np.flatnonzero(there == self.before)[0]),
        }


def records(contexts: Contexts, neuron: int, model: str, source: str, creator: str) -> Iterator[dict[str, Any]]:
    """One record per context of a neuron."""
    made = datetime.now(UTC).isoformat(timespec="seconds")
    for rank, context in enumerate(contexts.of(neuron)):
        id_ = hashlib.sha256(f"{model}/{source}/{neuron}/{rank}".encode()).hexdigest()[:25]
        shared = {"id": id_, "modelId": model, "layer": source, "index": str(neuron), "creatorId": creator}
        yield {**shared, **context, "createdAt": made}


def source_of(site: str) -> str:
    """``blocks.3.mlp.post`` -> ``3-mlp-post``: Neuronpedia's name for a layer's set of neurons."""
    layer = re.match(r"blocks\.(\d+)\.", site)
    kind = re.sub(r"[^a-z0-9]+", "-", kind_of(site))
    return f"{layer[1]}-{kind}" if layer else kind


def write(config: DictConfig) -> Path:
    """Write the records of all chosen sites.

    Raises:
        ValueError: the run has no contexts, none for that site, or the folder already exists.
    """
    run, to = Run(Path(config.run)), Path(config.to)
    _ = run.config  # raises if there is no run
    if to.exists():
        raise ValueError(f"{to} exists already: name a folder that does not exist")
    part = Evaluation(run.folder, config.split).part("contexts")
    widths = {
        key.removesuffix(TOP): part.content["arrays"][key]["shape"][0] for key in part.arrays if key.endswith(TOP)
    }
    sites = choose(config.sites, widths)
    with replacing_folder(to.absolute()) as folder:
        for site in sites:
            source = source_of(site)
            batches = folder / config.model_id / source / "activations"
            batches.mkdir(parents=True)
            contexts = Contexts(part, site, run.tokenizer)
            for batch, first in enumerate(_shown(range(0, widths[site], NEURONS_PER_BATCH), site)):
                neurons = range(first, min(first + NEURONS_PER_BATCH, widths[site]))
                with gzip.open(batches / f"batch-{batch}.jsonl.gz", "wt", encoding="utf-8") as file:
                    for neuron in neurons:
                        for record in records(contexts, neuron, config.model_id, source, config.creator):
                            file.write(json.dumps(record, ensure_ascii=False, allow_nan=False) + "\n")
    CONSOLE.print(f"{to}: {', '.join(source_of(site) for site in sites)}")
    return to


def _shown(batches: range, site: str) -> Iterable[int]:
    return track(batches, f"  {site}", console=CONSOLE, transient=True, disable=not CONSOLE.is_terminal)


@command("neuronpedia", free=("run", "to"))
def main(config: DictConfig) -> None:
    """Entry point of the command."""
    write(config)


if __name__ == "__main__":
    main()
