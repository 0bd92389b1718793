"""Startup imports: nothing that takes seconds, for `--help` and for a finished run."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tti import __main__, configuration

ROOT = Path(__file__).parents[1]
SLOW = {
    "torch", "lightning", "transformers", "datasets", "pyarrow", "pandas", "scipy", "matplotlib", "wandb",
    "tensorboard", "modal", "sklearn", "spacy", "sae_lens", "torchmetrics",
}  # fmt: skip


def imported(module: str, *arguments: str, folder: Path = ROOT) -> tuple[set[str], str]:
    """The packages that a command imports, and its output."""
    command = [sys.executable, "-X", "importtime", "-m", module, *arguments]
    environment = os.environ | {"PYTHONPATH": str(ROOT), "HF_HUB_OFFLINE": "1"}
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=True)
    names = {name.partition(".")[0] for name in re.findall(r"\| +(\S+)$", done.stderr, re.MULTILINE)}
    assert {"tti", "hydra"} <= names  # otherwise this test finds nothing
    return names, done.stdout + done.stderr


@pytest.mark.parametrize("name", __main__.commands())
def test_help_imports_nothing_that_takes_seconds(name):
    names, said = imported(f"tti.{name}", "--help")
    assert f"python -m tti.{name}" in said
    assert names & SLOW == set()


def test_nor_does_a_finished_run(tmp_path):
    given = ["model=tiny", "model.d_model=16", "data=grammar", "data.corpus.train=40", "data.corpus.validation=10"]
    given += ["data.corpus.test=null", "data.stories_per_step=2", "trainer.max_steps=1", "name=done"]
    subprocess.run([sys.executable, "-m", "tti.train", *given], cwd=tmp_path, check=True, capture_output=True,
                   env=os.environ | {"PYTHONPATH": str(ROOT)})  # fmt: skip
    names, said = imported("tti.train", *given, folder=tmp_path)
    assert "has finished already" in said
    assert names & SLOW == set()


def test_nor_does_what_starts_a_training_at_modal():
    """It imports torch in a separate process; importing it twice would cost money."""
    code = "import sys, tti.launchers.app, tti.launchers.remote; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], env=os.environ | {"PYTHONPATH": str(ROOT)}, capture_output=True,
                          text=True, check=True)  # fmt: skip
    assert set(done.stdout.split()) & (SLOW - {"modal"}) == set()


def test_torch_is_asked_for_a_gpu_where_there_is_a_driver_only(monkeypatch):
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    for driver in (True, False):
        monkeypatch.setattr(configuration, "_may_have_cuda", lambda driver=driver: driver)
        assert configuration._has_cuda() is driver
