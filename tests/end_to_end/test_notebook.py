"""The notebook runs offline from its first cell to its last."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SHORTER = [("trainer.max_steps=200", "trainer.max_steps=20"), ('"experiment=demo",', '"experiment=demo", *SMALL,')]
SMALL = "SMALL = ['data.corpus.train=300', 'data.corpus.validation=40', 'data.corpus.test=20', 'model.d_model=32']\n"


@pytest.mark.nightly
def test_the_notebook_runs_offline_and_its_export_is_the_same_model(tmp_path, cache_dir):
    cells = json.loads((ROOT / "notebooks/quickstart.ipynb").read_text())["cells"]
    assert not any(cell.get("outputs") for cell in cells)
    text = "\n".join("".join(cell["source"]) for cell in cells if cell["cell_type"] == "code")
    for written, shorter in SHORTER:
        assert written in text
        text = text.replace(written, shorter)
    environment = {
        **os.environ, "MPLBACKEND": "Agg", "HF_HUB_OFFLINE": "1", "TTI_CACHE": str(cache_dir), "PYTHONPATH": str(ROOT),
        "OMP_NUM_THREADS": "1",
    }  # fmt: skip
    done = subprocess.run(
        [sys.executable, "-c", SMALL + text], cwd=tmp_path, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    difference = float(done.stdout.rpartition("largest difference of the logits: ")[2])
    assert difference < 1e-4
