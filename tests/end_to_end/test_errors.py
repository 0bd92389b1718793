"""Errors that users can cause give a single message and exit code 1, and lose nothing."""

from pathlib import Path

import pytest
import torch
from commands import Commands
from small import SMALL

from tti.runs import Run

RUN = [*SMALL, "run_dir=run"]


@pytest.mark.parametrize(
    ("override", "message"),
    [
        (["regularizer=l1", "regularizer.l1.sites=blocks.*.nope"], "no site of this model matches 'blocks.*.nope'"),
        (["metrics.sparsity.sites=[nope]"], "no site of this model matches 'nope'"),
        (["regularizer=online_sae", "regularizer.online_sae.sites=mlp_uot"], "no site of this model matches 'mlp_uot'"),
        (
            ["regularizer=online_sae", "regularizer.online_sae.autoencoder.k=257"],
            "k=257 latents per token: must be from 1 to 256",
        ),
        (["trainer.max_steps=0"], "error: trainer.max_steps=0 must be an integer from 1\n"),
        (["trainer.devices=999"], "error: trainer.devices=999, but this machine has"),
        (["data.max_length=300"], "data.max_length=300 exceeds model.context=256"),
        (["variant=topk"], "or add the variant's overrides: model/mlp=topk"),
        (["model.n_heads=5"], "d_model=32 is not a multiple of n_heads=5"),
        (["model/mlp=moe", "model.mlp.experts=1"], "top_k=2 experts per token, but experts=1"),
        (["model/mlp=moe", "model/mlp/router=group"], "routes stories by their group, and data.group is not set"),
        (
            ["model/mlp=moe", "regularizer=specialization"],
            "regularizer=specialization needs the label task of each token, and data.labels=[] has none",
        ),
    ],
)
def test_before_the_corpus_is_touched(tti, tmp_path, override, message):
    assert message in tti(*RUN, *override, TTI_CACHE=str(tmp_path / "cache")).failed()
    assert not (tmp_path / "cache").exists()


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("run_dir=42", "42 is not a path: runs=FOLDER is the folder of all runs, run_dir=FOLDER that of one"),
        ("run_dir=[a]", "['a'] is not a path"),
        ("run_dir={a:1}", "{'a': 1} is not a path"),
        ("run_dir=null", "None is not a path"),
        ("run_dir=''", "'' is not a path"),
        ("runs=[a,b]", "['a', 'b'] is not a path"),
        ("variant=null", "None cannot name a folder"),
        ("name=[a,b]", "['a', 'b'] cannot name a folder"),
        ("name=a/b", "'demo-a/b' cannot name a folder"),
        ("seed=[1]", "[1] cannot name a folder"),
    ],
)
def test_what_cannot_name_a_folder_makes_none(tti, override, message):
    """This must be checked first, since Hydra makes the folder before anything else happens."""
    said = tti(*SMALL, override).failed()
    assert said.startswith(f"error: {message}")
    assert said.count("\n") == 1
    assert [path for path in tti.folder.iterdir() if not path.name.startswith(".output")] == []


@pytest.mark.parametrize(
    ("override", "message"),
    [
        (["data.stories_per_step=1000"], "data.stories_per_step=1000, but the training split has 300 stories"),
        (["trainer.accumulate_grad_batches=3"], "data.stories_per_step=8 cannot be divided"),
        (["model.vocab_size=10"], "model.vocab_size=10, but the tokenizer has"),
        (["model/mlp=codebook", "regularizer=l1"], "regularizer l1 would train nothing: no gradient passes through"),
    ],
)
def test_configurations_that_cannot_work(tti, override, message):
    assert message in tti(*RUN, *override).failed()
    assert not (tti.folder / "run/checkpoints").exists()


ON_TASKS = [
    *(override for override in RUN if not override.startswith("data.corpus")), "data=grammar_tasks",
    *(f"data.corpus.{split}=40" for split in ("train", "validation", "test")),
]  # fmt: skip


