import json
from pathlib import Path

import pytest
from omegaconf import OmegaConf

from tti import runs
from tti.durable import write_atomically
from tti.runs import Run, find


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """A run that has begun."""
    each = Run(tmp_path / "runs/demo/baseline/seed-1")
    each.folder.mkdir(parents=True)
    each.begin(OmegaConf.create({"seed": 1, "optimizer": {"lr": 0.1}, "threads": 2}), ["seed=1"], overwrite=False)
    return each


def log(run: Run, *lines: object) -> None:
    text = "".join((line if isinstance(line, str) else json.dumps(line)) + "\n" for line in lines)
    (run.folder / "metrics.jsonl").write_text(text)


def test_status_follows_what_is_in_the_folder(run, tmp_path):
    assert Run(tmp_path / "nothing").status == "not started"
    assert run.status == "unfinished"
    run.fail(ValueError("why"))
    assert (run.status, run.failure) == ("failed", "ValueError: why")
    run.finish({"steps": 3})
    assert (run.status, run.summary) == ("finished", {"steps": 3})


def test_a_failure_is_forgotten_when_it_starts_again(run):
    run.fail(ValueError("why"))
    Run(run.folder).begin(run.config, [], overwrite=False)
    assert run.status == "unfinished"
    assert run.failure == ""


def test_metrics_merge_by_step_and_the_last_counts(run):
    log(
        run,
        {"step": 1, "a": 1.0},
        {"step": 2, "a": 2.0},
        {"step": 2, "b": 5.0},
        '{"step": 3, "a',
        {"step": 2, "a": 3.0},
    )
    assert run.metrics() == [{"step": 1, "a": 1.0}, {"step": 2, "a": 3.0, "b": 5.0}]


def test_without_a_log_there_are_no_metrics(run):
    assert run.metrics() == []


def test_a_folder_without_a_run_names_those_nearby(run):
    with pytest.raises(ValueError, match=r"holds no run \(no config.yaml\)\. Runs nearby: .*seed-1"):
        _ = Run(run.folder.parent / "seed-9").config


def test_what_an_unfinished_run_lacks_is_said(run):
    with pytest.raises(ValueError, match="is unfinished: start it again to finish it"):
        _ = run.summary
    with pytest.raises(ValueError, match="stopped before training began"):
        _ = run.tokenizer
    with pytest.raises(ValueError, match="has no checkpoint 'last'; it has: none"):
        run.model()
    assert run.last_checkpoint is None
    assert run.checkpoint_step == 0


def test_another_configuration_is_refused_key_by_key(run):
    other = OmegaConf.create({"seed": 1, "optimizer": {"lr": 0.2}, "added": "x", "threads": 9})
    with pytest.raises(ValueError, match="holds a run of another configuration") as raised:
        Run(run.folder).begin(other, [], overwrite=False)
    lines = str(raised.value).splitlines()
    assert lines[1:3] == ["  added: - there, x wanted", "  optimizer.lr: 0.1 there, 0.2 wanted"]
    assert "overwrite=true" in lines[-1]
    assert Run(run.folder).config.optimizer.lr == 0.1


def test_overwriting_leaves_nothing_of_the_old_run(run):
    (run.folder / "checkpoints").mkdir()
    (run.folder / "metrics.jsonl").touch()
    Run(run.folder).begin(OmegaConf.create({"seed": 2}), ["seed=2"], overwrite=True)
    assert {path.name for path in run.folder.iterdir()} == {
        "config.yaml",
        ".start.yaml",
        "overrides.yaml",
        "environment.jsonl",
    }
    assert Run(run.folder).config.seed == 2


def test_a_claimed_folder_is_refused_and_free_again_afterwards(run):
    with run.claimed(), pytest.raises(ValueError, match="another process is training in"), Run(run.folder).claimed():
        pass
    with Run(run.folder).claimed():
        pass


def test_every_start_is_recorded(run):
    run.begin(run.config, ["seed=1", "overwrite=false"], overwrite=False)
    assert len((run.folder / "environment.jsonl").read_text().splitlines()) == 2
    assert run.environment["command"] == "python -m tti.train seed=1 overwrite=false"


