"""The functions of the Modal app, called directly; and the image, as far as its definition goes."""

from pathlib import Path

import pytest
from modal import exception

from tti.launchers import app, remote, source
from tti.launchers.volume import fetch, fetch_run, files, read, runs_below


@pytest.fixture
def home(tmp_path, monkeypatch):
    monkeypatch.setenv(remote.HOME, str(tmp_path))
    monkeypatch.setenv("TTI_CACHE", str(tmp_path / "data"))
    return tmp_path


def test_train_refuses_other_code(home):
    answer = app.train.local(["experiment=demo"], "run", {"source": "other", "commit": "unknown"})
    assert answer["status"] == "failed"
    assert f"this machine has other code ({source.digest()}) than asked for (other)" in answer["error"]
    assert not (home / "run").exists()


def test_train_does_what_the_command_line_does(home, monkeypatch):
    commands = []
    monkeypatch.setattr(remote, "command", lambda *arguments: commands.append(arguments) or (1, "error: no such thing"))
    origin = {"source": source.digest(), "commit": "abc-dirty"}
    answer = app.train.local(["experiment=expt1", "seed=43"], "runs/a=b,c", origin)
    overrides = ["experiment=expt1", "seed=43", "hydra.mode=RUN", "run_dir='runs/a=b,c'"]
    assert commands == [("tti.train", overrides, {"TTI_COMMIT": "abc-dirty"})]
    assert answer == {
        "status": "failed", "result": None, "error": "no such thing", "traceback": "error: no such thing"
    }  # fmt: skip


def test_cache_tokenizes_into_the_volume(home):
    sizes = ["data.corpus.train=30", "data.corpus.validation=8", "data.corpus.test=4"]
    assert app.cache.local(["model=tiny", "data=grammar", *sizes]) == {"train": 30, "validation": 8, "test": 4}
    assert len(list((home / "data").glob("grammar-*/manifest.json"))) == 3


def test_report_and_evaluate_are_the_command_lines(home, monkeypatch):
    commands = []
    monkeypatch.setattr(remote, "command", lambda *arguments: commands.append(arguments) or (0, ""))
    monkeypatch.setattr(remote, "find_spec", lambda name: name)
    assert app.report.local(["runs=runs/expt1"]) == app.evaluate.local(["runs=runs/expt1"]) == 0
    assert commands == [(f"tti.{name}", ["runs=runs/expt1"], {}) for name in ("report", "evaluate")]


def test_a_command_that_there_is_not(home):
    with pytest.raises(ValueError, match=r"no python -m tti\.nothing"):
        remote.call("tti.nothing", [], lambda: None)


def test_the_image_gets_sources_and_configurations():
    """Walks through the layers of the definition, which names local folders."""
    layers, mounted = [_inside(app.image)], {}
    while layers:
        for part in layers.pop()._deps():
            part = _inside(part)
            if type(part).__name__ == "_Mount":
                for entry in part.entries:
                    mounted |= {str(at): local for local, at in entry.get_files_to_upload()}
            else:
                layers.append(part)
    wanted = ["tti/train.py", "conf/train.yaml", "conf/experiment/expt1.yaml", "conf/hydra/launcher/modal.yaml"]
    wanted += ["hydra_plugins/tti_variants/variants_sweeper.py", "tti/launchers/app.py"]
    assert {f"{app.SOURCE}/{name}" for name in wanted} <= mounted.keys()
    assert not [name for name in mounted if name.endswith(".pyc")]


def _inside(wrapped):
    """The implementation behind one of the SDK's wrapper objects."""
    found = [value for name, value in vars(wrapped).items() if name.startswith("_sync_original")]
    return found[0] if found else wrapped


def test_runs_are_found_and_fetched_whole(modal, make_jobs, tmp_path):
    jobs = make_jobs("a", "b")
    for job in jobs:
        modal.finish(job)
    assert runs_below(modal.checkpoints, "runs") == [job.remote for job in jobs]
    fetch_run(modal.checkpoints, jobs[0].remote, tmp_path / "here", leave=[])
    here = {str(path.relative_to(tmp_path / "here")) for path in (tmp_path / "here").rglob("*") if path.is_file()}
    assert here == {
        "config.yaml", "overrides.yaml", "summary.json", "checkpoints/last.ckpt", "checkpoints/best.ckpt"
    }  # fmt: skip


def test_a_folder_is_fetched_with_the_report_beside_its_runs(modal, make_jobs):
    jobs = make_jobs("a", "b")
    for job in jobs:
        modal.finish(job)
    experiment = modal.checkpoints.root / "runs/demo-small"
    (experiment / "report").mkdir()
    for name in ("report.html", "report/table.csv"):
        (experiment / name).write_text(name)
    assert fetch(modal.checkpoints, "runs/demo-small") == [job.remote for job in jobs]
    assert all((job.folder / "checkpoints/best.ckpt").exists() for job in jobs)
    assert Path("runs/demo-small/report.html").read_text() == "report.html"
    assert Path("runs/demo-small/report/table.csv").read_text() == "report/table.csv"
    assert fetch(modal.checkpoints, "runs/nothing") == []


def test_a_container_keeps_to_the_cores_that_were_asked_for():
    assert app.threads(6) == {"OMP_NUM_THREADS": "6", "TORCHINDUCTOR_COMPILE_THREADS": "6"}
    assert app.threads(0.25)["OMP_NUM_THREADS"] == "1"


def test_what_a_run_took_away_is_gone_here_too(modal, make_jobs, tmp_path):
    (job,) = make_jobs("a")
    modal.progress(job)
    fetch_run(modal.checkpoints, job.remote, tmp_path, leave=[])
    assert (tmp_path / "progress.json").exists()
    (modal.checkpoints.root / job.remote / "progress.json").unlink()
    modal.finish(job)
    fetch_run(modal.checkpoints, job.remote, tmp_path, leave=[])
    assert not (tmp_path / "progress.json").exists()
    assert (tmp_path / "summary.json").exists()


def test_what_is_not_on_the_volume(modal, monkeypatch):
    assert files(modal.checkpoints, "nothing") == []
    assert read(modal.checkpoints, "nothing/config.yaml") is None
    monkeypatch.setattr(modal.checkpoints, "read_file", lambda path: (_ for _ in ()).throw(exception.NotFoundError()))
    assert read(modal.checkpoints, "x") is None
