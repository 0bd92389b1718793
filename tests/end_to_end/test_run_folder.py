import signal
from pathlib import Path

import pytest
import torch
import yaml
from commands import Commands, Done, rows, summary
from omegaconf import OmegaConf
from small import SMALL

from tti.models.identity import weights_digest
from tti.runs import Run


@pytest.fixture(scope="module")
def finished(commands_in, tmp_path_factory) -> tuple[Commands, Path, Done]:
    tti = commands_in(tmp_path_factory.mktemp("finished"))
    done = tti.real(*SMALL, "run_dir=run")
    return tti, tti.folder / "run", done.ok()


def test_a_run_leaves_what_its_docstring_says(finished):
    _, folder, _ = finished
    expected = "config.yaml overrides.yaml environment.jsonl tokenizer.json metrics.jsonl summary.json train.log"
    assert {path.name for path in folder.iterdir()} == {*expected.split(), "checkpoints", ".lock", ".start.yaml"}
    assert {path.name for path in (folder / "checkpoints").iterdir()} == {"last.ckpt", "best.ckpt"}


def test_the_configuration_is_resolved_and_the_overrides_are_kept(finished):
    _, folder, _ = finished
    assert "${" not in (folder / "config.yaml").read_text()
    assert yaml.safe_load((folder / "overrides.yaml").read_text()) == [
        override for override in [*SMALL, "run_dir=run"] if not override.startswith("hydra.")
    ]


def test_the_environment_of_each_start_is_recorded(finished):
    environment = Run(finished[1]).environment
    assert environment["command"].startswith("python -m tti.train experiment=demo")
    assert {"commit", "python", "platform", "device"} <= environment.keys()
    assert {"torch", "lightning", "hydra-core"} <= environment["packages"].keys()


def test_metrics_of_the_baseline(finished):
    entries = rows(finished[1])
    assert [entry["step"] for entry in entries] == [1, 5, 10, 15, 20]
    trained = {"train/loss", "train/ce", "train/reg_to_ce_ratio", "train/learning_rate", "train/grad_norm"}
    assert all(trained <= entry.keys() for entry in entries)
    assert "train/tokens_per_second" in Run(finished[1]).metrics()[0]
    assert "train/reg_to_ce_grad_ratio" in entries[0]
    validated = {"val/loss", "val/perplexity", "val/bits_per_byte"} | {
        f"val/{name}/{site}/{layer}"
        for name in ("sparsity", "polysemanticity")
        for site in ("mlp.post", "mlp_out")
        for layer in ("layer_0", "layer_1", "mean")
    }
    for entry in entries:
        assert validated <= entry.keys() if entry["step"] % 10 == 0 else not validated & entry.keys()


def test_the_model_in_the_folder_is_the_one_that_was_validated(finished):
    _, folder, _ = finished
    run = Run(folder)
    data = _data(run)
    net, nll, tokens = run.model(), 0.0, 0
    with torch.no_grad():
        for batch in data.val_dataloader():
            _, each = net.loss(net(batch.tokens, batch.stories), batch.targets)
            nll, tokens = nll + each.double().sum().item(), tokens + len(batch)
    assert nll / tokens == pytest.approx(summary(folder)["metrics"]["val/loss"], rel=1e-6)
    assert run.tokenizer.get_vocab_size() == net.vocab_size


def _data(run: Run):
    from hydra.utils import instantiate

    return instantiate(run.config.data)


@pytest.mark.parametrize("name", ["last", "best"])
def test_checkpoints_are_plain_data(finished, name):
    checkpoint = torch.load(finished[1] / "checkpoints" / f"{name}.ckpt", weights_only=True)
    assert checkpoint["global_step"] == 20


def test_started_again_it_does_nothing_and_says_so(finished):
    tti, folder, _ = finished
    before = _contents(folder)
    assert "has finished already; overwrite=true starts it again" in tti(*SMALL, "run_dir=run").ok().output
    after = _contents(folder)
    before.pop("environment.jsonl"), after.pop("environment.jsonl")
    assert after == before


def test_another_configuration_in_its_folder_is_refused_by_the_keys(finished):
    tti, folder, _ = finished
    before = _contents(folder)
    message = tti(*SMALL, "run_dir=run", "optimizer.lr=0.5", "seed=7").failed()
    assert "optimizer.lr: 0.012 there, 0.5 wanted" in message
    assert "seed: 42 there, 7 wanted" in message
    assert "overwrite=true" in message
    assert "trainer.max_steps" not in message
    assert _contents(folder) == before


