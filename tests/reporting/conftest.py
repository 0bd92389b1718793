"""Finished and evaluated runs, written by hand through the schema; and Chromium, if it is installed."""

import importlib.util
import json
import math
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pytest
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf
from tokenizers import Tokenizer, models, pre_tokenizers

from tti.configuration import conf_dir
from tti.evaluation_folder import RANDOM_INIT, ROTATION, TRAINED, Array, Evaluation, Result, write
from tti.report import report
from tti.reporting import plots
from tti.reporting.analysis import Analysis

WORDS = ["<|endoftext|>", "the", "cat", "dog", "sat", "ran", "<b>&", "two", "three", "four"]
WIDTH = {"blocks.0.mlp.post": 600, "blocks.1.mlp.post": 600, "blocks.0.mlp_out": 12}
STORIES, LENGTH, RANK, BEFORE, AFTER, BINS = 40, 10, 6, 3, 2, 8
NGRAMS = (5.0, 4.0, 3.0, 2.5, 2.4)  # nats, of orders 1 to 5
CAT = 17  # the neuron that fires on "cat" alone


def write_run(
    folder: Path,
    place: str,
    seed: int,
    loss: float = 1.0,
    finished: bool = True,
    overrides: tuple[str, ...] = (),
    length: int = 10,
    **config: Any,
) -> Path:
    """A run folder with the files that the report reads. The variant is taken from its path unless it is given."""
    run = folder / place / f"seed-{seed}"
    run.mkdir(parents=True)
    content = {
        "experiment": "e",
        "variant": Path(place).name,
        "seed": seed,
        "data": {"corpus": {"train": "/a/b/c.txt"}},
    } | config
    OmegaConf.save(OmegaConf.create(content), run / "config.yaml")
    OmegaConf.save(OmegaConf.create(["model=tiny", f"seed={seed}", *overrides]), run / "overrides.yaml")
    environment = {"commit": "abc", "device": "CPU", "platform": "here", "packages": {"torch": "2"}}
    (run / "environment.jsonl").write_text(json.dumps(environment) + "\n")
    tokenizer().save(str(run / "tokenizer.json"))
    metrics = {"val/loss": loss, "val/perplexity": math.exp(loss), "val/mean_abs_cosine/mlp_out/mean": loss / 10,
               "val/mean_abs_cosine/mlp_out/layer_0": loss / 10, "val/mean_abs_cosine/mlp_out/layer_1": loss / 9,
               "train/ce": loss, "val/tokens": 400}  # fmt: skip
    steps = [
        {"step": step, **metrics, "val/loss": loss + 1 - step / 10, "train/ce": loss + 1 - step / 10}
        for step in (1, 5, 10)
    ]
    (run / "metrics.jsonl").write_text("".join(json.dumps(entry) + "\n" for entry in steps))
    if finished:
        summary = {"steps": length, "tokens": 50, "seconds": 1.0, "tokens_per_second": 50.0, "unigram_entropy": 5.0,
                   "ngrams": {"validation": {"seen": list(NGRAMS), "split": [n - 0.1 for n in NGRAMS]}}}  # fmt: skip
        (run / "summary.json").write_text(json.dumps(summary | {"metrics": metrics}))
    return run


def tokenizer() -> Tokenizer:
    """One word per token."""
    made = Tokenizer(models.WordLevel({word: i for i, word in enumerate(WORDS)}, unk_token="the"))
    made.pre_tokenizer = pre_tokenizers.Whitespace()
    return made


def evaluate(run: Path, seed: int, shift: float = 0.0, subject: str = TRAINED) -> None:
    """The evaluation of a run whose neuron ``CAT`` fires on the word "cat"; the other neurons are random."""
    generator = np.random.default_rng(seed)
    tokens = np.tile(np.r_[generator.integers(1, len(WORDS), LENGTH - 1), 0], STORIES).astype(np.uint16)
    offsets = np.arange(STORIES + 1) * LENGTH
    arrays: dict[str, dict[str, Array]] = {
        "contexts": {"tokens": Array(tokens, ("packed",)), "offsets": Array(offsets, ("story",))}
    }
    parts: dict[str, dict[str, float]] = {
        "contexts": {"window_before": BEFORE, "window_after": AFTER, "k": RANK},
        "performance": {"loss": 1 + shift, "bits_per_byte": 0.5 + shift},
        "selectivity": {
            "selectivity_top5_weighted/mlp.post/mean": 0.5 + shift + seed / 1000,
            "type_entropy_deficit/mlp.post/mean": 0.2 + shift,
        },
        "geometry": {"mean_squared_correlation_excess/mlp.post/mean": 0.1 - shift / 10},
    }
    for site, width in WIDTH.items():
        for part, found in _site(site, width, tokens, generator).items():
            arrays.setdefault(part, {}).update({f"{site}/{name}": array for name, array in found.items()})
    losses = generator.normal(9, 1, STORIES) + shift * LENGTH
    arrays["performance"] = {
        "story/nll": Array(losses, ("story",)),
        "story/tokens": Array(np.full(STORIES, LENGTH, np.int32), ("story",)),
    }
    arrays.setdefault("geometry", {})["sample/place"] = Array(np.arange(30), ("sample",))
    of = {"data": "d", "tokenizer": "t"}
    for part in arrays:
        about = {"of": of, "settings": {}, "cost": {}, "environment": {}}
        write(Evaluation(run, "validation", subject), part, Result(parts.get(part, {}), arrays[part]), about)


