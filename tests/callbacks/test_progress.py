import json
from pathlib import Path
from types import SimpleNamespace

import pytest

from tti.callbacks.progress import SHOWN, TrainingProgress


def steps(progress: TrainingProgress, latest: dict[str, float], count: int = 3) -> None:
    trainer = SimpleNamespace(global_step=0, max_steps=count)
    module = SimpleNamespace(journal=SimpleNamespace(latest=latest))
    progress.on_train_start(trainer, module)  # type: ignore[arg-type]
    for _ in range(count):
        trainer.global_step += 1
        progress.on_train_batch_end(trainer, module)  # type: ignore[arg-type]
    progress.on_train_end(trainer, module)  # type: ignore[arg-type]


LATEST = dict.fromkeys(SHOWN.values(), 1.5)


def shown(folder: Path, line_every: float, name: str = "run") -> TrainingProgress:
    return TrainingProgress(name, line_every, str(folder / "progress.json"))


def test_where_there_is_no_terminal_it_writes_lines(capfd: pytest.CaptureFixture[str], tmp_path: Path):
    steps(shown(tmp_path, line_every=0, name="demo/baseline"), LATEST)
    lines = capfd.readouterr().err.splitlines()
    first = next(line for line in lines if "step 1/3" in line)
    assert first.startswith("demo/baseline: step 1/3, ")
    assert " s left, " in first
    assert all(f"{label} 1.5" in first for label in SHOWN)


def test_lines_come_now_and_then(capfd: pytest.CaptureFixture[str], tmp_path: Path):
    steps(shown(tmp_path, line_every=1000), LATEST, count=5)
    assert capfd.readouterr().err.count("step ") <= 1


def test_without_figures_there_is_no_line(capfd: pytest.CaptureFixture[str], tmp_path: Path):
    steps(shown(tmp_path, line_every=0), {})
    assert "step" not in capfd.readouterr().err


def test_other_processes_are_quiet(capfd: pytest.CaptureFixture[str], tmp_path: Path):
    progress = shown(tmp_path, line_every=0)
    progress.disable()
    steps(progress, LATEST)
    assert "step" not in capfd.readouterr().err


def test_a_file_says_how_far_it_is(tmp_path: Path):
    steps(shown(tmp_path, line_every=0), LATEST)
    assert [path.name for path in tmp_path.iterdir()] == ["progress.json"]
    far = json.loads((tmp_path / "progress.json").read_text())
    assert far.pop("seconds_left") == 0
    assert far == {"step": 3, "max_steps": 3, **LATEST}
