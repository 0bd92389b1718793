"""A court in seconds."""

from collections.abc import Callable
from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir
from omegaconf import DictConfig

from tti.configuration import conf_dir

KNOWN = "+evaluation.known={_target_: tests.court.known.Known, subjects: [trained]}"


@pytest.fixture(scope="session")
def court_config(tmp_path_factory) -> Callable[..., DictConfig]:
    """The configuration of ``python -m tti.court trial=small``, in a folder of its own."""

    def composed(*overrides: str, folder: Path | None = None) -> DictConfig:
        with initialize_config_dir(conf_dir(), version_base=None):
            config = compose("court", ["trial=small", *overrides])
        config.folder = str(folder or tmp_path_factory.mktemp("court"))
        return config

    return composed
