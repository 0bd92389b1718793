"""User errors are reported before any money is spent."""

import pytest
import torch
from hydra.utils import instantiate

from tti.launchers.cloud import connect
from tti.launchers.leave import Leave
from tti.launchers.sweep import launch


@pytest.fixture
def refused(modal, make_jobs, options):
    """``refused(*overrides, **options)``: the message with which a one-job sweep is refused before anything starts."""

    def message(*overrides, **others):
        with pytest.raises(ValueError, match=r".") as raised:
            launch(make_jobs("a", more=overrides), options(**others), modal.cloud)
        assert modal.spawned == []
        assert modal.deployed == 0
        return str(raised.value)

    return message


@pytest.mark.parametrize("gpu", ["A1000", "A100", "H100:0", "H100:x", "H100:16"])
def test_an_unknown_gpu(refused, gpu):
    said = refused(gpu=gpu)
    assert f"hydra.launcher.gpu={gpu} has no price in hydra.launcher.prices, which has T4," in said
    assert "A100-40GB, A100-80GB" in said


def test_overwriting(refused):
    said = refused("overwrite=true")
    assert "modal volume rm -r tti-checkpoints runs/demo-small/a/seed-42" in said


def test_a_folder_above(refused):
    assert "leads upwards" in refused("run_dir=../elsewhere")


def test_two_jobs_of_one_folder(modal, make_jobs, options):
    with pytest.raises(ValueError, match="several jobs of this sweep have the folder runs/demo-small/a/seed-42"):
        launch(make_jobs("a", "a"), options(), modal.cloud)


def test_a_corpus_that_is_not_tokenized(refused, modal, monkeypatch):
    monkeypatch.undo()  # removes the corpora that `modal` pretends to have
    said = refused("data=grammar_small")
    assert "the volume tti-data has no tokenized grammar-train-" in said
    assert "modal run scripts/modal_app.py::cache_dataset experiment=demo data=grammar_small" in said


def test_a_corpus_that_is_tokenized(modal, make_jobs, options, monkeypatch, tmp_path):
    monkeypatch.undo()
    monkeypatch.chdir(tmp_path)
    (job,) = make_jobs("a")
    corpus = instantiate(job.config.data.corpus)
    for split in corpus.splits:
        folder = modal.data.root / corpus.folder(split).name
        folder.mkdir()
        (folder / "manifest.json").touch()
    modal.answers["a"] = [lambda: modal.finish(job)]
    assert [outcome.status for outcome in launch([job], options(), modal.cloud).values()] == ["finished"]


def test_a_data_set_of_the_hub_is_looked_for_without_the_hub(refused, monkeypatch):
    monkeypatch.undo()
    said = refused("data=tinystories")
    assert "no tokenized TinyStories@train-gpt2".replace("@", "-") in said
    assert said.endswith("data=tinystories")


@pytest.mark.parametrize("key", ["train", "tokenizer"])
def test_a_file_of_this_machine(refused, tmp_path, key, monkeypatch):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/stories.txt").write_text("Once.<|endoftext|>")
    path = {"train": tmp_path / "mine/stories.txt", "tokenizer": tmp_path / "mine"}[key]
    said = refused("data=tinystories", f"data.corpus.{key}={path}")
    assert f"data.corpus.{key}={path} is not a file of Modal's volume" in said
    assert f"modal volume put tti-data {path} /" in said
    assert f"data.corpus.{key}=/data/{path.name}" in said


def test_a_file_of_the_volume(modal, make_jobs, options):
    jobs = make_jobs(
        "a",
        more=("data=tinystories", *(f"data.corpus.{key}=/data/s.txt" for key in ("train", "validation"))),
    )
    modal.answers["a"] = [lambda: modal.finish(jobs[0])]
    assert [outcome.status for outcome in launch(jobs, options(), modal.cloud).values()] == ["finished"]


def test_a_missing_secret(refused):
    said = refused("logger=wandb")
    assert "no secret wandb-secret: run `modal secret create wandb-secret WANDB_API_KEY=...`" in said
    assert "logger=wandb_offline" in said
    assert "no secret mine" in refused(secrets=["mine"])


def test_offline_tracking_needs_no_secret(modal, make_jobs, options):
    jobs = make_jobs("a", more=("logger=wandb_offline",))
    modal.answers["a"] = [lambda: modal.finish(jobs[0])]
    launch(jobs, options(), modal.cloud)
    assert modal.spawned


def test_a_run_that_was_begun_on_this_machine(refused, modal, make_jobs):
    (job,) = make_jobs("a")
    (job.folder / "checkpoints").mkdir(parents=True)
    job.run.begin(job.config, list(job.overrides), overwrite=False)
    torch.save({"global_step": 7}, job.folder / "checkpoints/last.ckpt")
    assert "holds a run that was begun on this machine and is unfinished" in refused()


def test_no_account(make_jobs, options, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    for name in ("MODAL_TOKEN_ID", "MODAL_TOKEN_SECRET"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("MODAL_CONFIG_PATH", str(tmp_path / "none.toml"))
    with pytest.raises(ValueError, match=r"Modal knows no account of this machine .*`modal setup`"):
        launch(make_jobs("a"), options(), connect)


def test_dry_runs_are_checked_too(modal, make_jobs, options):
    with pytest.raises(ValueError, match="has no price"):
        launch(make_jobs("a"), options(dry_run=True, gpu="X"), modal.cloud)
    with pytest.raises(Leave):
        launch(make_jobs("a"), options(dry_run=True), modal.cloud)


@pytest.mark.parametrize(
    ("option", "value"),
    [("timeout_hours", 25), ("retries", 11), ("retries", "many"), ("retries", 1.5), ("max_containers", 0)],
)
def test_numbers_that_modal_does_not_take(options, option, value):
    with pytest.raises(ValueError, match=rf"hydra\.launcher\.{option}={value} must be an? (number|integer)"):
        options(**{option: value})
