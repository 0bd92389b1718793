"""Stories of the grammar, and the configured parts."""

import pytest
from hydra import compose as hydra_compose
from hydra import initialize_config_dir
from hydra.utils import instantiate

from tti.configuration import conf_dir
from tti.evaluation.stories import StorySet


@pytest.fixture(scope="session")
def config():
    """The configuration of ``python -m tti.evaluate``."""
    with initialize_config_dir(conf_dir(), version_base=None):
        return hydra_compose("evaluate", ["run=none"])


@pytest.fixture(scope="session")
def grammar_stories(compose):
    """Validation stories of the grammar, 46 thousand tokens."""
    overrides = ["model=tiny", "data=grammar_small", "data.corpus.train=50"]
    return StorySet(instantiate(compose(*overrides).data), "validation", 2048)


@pytest.fixture(scope="session")
def few_stories(compose):
    """A few thousand tokens, in chunks of a few hundred."""
    overrides = ["model=tiny", "data=grammar", "data.corpus.train=50", "data.corpus.validation=30"]
    return StorySet(instantiate(compose(*overrides).data), "validation", 500)
