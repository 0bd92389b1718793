"""Runs of the real command line, small enough to start many of them."""

import multiprocessing
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE))  # the fork server imports `commands` by its name

import commands  # noqa: E402


@pytest.fixture(scope="session")
def fork_server() -> Any:
    """A process that has imported everything; see `commands`."""
    os.environ["OMP_NUM_THREADS"] = "1"  # read when torch is imported there
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(commands.PRELOADED)
    return context


@pytest.fixture(scope="session")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The token cache that all runs of a session share."""
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="session")
def commands_in(fork_server: Any, cache: Path) -> Callable[[Path], commands.Commands]:
    """Commands that run in a given folder."""
    environment = {
        "TTI_CACHE": str(cache),
        "OMP_NUM_THREADS": "1",
        "PYTHONPATH": str(HERE / "additions"),
        "HF_HUB_OFFLINE": "1",
        "WANDB_SILENT": "true",
    }
    return lambda folder: commands.Commands(fork_server, folder, environment)


@pytest.fixture
def tti(commands_in: Callable[[Path], commands.Commands], tmp_path: Path) -> commands.Commands:
    """`python -m tti.train` in a folder for this test."""
    return commands_in(tmp_path)
