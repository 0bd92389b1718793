"""Weights & Biases, offline: a resumed run is a single run there, with the same figures as the local file."""

import pytest
import wandb_files
from small import SMALL
from test_resume import PLACES

from tti.runs import Run

OFFLINE = [
    *SMALL, "run_dir=run", "logger=wandb_offline", "callbacks.last.every_n_train_steps=2", "trainer.log_every_n_steps=1"
]  # fmt: skip


@pytest.mark.parametrize("sent", ["SIGKILL", "SIGINT"])
def test_a_stopped_and_resumed_run_is_one_run_with_the_local_files_values(tti, sent):
    stopped = tti(*OFFLINE, patch=PLACES["in a step"].replace("SIGKILL", sent))
    assert stopped.code == {"SIGKILL": -9, "SIGINT": 130}[sent]
    tti(*OFFLINE).ok()
    run = Run(tti.folder / "run")
    files = sorted(run.folder.glob("wandb/offline-run-*/*.wandb"))  # the names begin with the time
    assert len(files) == 2
    each = [list(wandb_files.records(path)) for path in files]
    opened = [record.run for part in each for record in part if record.HasField("run")]
    assert {record.run_id for record in opened} == {(run.folder / "wandb_id").read_text()}
    assert {record.run_group for record in opened} == {"demo-small"}

    lines = [line for part in each for line in wandb_files.history(part)]
    merged: dict[int, dict[str, float]] = {}
    for line in lines:
        figures = {key: value for key, value in line.items() if not key.startswith(("_", "trainer/"))}
        merged.setdefault(line["trainer/global_step"], {}).update(figures)
    assert merged == {int(row["step"]): {k: v for k, v in row.items() if k != "step"} for row in run.metrics()}
    assert sorted(merged) == list(range(1, 21))
    if sent == "SIGINT":
        trained = [line["trainer/global_step"] for line in lines if "train/loss" in line]
        assert trained == list(range(1, 21))  # no step twice

    told = wandb_files.configuration(each[1])
    assert told["data"]["stories_per_step"] == 8
    assert told["environment"]["commit"] == run.environment["commit"]
    final = wandb_files.summary(each[1])
    figures = {**run.summary["metrics"], "tokens_per_second": run.summary["tokens_per_second"], "steps": 20}
    assert {key: final[key] for key in figures} == figures
    assert not (run.folder / "wandb_unsure").exists()


def test_without_an_account_it_says_what_to_do(tti):
    environment = {"WANDB_API_KEY": "", "HOME": str(tti.folder), "NETRC": str(tti.folder / "none")}
    message = tti(*SMALL, "run_dir=run", "logger=wandb", **environment).failed()
    assert "W&B refused the run" in message
    assert "logger=wandb_offline" in message