def test_what_cannot_change_the_result_is_no_other_configuration(finished):
    tti, _, _ = finished
    again = tti(*SMALL, "run_dir=run", "trainer.strategy=ddp", "logger=tensorboard", "trainer.log_every_n_steps=3")
    assert "has finished already" in again.ok().output


def _contents(folder: Path) -> dict[str, bytes]:
    files = [path for path in folder.rglob("*") if path.is_file() and path.name != "train.log"]
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


def test_the_untrained_network_is_that_of_step_0(tti):
    still = [*SMALL, "trainer.max_steps=1", "trainer.val_check_interval=1", "optimizer.lr=0", "regularizer=online_sae"]
    for seed in (42, 43):
        tti(*still, f"run_dir=run-{seed}", f"seed={seed}").ok()
    runs = [Run(tti.folder / f"run-{seed}") for seed in (42, 43)]
    began = [weights_digest(run.model()) for run in runs]
    assert [weights_digest(run.untrained()) for run in runs] == began
    assert began[0] != began[1]


def test_a_configuration_says_nothing_twice(finished):
    _, folder, _ = finished
    config = Run(folder).config
    assert set(config.task) == {"_target_", "_partial_", "grad_ratio_every", "compile"}
    assert config.model.d_model == 32


def test_a_configuration_that_said_things_twice_is_the_same_run(finished):
    tti, folder, _ = finished
    path = folder / "config.yaml"
    now = path.read_text()
    config = OmegaConf.create(now)
    said = {"net": config.model, "optimizer": config.optimizer, "metrics": config.metrics, "seed": config.seed}
    config.task = {**config.task, **said}
    path.write_text(OmegaConf.to_yaml(config))
    try:
        assert "has finished already" in tti(*SMALL, "run_dir=run").ok().output
    finally:
        path.write_text(now)


def test_the_summary_says_what_a_token_costs(finished):
    _, folder, _ = finished
    net = Run(folder).model()
    assert summary(folder)["operations_per_token"] == net.operations_per_token
    assert Run(folder).operations() == net.operations_per_token * summary(folder)["tokens"]


def test_overwrite_starts_again(tti):
    first = [*SMALL, "run_dir=run", "trainer.max_steps=4"]
    tti(*first).ok()
    tti(*first, "optimizer.lr=1e-4", "overwrite=true").ok()
    run = Run(tti.folder / "run")
    assert run.config.optimizer.lr == 1e-4
    assert len((run.folder / "environment.jsonl").read_text().splitlines()) == 1
    assert [entry["step"] for entry in run.metrics()] == [1, 4]


def test_two_processes_in_one_folder(tti):
    long = [*SMALL, "run_dir=run", "trainer.max_steps=5000"]
    first = tti.start(*long).until(tti.folder / "run/metrics.jsonl")
    assert "another process is training in run" in tti(*long).failed()
    first.send(signal.SIGKILL).wait()


def test_the_last_checkpoint_is_of_the_last_step_whatever_the_interval(tti):
    tti(*SMALL, "run_dir=run", "trainer.max_steps=25", "trainer.val_check_interval=20").ok()
    checkpoint = torch.load(tti.folder / "run/checkpoints/last.ckpt", weights_only=True)
    assert checkpoint["global_step"] == 25
    assert (tti.folder / "run/checkpoints/best.ckpt").exists()
    assert "val/loss" in rows(tti.folder / "run")[-1]


def test_a_time_limit_stops_it_and_the_next_start_goes_on(tti):
    message = tti(*SMALL, "run_dir=run", "callbacks.last.max_hours=1e-9").failed()
    assert "stopped at step 1 of 20" in message
    assert "repeat the command to resume" in message
    assert "stopped at step 2 of 20" in tti(*SMALL, "run_dir=run", "callbacks.last.max_hours=1e-9").failed()
    tti(*SMALL, "run_dir=run").ok()
    tti(*SMALL, "run_dir=straight").ok()
    assert summary(tti.folder / "run")["metrics"]["val/loss"] == summary(tti.folder / "straight")["metrics"]["val/loss"]
    assert len(rows(tti.folder / "run")) == len(rows(tti.folder / "straight"))