def test_a_truncated_checkpoint_is_no_checkpoint(run):
    (run.folder / "checkpoints").mkdir()
    (run.folder / "checkpoints/last.ckpt").write_bytes(b"PK\x03\x04 half of it")
    with pytest.raises(ValueError, match=r"last\.ckpt is damaged\. Copy best\.ckpt over it"):
        _ = run.last_checkpoint


def test_runs_are_found_below_a_folder(run, tmp_path):
    assert find(tmp_path / "runs") == [run]
    with pytest.raises(ValueError, match="no runs in"):
        find(tmp_path / "nowhere")


def test_a_file_is_written_whole_or_not_at_all(tmp_path, monkeypatch):
    path = tmp_path / "summary.json"
    write_atomically(path, "one")
    monkeypatch.setattr(runs.os, "fsync", lambda _: (_ for _ in ()).throw(OSError("no space left")))
    with pytest.raises(OSError, match="no space left"):
        write_atomically(path, "two")
    assert path.read_text() == "one"


def test_what_a_kill_leaves_of_a_run_that_is_cleared_passes_for_no_other(run, monkeypatch):
    run.finish({"steps": 3})
    unlink, removed = Path.unlink, []

    def killed(self: Path, missing_ok: bool = False) -> None:
        unlink(self, missing_ok)
        removed.append(self.name)
        if self.name == "environment.jsonl":
            raise SystemExit("kill -9")

    monkeypatch.setattr(Path, "unlink", killed)
    with pytest.raises(SystemExit):
        Run(run.folder).begin(OmegaConf.create({"seed": 2}), [], overwrite=True)
    monkeypatch.undo()
    left = Run(run.folder)
    assert removed[0] == "summary.json"
    assert (left.status, left.config.seed) == ("unfinished", 1)
    with pytest.raises(ValueError, match="holds a run of another configuration"):
        left.begin(OmegaConf.create({"seed": 2}), [], overwrite=False)


def test_results_without_a_configuration_are_nobodys(run):
    run.finish({"steps": 3})
    (run.folder / "config.yaml").unlink()
    with pytest.raises(ValueError, match=r"has a summary\.json, but no config\.yaml"):
        Run(run.folder).begin(OmegaConf.create({"seed": 2}), [], overwrite=False)
    Run(run.folder).begin(OmegaConf.create({"seed": 2}), [], overwrite=True)
    assert Run(run.folder).status == "unfinished"


def test_overwriting_leaves_what_no_run_wrote(run):
    (run.folder / "notes").mkdir()
    Run(run.folder).begin(OmegaConf.create({"seed": 2}), [], overwrite=True)
    assert (run.folder / "notes").is_dir()


def test_a_try_that_failed_before_its_first_step_does_not_hold_the_folder(run):
    run.fail(ValueError("d_model is not a multiple of n_heads"))
    Run(run.folder).begin(OmegaConf.create({"seed": 2}), ["seed=2"], overwrite=False)
    assert (Run(run.folder).status, Run(run.folder).config.seed) == ("unfinished", 2)
    log(run, {"step": 1, "a": 1.0})
    run.fail(ValueError("later"))
    with pytest.raises(ValueError, match="holds a run of another configuration"):
        Run(run.folder).begin(OmegaConf.create({"seed": 3}), [], overwrite=False)


def test_a_line_that_a_full_disk_cut_short_is_left_out_and_ended(run):
    path = run.folder / "environment.jsonl"
    path.write_text(path.read_text()[:-40])
    assert run.environment["command"] == "unknown"
    run.begin(run.config, ["seed=1"], overwrite=False)
    assert run.environment["command"] == "python -m tti.train seed=1"
    path.unlink()
    assert run.environment["packages"] == {"torch": "unknown"}


@pytest.mark.parametrize("name", ["summary.json", "failure.json"])
def test_a_damaged_file_is_named(run, name):
    run.fail(ValueError("why"))
    if name == "summary.json":
        run.finish({})
    (run.folder / name).write_text('{"steps": 3')
    with pytest.raises(ValueError, match=f"{name} is damaged: it is not a JSON object"):
        _ = run.summary if name == "summary.json" else run.failure