def _site(site: str, width: int, tokens: np.ndarray, generator: np.random.Generator) -> dict[str, dict[str, Array]]:
    cats = np.flatnonzero(tokens == WORDS.index("cat"))
    place = generator.integers(0, len(tokens), (width, RANK)).astype(np.int32)
    activation = -np.sort(-generator.random((width, RANK)).astype(np.float32), axis=1)
    window = generator.random((width, RANK, BEFORE + 1 + AFTER)).astype(np.float16) / 4
    window[:, :, BEFORE] = activation
    types = generator.integers(3, len(WORDS), (width, 5)).astype(np.int32)
    selectivity = generator.random(width).astype(np.float32) * 0.9
    if width > CAT:
        if len(cats):
            place[CAT] = np.resize(cats, RANK)
        types[CAT], selectivity[CAT] = [WORDS.index("cat"), -1, -1, -1, -1], 0.99
    local = place % LENGTH
    for k in range(BEFORE + 1 + AFTER):
        outside = (local + k - BEFORE < 0) | (local + k - BEFORE >= LENGTH)
        window[:, :, k][outside] = np.nan
    ablation = np.where(np.arange(width) % 2, np.nan, generator.random(width)).astype(np.float32)
    firing = generator.random(width).astype(np.float32)
    return {
        "selectivity": {
            "neuron/selectivity_top5": Array(selectivity, ("width",)),
            "top_types": Array(types, ("width", "rank")),
            "top_types_share": Array(np.full((width, 5), 0.2, np.float32), ("width", "rank")),
        },
        "utilisation": {
            "neuron/firing_rate": Array(firing, ("width",)),
            "histogram": Array(generator.integers(0, 99, (width, BINS)).astype(np.uint32), ("width", "bin")),
            "histogram_edges": Array(np.tile(np.float32([-1, 2]), (width, 1)), ("width", "edge")),
        },
        "causality": {"neuron/ablation": Array(ablation, ("width",))},
        "effects": {
            "promoted": Array(types[:, :3], ("width", "rank")),
            "promoted_logit": Array(np.ones((width, 3), np.float32), ("width", "rank")),
        },
        "geometry": {
            "cosine": Array(np.eye(min(width, 12), dtype=np.float16), ("width", "width")),
            "sample": Array(generator.normal(size=(30, min(width, 12))).astype(np.float16), ("sample", "width")),
        },
        "contexts": {
            "top_place": Array(place, ("width", "rank")),
            "top_activation": Array(activation, ("width", "rank")),
            "top_window": Array(window, ("width", "rank", "window")),
        },
    }


def section(text: str, title: str) -> str:
    """The text of a report below a heading."""
    return text.partition(f"## {title}\n")[2].partition("\n## ")[0]


def configured(*overrides: str) -> Any:
    """The report's configuration."""
    with initialize_config_dir(conf_dir(), version_base="1.3"):
        return compose("report", list(overrides))


Write = Callable[..., Path]


@pytest.fixture
def written_run(tmp_path: Path) -> Write:
    """Function that writes runs below ``tmp_path``."""
    return lambda *arguments, **options: write_run(tmp_path, *arguments, **options)


@pytest.fixture
def evaluate_run() -> Callable[..., None]:
    """Function that evaluates a run."""
    return evaluate


@pytest.fixture
def reported(tmp_path: Path) -> Callable[..., Analysis]:
    """Function that reports the runs below ``tmp_path``, without drawing the figures, which takes most of the time."""
    return lambda *overrides: report_undrawn(tmp_path, *overrides)


def report_undrawn(folder: Path, *overrides: str) -> Analysis:
    """The report of the runs below a folder, without figures."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(plots, "save", lambda figure, path: plt.close(figure))
        return report(configured(f"runs={folder}", *overrides))


@pytest.fixture(scope="module")
def reported_once(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., tuple[Path, Analysis]]:
    """Function that reports the runs that ``write(write_run)`` writes, for all tests of a module."""

    def once(write: Callable[[Write], None]) -> tuple[Path, Analysis]:
        folder = tmp_path_factory.mktemp("reported")
        write(lambda *arguments, **options: write_run(folder, *arguments, **options))
        return folder, report_undrawn(folder)

    return once


@pytest.fixture(scope="session")
def evaluated_runs(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Analysis]:
    """Three variants with two seeds each, evaluated, and their report."""
    folder = tmp_path_factory.mktemp("evaluated")
    for v, (variant, overrides) in enumerate({"baseline": (), "l1_1e-3": ("regularizer=l1", "l1.weight=1e-3"),
                                              "l1_1e-2": ("regularizer=l1", "l1.weight=1e-2")}.items()):  # fmt: skip
        for seed in (42, 43):
            run = write_run(folder, variant, seed, 1 + v / 50 + seed / 1000 * v, overrides=overrides)
            evaluate(run, seed, v / 50)
            evaluate(run, seed, v / 90, ROTATION)
            if not v:
                evaluate(run, seed, 1.0, RANDOM_INIT)
    return folder, report(configured(f"runs={folder}", "rating.neurons=30"))


@pytest.fixture(scope="session")
def one_chromium() -> Iterator[Any]:
    """One browser for all tests. Its class is loaded from the file next to this one, since tests are not a package."""
    spec = importlib.util.spec_from_file_location("tests_chromium", Path(__file__).with_name("chromium.py"))
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    if module.binary() is None:
        pytest.skip("no Chromium here (Debian: apt-get install chromium): the pages are not looked at in a browser")
    browser = module.Chromium()
    yield browser
    browser.close()


@pytest.fixture
def chromium(one_chromium: Any) -> Iterator[Any]:
    """A browser; console errors, failed loads and network requests fail the test."""
    one_chromium.problems.clear()
    one_chromium.size(1280, 800)
    yield one_chromium
    assert one_chromium.problems == []