def test_a_run_begins_with_the_weights_of_another(tti):
    shorter = [*SMALL, "trainer.max_steps=10"]
    tti(*shorter, "run_dir=first").ok()
    refused = tti(*shorter, "trainer.max_steps=20", "run_dir=first").failed()
    assert "trainer.max_steps: 10 there, 20 wanted" in refused
    assert "To train it further: name=... init_from=first" in refused
    tti(*shorter, "run_dir=second", "init_from=first", "seed=7").ok()
    tti(*shorter, "run_dir=without", "seed=7").ok()
    first, second, without = (
        {row["step"]: row["val/loss"] for row in rows(tti.folder / name) if "val/loss" in row}
        for name in ("first", "second", "without")
    )
    assert second[10] < first[10]
    assert second[10] < without[10]
    assert "init_from: null there, " in tti(*shorter, "run_dir=without", "init_from=first", "seed=7").failed().replace(
        "None", "null"
    )


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (["init_from=nowhere"], "nowhere holds no run"),
        (["init_from=first", "run_dir=first", "overwrite=true"], "is the folder of this run itself"),
        (["init_from=first", "model.n_layers=1"], "was made by another model"),
    ],
)
def test_a_beginning_that_cannot_be_is_refused(tti, given, message):
    tti(*SMALL, "trainer.max_steps=2", "run_dir=first").ok()
    assert message in tti(*SMALL, "run_dir=second", *given).failed()
    assert Run(tti.folder / "first").status == "finished"


def test_other_data_under_the_same_name_are_no_resumption(tti):
    text = Path(tti.folder, "train.txt")
    stories = [f"Once there was a cat number {number}. It sat. <|endoftext|>" for number in range(60)]
    text.write_text("\n".join(stories))
    given = [each for each in SMALL if not each.startswith("data.corpus")]
    given += ["data=tinystories", "data.corpus.train=train.txt", "data.corpus.validation=train.txt", "run_dir=run"]
    given += ["data.corpus.tokenizer=bpe:300"]
    killed = "callbacks.last.max_hours=1e-9"
    tti(*given, killed).failed()
    before = (tti.folder / "run/tokenizer.json").read_bytes()
    text.write_text("\n".join(reversed(stories)).replace("cat", "dog"))
    message = tti(*given).failed()
    assert "the tokens of train and validation are not those that this run was trained with" in message
    assert (tti.folder / "run/tokenizer.json").read_bytes() == before
    text.write_text("\n".join(stories))
    tti(*given).ok()
    assert set(summary(tti.folder / "run")["data"]) == {"train", "validation"}


def test_a_finished_run_is_skipped_with_its_own_data_only(tti):
    text = Path(tti.folder, "train.txt")
    stories = [f"Once there was a cat number {number}. It sat. <|endoftext|>" for number in range(60)]
    text.write_text("\n".join(stories))
    given = [each for each in SMALL if not each.startswith(("data.corpus", "trainer.val"))]
    given += ["data=tinystories", "data.corpus.train=train.txt", "data.corpus.validation=train.txt"]
    given += ["data.corpus.tokenizer=bpe:300", "trainer.val_check_interval=2", "run_dir=run"]
    tti(*given).ok()
    written = [*(tti.folder / "run").glob("*.json"), *(tti.folder / "run").glob("checkpoints/*")]
    before = {path: path.read_bytes() for path in written}
    assert "has finished already" in tti(*given, TTI_CACHE=str(tti.folder / "new")).ok().output
    assert not (tti.folder / "new").exists()  # the check tokenizes nothing

    text.write_text("\n".join(stories).replace("cat", "dog"))
    message = tti(*given).failed()
    assert "the tokens of train and validation are not those that run was trained with" in message
    assert "overwrite=true" in message
    budget = ["weighting=budget", "weighting.baseline.of=run", "regularizer=l1", "run_dir=budget"]
    assert "are not those that the baseline run was trained with" in tti(*given, *budget).failed()

    text.unlink()
    said = tti(*given).ok().output
    assert "its data are not compared: no such file: train.txt" in said
    assert "has finished already" in said
    text.write_text("\r\n".join(stories))  # other bytes, the same stories
    assert "has finished already" in tti(*given).ok().output
    assert {path: path.read_bytes() for path in before} == before
