"""A small training to benchmark."""

from pathlib import Path

import pytest

from tti.benchmarking.setting import Setting

SMALL = (
    "model=tiny", "model.d_model=16", "data=grammar_small", "data.corpus.train=60", "data.corpus.validation=20",
    "data.corpus.test=10", "data.stories_per_step=12", "task.compile=false", "trainer.precision=32-true",
    "trainer.accelerator=cpu", "trainer.max_steps=100",
)  # fmt: skip


@pytest.fixture(scope="session")
def setting(cache_dir: Path) -> Setting:
    """Two steps of 5 of 12 stories, on the CPU in float32."""
    return Setting(SMALL, stories=5, steps=2, threads=1)


@pytest.fixture(scope="session")
def still(setting: Setting) -> Setting:
    """The same setting without dropout."""
    return setting.having("model.dropout=0", "model.attention_dropout=0")
