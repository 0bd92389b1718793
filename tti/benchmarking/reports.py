"""The cost of a report over many runs."""

import json
import resource
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from omegaconf import OmegaConf

from tti.benchmarking.clocks import Clock
from tti.benchmarking.growth import Panel, Point
from tti.benchmarking.memory import in_a_process
from tti.benchmarking.progress import shown
from tti.benchmarking.setting import Setting

SEEDS = 3  # of each variant
TOLD = ("config.yaml", "summary.json")  # in which copies differ


class Reports:
    """Reports of copies of one small run, which was trained and evaluated here: every three runs are a variant.

    Args:
        title: of the panel.
        amount: what is counted, ``runs`` or ``neurons`` (of all MLPs).
        runs: numbers of runs.
        overrides: of the training. The command line's overrides do not apply.
        variants: further overrides, each of a training of its own.
        parts: of the evaluation.
        grows: how the cost should grow.
    """

    def __init__(
        self,
        title: str,
        amount: str,
        runs: Sequence[int],
        overrides: Sequence[str],
        variants: Sequence[Sequence[str]],
        parts: Sequence[str],
        grows: str,
    ) -> None:
        self.title, self.amount, self.runs, self.overrides = title, amount, sorted(runs), overrides
        self.variants, self.parts, self.grows = variants, parts, grows

    def __call__(self, setting: Setting, clock: Clock) -> Panel:
        """The panel."""
        points = [self._points(overrides) for overrides in shown(self.variants, self.title)]
        return Panel(self.title, self.amount, "s", tuple(point for each in points for point in each), (self.grows,))

    def _points(self, overrides: Sequence[str]) -> list[Point]:
        points = []
        with TemporaryDirectory() as folder:
            one = Path(folder) / "one"
            _run("train", *self.overrides, *overrides, f"run_dir={one}")
            _run("evaluate", f"run={one}", f"parts=[{','.join(self.parts)}]", "subjects=[trained]", "threads=1")
            model = OmegaConf.load(one / "config.yaml").model
            neurons = model.n_layers * model.d_model * 4
            for runs in self.runs:
                copied = copies(one, Path(folder) / f"of_{runs}", runs)
                seconds, mib = in_a_process(cost, copied)
                points.append(Point("report", {"runs": runs, "neurons": neurons}[self.amount], seconds, mib))
        return points


def copies(run: Path, to: Path, count: int) -> Path:
    """``count`` copies of a finished run, as variants with three seeds; their losses differ a little."""
    draw = np.random.default_rng(0)
    for number in range(count):
        variant, seed = f"v{number // SEEDS}" if number >= SEEDS else "baseline", number % SEEDS
        folder = to / variant / f"seed-{seed}"
        shutil.copytree(run, folder, ignore=shutil.ignore_patterns("checkpoints", *TOLD))
        config, summary = OmegaConf.load(run / TOLD[0]), json.loads((run / TOLD[1]).read_text())
        config.update(experiment=to.name, name=None, variant=variant, seed=seed)
        OmegaConf.save(config, folder / TOLD[0])
        summary["metrics"]["val/loss"] += draw.normal(0, 0.01)
        (folder / TOLD[1]).write_text(json.dumps(summary))
    return to


def cost(runs: Path) -> tuple[float, float]:
    """CPU seconds and peak MiB of a report, the only command that this process runs."""
    _run("report", f"runs={runs}")
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime, used.ru_maxrss / (2**20 if sys.platform == "darwin" else 2**10)


def _run(command: str, *overrides: str) -> None:
    """Run one of our commands.

    Raises:
        ValueError: it failed; with its output.
    """
    done = subprocess.run(
        [sys.executable, "-m", f"tti.{command}", *overrides], capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise ValueError(f"python -m tti.{command} {' '.join(overrides)} failed:\n{done.stdout}{done.stderr}".strip())
