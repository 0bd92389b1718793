"""The pinned runs: how they are made, and which of their figures are pinned."""

import json
import os
import platform
import random
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

HERE = Path(__file__).parent
FILE = HERE / "golden.json"
WORDS = ["the", "a", "cat", "dog", "ball", "saw", "took", "lost", "red", "big", "happy", "sad", "ran", "and", "then"]

Figures = dict[str, dict[str, float]]
"""Run -> ``val/loss`` and every weighted term, at the first and the last step that logged it."""


def machine() -> dict[str, str]:
    """The hardware and versions that determine the last digits of a run."""
    lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    capability = torch.backends.cpu.get_cpu_capability()
    return {"cpu": (names or [platform.processor()])[0], "capability": capability, "torch": torch.__version__}


def write_stories(folder: Path) -> None:
    """A corpus that is independent of the project: random words with preferred successors."""
    rng = random.Random(0)
    for name, count in (("stories.txt", 200), ("valid.txt", 20)):
        stories = []
        for _ in range(count):
            word, story = rng.choice(WORDS), []
            for _ in range(rng.randint(5, 40)):
                story.append(word)
                word = WORDS[(7 * WORDS.index(word) + rng.choice([1, 1, 1, 2, 5])) % len(WORDS)]
            stories.append(" ".join(story))
        (folder / name).write_text("\n<|endoftext|>\n".join(stories) + "\n<|endoftext|>\n")


def run(folder: Path, environment: Mapping[str, str] = {}) -> Figures:
    """Train all pinned runs in one process, and return their pinned figures."""
    write_stories(folder)
    done = subprocess.run(
        [sys.executable, "-m", "tti.train", "--config-dir", str(HERE), "-m", "experiment=golden"],
        cwd=folder,
        env=os.environ | {"TTI_CACHE": str(folder / "cache"), "OMP_NUM_THREADS": "1"} | environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert done.returncode == 0, done.stdout
    runs = sorted((folder / "runs" / "golden").glob("*/seed-42/metrics.jsonl"))
    return {path.parts[-3]: _pinned(path) for path in runs}


def _pinned(path: Path) -> dict[str, float]:
    first: dict[str, float] = {}
    last: dict[str, float] = {}
    for line in path.read_text().splitlines():
        entry: dict[str, Any] = json.loads(line)
        for name in (name for name in entry if name == "val/loss" or name.endswith("_weighted")):
            first.setdefault(f"{name} first", entry[name])
            last[f"{name} last"] = entry[name]
    return dict(sorted((first | last).items()))
