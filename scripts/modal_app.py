"""Modal by hand: `modal run scripts/modal_app.py::NAME ARGUMENTS`. For sweeps use `hydra/launcher=modal` instead.

    cache_dataset [OVERRIDES]   tokenize the corpus of a configuration (TinyStories) once, into the volume tti-data
    train OVERRIDES             one run, through the launcher: checked, followed, fetched
    evaluate ARGUMENTS          python -m tti.evaluate on runs of the volume, on a GPU
    report ARGUMENTS            python -m tti.report on runs of the volume
    fetch FOLDER...             run folders, or folders of them with their report, from the volume to this machine

The volume mirrors the folder in which commands are started, so that run folders have the same path there and here.
"""

import subprocess
import sys

from tti.launchers import app as remote
from tti.launchers.volume import fetch as fetch_folder

app = remote.app


@app.local_entrypoint()
def cache_dataset(*overrides: str) -> None:
    """Tokenize a corpus into the volume."""
    for split, stories in remote.cache.remote(list(overrides)).items():
        print(f"{split}: {stories:,} stories")


@app.local_entrypoint()
def train(*overrides: str) -> None:
    """Train one run."""
    command = [sys.executable, "-m", "tti.train", "-m", "hydra/launcher=modal", *overrides]
    sys.exit(subprocess.run(command, check=False).returncode)


@app.local_entrypoint()
def evaluate(*arguments: str) -> None:
    """Evaluate runs on the volume."""
    sys.exit(remote.evaluate.remote(list(arguments)))


@app.local_entrypoint()
def report(*arguments: str) -> None:
    """Compare runs on the volume."""
    code = remote.report.remote(list(arguments))
    if code == 0:
        print(
            "The report is on the volume. `modal run scripts/modal_app.py::fetch FOLDER` copies it here with its runs,"
        )
        print("`modal volume get tti-checkpoints FOLDER/report.html` its page alone.")
    sys.exit(code)


@app.local_entrypoint()
def fetch(*folders: str) -> None:
    """Copy whole folders of runs to this machine."""
    for folder in folders:
        runs = fetch_folder(remote.checkpoints, folder)
        if not runs:
            sys.exit(f"no runs in tti-checkpoints:{folder}; `modal volume ls tti-checkpoints` lists its folders")
        print("\n".join(runs))
