"""Modal by hand: `modal run scripts/modal_app.py::NAME ARGUMENTS`. Sweeps take `hydra/launcher=modal` instead.

    cache_dataset [OVERRIDES]   tokenize the corpus of a configuration (TinyStories) once, into the volume tti-data
    train OVERRIDES             one run, through the launcher: checked, followed, fetched
    evaluate ARGUMENTS          python -m tti.evaluate on runs of the volume, on a GPU
    report ARGUMENTS            python -m tti.report on runs of the volume
    fetch FOLDER...             run folders, or folders of them, from the volume to this machine

The volume mirrors the folder that commands are started in, so that run folders are called the same there and here.
"""

import subprocess
import sys
from pathlib import Path

from tti.launchers import app as remote
from tti.launchers.volume import fetch_run, runs_below

app = remote.app


@app.local_entrypoint()
def cache_dataset(*overrides: str) -> None:
    """Tokenize a corpus into the volume."""
    for split, stories in remote.cache.remote(list(overrides)).items():
        print(f"{split}: {stories:,} stories")


@app.local_entrypoint()
def train(*overrides: str) -> None:
    """One run."""
    command = [sys.executable, "-m", "tti.train", "-m", "hydra/launcher=modal", *overrides]
    sys.exit(subprocess.run(command, check=False).returncode)


@app.local_entrypoint()
def evaluate(*arguments: str) -> None:
    """Evaluate runs where they lie."""
    sys.exit(remote.evaluate.remote(list(arguments)))


@app.local_entrypoint()
def report(*arguments: str) -> None:
    """Compare runs where they lie."""
    sys.exit(remote.report.remote(list(arguments)))


@app.local_entrypoint()
def fetch(*folders: str) -> None:
    """Copy run folders here, whole."""
    for folder in folders:
        found = runs_below(remote.checkpoints, folder)
        if not found:
            sys.exit(f"no runs in tti-checkpoints:{folder}; `modal volume ls tti-checkpoints` shows what there is")
        for run in found:
            print(run)
            fetch_run(remote.checkpoints, run, Path(run), leave=())
