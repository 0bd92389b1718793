"""Shared fixtures: composed configurations, small networks, flat batches, a small corpus, and the real one."""

import os
import signal
import tempfile
from collections.abc import Callable, Iterator, Sequence
from copy import deepcopy
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from hydra import compose as hydra_compose
from hydra import initialize_config_dir
from hydra.utils import instantiate
from omegaconf import DictConfig
from torch import Tensor, nn
from transformers import dynamic_module_utils

from tests.tiers import nightly_but
from tti.configuration import conf_dir
from tti.data.module import StoryData
from tti.models.gpt import GPT
from tti.models.stories import Separate, Stories
from tti.step import Batch, Step

Compose = Callable[..., DictConfig]
VOCAB = 37


@pytest.fixture(scope="session", autouse=True)
def cache_dir(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder for all token caches of the tests, never the user's."""
    folder = tmp_path_factory.mktemp("cache")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TTI_CACHE", str(folder))
        yield folder


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder of real data (TinyStories, GPT-2's tokenizer): $TTI_DATA, or ../shared/data next to the checkout."""
    folder = Path(os.environ.get("TTI_DATA", Path(__file__).parents[2] / "shared" / "data"))
    if not (folder / "tinystories").is_dir():
        pytest.skip(f"no real data in {folder} (set TTI_DATA)")
    return folder


@pytest.fixture(scope="session")
def compose() -> Compose:
    """``compose("model=tiny", ...)``: the configuration of ``python -m tti.train`` with these overrides."""

    @cache  # composing takes half a second
    def composed(*overrides: str) -> DictConfig:
        with initialize_config_dir(conf_dir(), version_base=None):
            return hydra_compose("train", list(overrides))

    return lambda *overrides: deepcopy(composed(*overrides))


def options(group: str) -> list[str]:
    """The options of a configuration group, listed from its files, so that new ones are tested automatically."""
    return sorted(path.stem for path in Path(conf_dir(), group).glob("*.yaml"))


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run a test marked ``@pytest.mark.each_option("model/mlp")`` for every YAML of that group, as ``option``.

    With ``daily=["topk"]`` the others run by `make nightly` only.
    """
    for mark in metafunc.definition.iter_markers("each_option"):
        found = options(*mark.args)
        metafunc.parametrize(mark.kwargs.get("name", "option"), nightly_but(mark.kwargs.get("daily", found), found))


def pytest_configure(config: pytest.Config) -> None:
    """Register the mark, and unblock SIGINT: tests interrupt processes, and a shell's background jobs ignore it.

    transformers copies the code in exports into a folder of these tests: in this process, which has imported it
    already, and in processes that tests start.
    """
    modules = tempfile.TemporaryDirectory()
    config.add_cleanup(modules.cleanup)
    os.environ["HF_MODULES_CACHE"] = dynamic_module_utils.HF_MODULES_CACHE = modules.name
    if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    config.addinivalue_line(
        "markers", "each_option(group, name='option', daily=all): run for every YAML of a group, as that argument"
    )


@pytest.fixture(scope="session")
def make_net(compose: Compose) -> Callable[..., GPT]:
    """``make_net("model/mlp=topk")``: a very small network in evaluation mode, with the same weights every time.

    ``make_net("model=autoencoder")`` gives another network than a GPT.
    """

    def made(*overrides: str, seed: int = 0, **sizes: Any) -> GPT:
        small = {"vocab_size": VOCAB, "context": 32, "n_layers": 2, "d_model": 16, "n_heads": 2} | sizes
        model = [] if any(override.startswith("model=") for override in overrides) else ["model=tiny"]
        config = compose(*model, *overrides, *(f"model.{key}={value}" for key, value in small.items()))
        torch.manual_seed(seed)
        net: GPT = instantiate(config.model)
        return net.eval()

    return made


def make_batch(
    lengths: Sequence[int],
    layout: Callable[[Sequence[int]], Stories] = Separate.of,
    vocab: int = VOCAB,
    seed: int = 0,
) -> Batch:
    generator = torch.Generator().manual_seed(seed)
    tokens = torch.randint(vocab, (sum(lengths),), generator=generator)
    targets = torch.randint(vocab, (sum(lengths),), generator=generator)
    present, types = tokens.unique(return_inverse=True)
    return Batch(tokens, targets, layout(lengths), types, len(present), target_bytes=3 * len(tokens))


@pytest.fixture(scope="session", name="make_batch")
def make_batch_fixture() -> Callable[..., Batch]:
    """``make_batch([5, 3])``: a flat batch of random stories of these lengths, with types numbered within it."""
    return make_batch


def make_step(acts: Tensor, types: Sequence[int] | Tensor | None = None, n_types: int | None = None) -> Step:
    tokens = len(acts)
    rows = torch.arange(tokens) if types is None else torch.as_tensor(types)
    zeros = torch.zeros(tokens, dtype=torch.long)
    n_types = n_types if n_types is not None else int(rows.max()) + 1
    batch = Batch(zeros, zeros, Separate.of([tokens]), rows, n_types, target_bytes=4 * tokens)
    return Step(batch, torch.ones(tokens), {"blocks.0.mlp_out": acts}, nn.Identity())


@pytest.fixture(scope="session", name="make_step")
def make_step_fixture() -> Callable[..., Step]:
    """``make_step(acts, types)``: a step with these activations at its only site, ``blocks.0.mlp_out``."""
    return make_step


@pytest.fixture
def grammar_data(compose: Compose) -> StoryData:
    """The built-in corpus as ``data=grammar`` makes it, with few stories."""
    sizes = ("data.corpus.train=90", "data.corpus.validation=25", "data.corpus.test=10", "data.stories_per_step=12")
    data: StoryData = instantiate(compose("model=tiny", "data=grammar", "data.validation_tokens=700", *sizes).data)
    return data