@pytest.mark.parametrize(
    ("override", "message"),
    [
        (
            ["model/mlp=moe", "model/mlp/router=group", "model.mlp.router.groups=2"],
            "data.group=task has values up to 2 in train, but the router has experts for 0 to 1",
        ),
        (["data.corpus.weights={sentiment:0,entailment:0,question:0}"], "gives no task any items"),
        (["data.max_length=50"], "of 40 stories in"),
    ],
)
def test_tasks_that_cannot_work_are_known_before_the_first_step(tti, override, message):
    assert message in tti(*ON_TASKS, *override).failed()
    assert not (tti.folder / "run/checkpoints").exists()


TEXT = [override for override in RUN if not override.startswith("data.corpus")] + ["data=tinystories"]


SWEPT = [override for override in SMALL if not override.startswith(("hydra.mode", "name="))]


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("optimizer.lr=1e-3,-1", "optimizer.lr=-1 must be a number from 0"),
        ("hydra.launcher.n_jobs=0", "hydra.launcher.n_jobs=0 must be an integer from 1, or -1"),
    ],
)
def test_a_bad_value_in_any_job_stops_a_sweep_before_the_first(tti, override, message):
    launcher = ["hydra/launcher=joblib"] if "launcher" in override else []
    said = tti("-m", *SWEPT, "variant=baseline", *launcher, override).failed()
    assert message in said
    assert not list(tti.folder.rglob("config.yaml"))


@pytest.mark.parametrize(
    ("module", "arguments", "message"),
    [
        ("tti.generate", ["run=x", "temperature=nan"], "temperature=.nan must be 0 or a number from 0.001"),
        ("tti.sae", ["run=x", "site=y", "fit.batch=0"], "fit.batch=0 must be an integer from 1"),
        ("tti.evaluate", ["run=x", "device=foo"], "device=foo must be a device of this machine, which has cpu"),
        ("tti.evaluate", ["run=x", "evaluation.contexts.k=0"], "evaluation.contexts.k=0 must be an integer from 1"),
        ("tti.report", ["runs=nope", "margin.penalty=-1"], "margin.penalty=-1 must be a number from 0"),
        ("tti.report", ["runs=nope"], "no such folder: nope"),
        ("tti.export", ["run=x", "to=y", "stories=0"], "stories=0 must be an integer from 1"),
        ("tti.benchmark", ["steps=0"], "steps=0 must be an integer from 1"),
    ],
)
def test_every_command_says_which_knob_is_wrong(tti, module, arguments, message):
    said = tti(*arguments, module=module).failed()
    assert said.startswith(f"error: {message}")
    assert said.count("\n") == 1


def test_names_of_files_are_taken_as_they_stand(tti):
    text = "".join(f"Tim saw cat {number}.<|endoftext|>\n" for number in range(20))
    for name in ("train (1).txt", "a=b ~#.txt"):
        (tti.folder / name).write_text(text)
    files = ["data.corpus.train=train (1).txt", "data.corpus.validation=a=b ~#.txt", "data.corpus.tokenizer=bpe:300"]
    tti(*TEXT, *files, "trainer.max_steps=1").ok()


def test_a_missing_file(tti):
    message = tti(*TEXT, "data.corpus.train=nope.txt", "data.corpus.validation=nope.txt").failed()
    assert f"no such file: nope.txt (from folder {tti.folder})" in message


def test_no_network(tti):
    message = tti(*TEXT, "data.corpus.tokenizer=bpe:300", HF_HUB_OFFLINE="1", HF_HOME=str(tti.folder / "hf")).failed()
    assert "cannot load 'roneneldan/TinyStories@train' from the Hugging Face Hub" in message
    assert "data=grammar" in message


def test_a_damaged_cache(tti, tmp_path):
    cache = {"TTI_CACHE": str(tmp_path / "cache")}
    tti(*RUN, "trainer.max_steps=1", **cache).ok()
    (tokens,) = (tmp_path / "cache").glob("grammar-train-*/tokens.bin")
    with tokens.open("r+b") as file:
        file.write(b"\xff\xff")
    message = tti(*RUN, "run_dir=other", **cache).failed()
    assert "the token cache is damaged" in message
    assert f"Delete the folder {tokens.parent}" in message


BREAKING = [
    *RUN,
    "data.validation_tokens=1024",
    "task.grad_ratio_every=1000",
    "+regularizer.breaking={_target_: additions.Breaking, sites: blocks.0.mlp_out, weight: 1.0, warmup: 0, after: 13}",
]


@pytest.fixture(scope="module")
def diverged(commands_in, tmp_path_factory) -> tuple[Commands, str]:
    tti = commands_in(tmp_path_factory.mktemp("diverged"))
    return tti, tti(*BREAKING).failed()


def test_not_a_number_is_named_with_its_step_and_the_way_out(diverged):
    _, message = diverged
    assert "not a finite number between steps 10 and 14, first in: breaking." in message
    assert "Lower optimizer.lr" in message


def test_not_a_number_leaves_the_last_good_checkpoint(diverged):
    tti, _ = diverged
    run = Run(tti.folder / "run")
    assert run.checkpoint_step == 12
    assert run.status == "failed"
    assert "breaking" in run.failure
    assert all(torch.isfinite(weight).all() for weight in run.model().parameters())


def test_a_checkpoint_of_another_model(diverged, tmp_path):
    tti, _ = diverged
    other = tmp_path / "run"
    (other / "checkpoints").mkdir(parents=True)
    for name in ("tokenizer.json", "checkpoints/last.ckpt"):
        (other / name).write_bytes((tti.folder / "run" / name).read_bytes())
    config = (tti.folder / "run/config.yaml").read_text()
    (other / "config.yaml").write_text(config.replace("n_layers: 2", "n_layers: 3"))
    with pytest.raises(ValueError, match=r"last\.ckpt was made by another model"):
        Run(other).model()


FULL = """
import errno, torch
original, calls = torch.save, [0]
def save(checkpoint, file):
    calls[0] += 1
    if calls[0] == 4:
        file.write(b"half of it")
        raise OSError(errno.ENOSPC, "No space left on device", file.name)
    original(checkpoint, file)
torch.save = save
"""


def test_no_space_left_keeps_the_checkpoint_before(tti):
    message = tti(*RUN, patch=FULL).failed()
    assert "no space left" in message
    run = Run(tti.folder / "run")
    before = run.checkpoint_step
    assert before > 0
    run.model()
    assert {path.name for path in (run.folder / "checkpoints").iterdir()} <= {"last.ckpt", "best.ckpt"}
    assert "resuming from" in tti(*RUN).ok().output


def test_a_truncated_checkpoint_is_named_with_the_way_out(diverged, tmp_path, commands_in):
    tti, _ = diverged
    folder = tmp_path / "run"
    (folder / "checkpoints").mkdir(parents=True)
    (folder / "config.yaml").write_bytes((tti.folder / "run/config.yaml").read_bytes())
    whole = (tti.folder / "run/checkpoints/last.ckpt").read_bytes()
    (folder / "checkpoints/last.ckpt").write_bytes(whole[: len(whole) // 2])
    message = commands_in(tmp_path)(*BREAKING).failed()
    assert "run/checkpoints/last.ckpt is damaged" in message
    assert "best.ckpt" in message
    assert (folder / "checkpoints/last.ckpt").stat().st_size == len(whole) // 2


def test_our_own_errors_keep_their_traceback(tti):
    """A bug in the code keeps its traceback, since no message could help."""
    done = tti(
        *RUN,
        patch="import tti.data.module as m\ndef broken(*_): raise RuntimeError('shapes')\nm.present_types = broken",
    )
    assert done.code == 1
    assert "Traceback" in done.output
    assert "Traceback" in (Path(tti.folder) / "run/failure.json").read_text()


def test_an_immediate_failure_does_not_keep_the_folder(tti, tmp_path):
    refused = tti(*RUN, "+trainer.max_epochs=1", TTI_CACHE=str(tmp_path / "cache")).failed()
    assert "trainer.max_epochs is not accepted" in refused
    tti(*RUN, "trainer.max_steps=1").ok()
