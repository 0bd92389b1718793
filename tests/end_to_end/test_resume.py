"""A run that is killed at any point ends like an undisturbed one."""

import signal
from pathlib import Path

import pytest
import torch
from commands import Commands, rows, summary
from small import SMALL

from tests.tiers import nightly_but
from tti.runs import Run

# Kill this process, like `kill -9`, when {when} holds in a method of some class.
KILLER = """
import os, signal
from {module} import {cls} as owner
original = owner.{method}
calls = 0
def killing(self, *args, **kwargs):
    global calls
    calls += 1
    if {when}:
        {before}
        os.kill(os.getpid(), signal.SIGKILL)
    return original(self, *args, **kwargs)
owner.{method} = killing
"""


def killer(place: str, when: str = "True", before: str = "pass") -> str:
    module, cls, method = place.rsplit(".", 2)
    return KILLER.format(module=module, cls=cls, method=method, when=when, before=before)


LANGUAGE_MODEL = "tti.modules.language_model.LanguageModel"
PLACES = {
    "in a step": killer(f"{LANGUAGE_MODEL}.training_step", "self.trainer.global_step == 13"),
    "in the cross-entropy's log": killer(
        "tti.loggers.metrics_file.MetricsFile.log_metrics",
        "kwargs['step'] == 15",
        "self.path.open('a').write('{\"step\": 15, \"train/l')",
    ),
    "while a checkpoint is written": killer(
        "tti.callbacks.checkpoints.DurableCheckpoints.save_checkpoint",
        "calls == 5",
        "from pathlib import Path; p = Path(args[1]); (p.parent / f'.{p.name}.partial').write_bytes(b'half')",
    ),
    "before a checkpoint is renamed into place": "import os, signal\n"
    "count = [0]\noriginal = os.fsync\n"
    "def fsync(file):\n"
    "    original(file)\n"
    "    count[0] += os.readlink(f'/proc/self/fd/{file}').endswith('.ckpt.partial')\n"
    "    count[0] == 5 and os.kill(os.getpid(), signal.SIGKILL)\n"
    "os.fsync = fsync",
    "right after a checkpoint": killer(f"{LANGUAGE_MODEL}.on_train_batch_end", "self.trainer.global_step == 10"),
    "in the validation after a checkpoint": killer(
        f"{LANGUAGE_MODEL}.validation_step", "self.trainer.global_step == 10 and args[1] == 1"
    ),
    "after a validation": killer(f"{LANGUAGE_MODEL}.on_validation_end", "self.trainer.global_step == 10"),
    "in the last validation": killer(f"{LANGUAGE_MODEL}.validation_step", "self.trainer.global_step == 20"),
    "in the test": killer(f"{LANGUAGE_MODEL}.test_step"),
    "before the summary": killer("tti.runs.Run.finish"),
    "while the corpus is packed": killer("tti.data.cache._ArrayFile.append", "calls == 100", "self.file.flush()"),
}
DAILY = ("in a step", "while a checkpoint is written", "in the validation after a checkpoint")
# Everything that a checkpoint holds: dropout, a regularizer with parameters in its warm-up, one with a generator.
ADDED = [
    *SMALL, "run_dir=run", "data.validation_tokens=1024", "task.grad_ratio_every=5", "regularizer=orthogonality",
    "regularizer.orthogonality.warmup=0.8", "callbacks.last.every_n_train_steps=2",
    "+regularizer.linear={_target_: additions.Linear, sites: blocks.1.mlp_out, weight: 0.1, warmup: 0, width: 32}",
    "+regularizer.noisy={_target_: additions.Noisy, sites: blocks.0.mlp_out, weight: 0.1, warmup: 0}",
]  # fmt: skip
ONLINE = [
    *SMALL, "run_dir=run", "data.validation_tokens=1024", "callbacks.last.every_n_train_steps=2",
    "task.grad_ratio_every=5", "weighting=ratio", "regularizer=online_sae", "regularizer/autoencoder=batch_topk",
    "regularizer.online_sae.autoencoder.dead_after=2000", "regularizer.online_sae.every=2",
]  # fmt: skip


@pytest.fixture(scope="module")
def uninterrupted(commands_in, tmp_path_factory) -> Commands:
    tti = commands_in(tmp_path_factory.mktemp("uninterrupted"))
    tti(*ADDED).ok()
    return tti


def assert_same(there: Commands, here: Commands) -> None:
    expected, got = there.folder / "run", here.folder / "run"
    assert rows(got) == rows(expected)
    wanted, found = (_timeless(summary(folder)) for folder in (expected, got))
    assert found == wanted
    weights, others = (torch.load(f / "checkpoints/last.ckpt", weights_only=True) for f in (expected, got))
    assert weights["state_dict"].keys() == others["state_dict"].keys()
    for name, value in weights["state_dict"].items():
        assert torch.equal(value, others["state_dict"][name]), name
    assert not [path.name for path in (got / "checkpoints").iterdir() if "partial" in path.name]


def _timeless(figures: dict) -> dict:
    flat = {**figures, **figures["metrics"]}
    flat.pop("metrics")
    return {key: value for key, value in flat.items() if not key.endswith(("seconds", "second"))}


@pytest.mark.parametrize("place", nightly_but(DAILY, PLACES))
def test_killed_and_started_again_it_ends_the_same(tti, uninterrupted, place, tmp_path):
    own_cache = {"TTI_CACHE": str(tmp_path / "cache")} if "packed" in place else {}
    killed = tti(*ADDED, patch=PLACES[place], **own_cache)
    assert killed.code == -signal.SIGKILL, killed.output
    assert Run(tti.folder / "run").status == "unfinished"
    tti(*ADDED, **own_cache).ok()
    assert_same(uninterrupted, tti)


@pytest.mark.nightly
def test_killed_with_accumulated_gradients(tti, commands_in, tmp_path_factory):
    overrides = [*ADDED, "trainer.accumulate_grad_batches=2", "trainer.val_check_interval=20"]
    whole = commands_in(tmp_path_factory.mktemp("whole"))
    whole(*overrides).ok()
    assert tti(*overrides, patch=PLACES["in a step"]).code == -signal.SIGKILL
    tti(*overrides).ok()
    assert_same(whole, tti)


@pytest.mark.nightly
def test_killed_with_autoencoders_that_learn_along(tti, commands_in, tmp_path_factory):
    whole = commands_in(tmp_path_factory.mktemp("whole"))
    whole(*ONLINE).ok()
    assert tti(*ONLINE, patch=PLACES["in a step"]).code == -signal.SIGKILL
    tti(*ONLINE).ok()
    assert_same(whole, tti)


@pytest.mark.nightly
def test_killed_twice(tti, uninterrupted):
    for place in ("in a step", "in the validation after a checkpoint"):
        later = PLACES[place].replace("== 13", "== 5")
        assert tti(*ADDED, patch=later).code == -signal.SIGKILL
    tti(*ADDED).ok()
    assert_same(uninterrupted, tti)


@pytest.mark.parametrize(
    ("place", "sent", "step"),
    nightly_but(
        [("in a step", "SIGINT", 14)],
        [
            ("in a step", "SIGINT", 14),
            ("in a step", "SIGTERM", 14),
            ("in the validation after a checkpoint", "SIGINT", 10),
        ],
    ),
)
def test_interrupted_it_ends_the_step_saves_and_goes_on(tti, uninterrupted, place, sent, step):
    done = tti(*ADDED, patch=PLACES[place].replace("SIGKILL", sent))
    assert done.code == 130
    assert f"interrupted after {step} steps; repeat the command to resume" in done.output
    assert "Traceback" not in done.output
    run = Run(tti.folder / "run")
    assert (run.status, run.checkpoint_step) == ("unfinished", step)
    tti(*ADDED).ok()
    assert_same(uninterrupted, tti)
    assert len((tti.folder / "run/metrics.jsonl").read_text().splitlines()) == len(
        (uninterrupted.folder / "run/metrics.jsonl").read_text().splitlines()
    )  # no step occurs twice


@pytest.mark.nightly
def test_interrupted_twice_it_stops_at_once(tti, uninterrupted):
    twice = PLACES["in a step"].replace("SIGKILL", "SIGINT").replace("pass", "os.kill(os.getpid(), signal.SIGINT)")
    assert "interrupted after 13 steps" in tti(*ADDED, patch=twice).output
    tti(*ADDED).ok()
    assert_same(uninterrupted, tti)


def test_going_on_from_the_best_checkpoint(tti, uninterrupted):
    tti(*ADDED, patch=PLACES["in a step"])
    (tti.folder / "run/checkpoints/best.ckpt").replace(tti.folder / "run/checkpoints/last.ckpt")
    tti(*ADDED).ok()
    assert_same(uninterrupted, tti)


def test_a_checkpoint_of_another_configuration_is_refused(tti):
    for seed in (1, 2):
        killed = tti(*SMALL, f"run_dir=run-{seed}", f"seed={seed}", patch=PLACES["in a step"])
        assert killed.code == -signal.SIGKILL
    foreign, own = (tti.folder / f"run-{seed}/checkpoints/last.ckpt" for seed in (1, 2))
    own.write_bytes(foreign.read_bytes())
    message = tti(*SMALL, "run_dir=run-2", "seed=2").failed()
    assert "the checkpoint belongs to another configuration than its run folder" in message
    assert own.exists()


@pytest.fixture(scope="module")
def falling_then_rising(tmp_path_factory) -> list[str]:
    """A run whose validation loss is lowest, by .03 nats, after 12 of its 24 steps: it unlearns the unseen digits.

    A network that predicts all tokens alike gains on the half of the validation that it learns, until what it loses
    on the other half is more.
    """
    folder = tmp_path_factory.mktemp("texts")
    texts = {
        "train": [cycle("abcdefgh", i, 1, 40) for i in range(300)],
        "validation": [f"{cycle('abcdefgh', i, 1, 20)} {cycle('12345678', 0, i, 10)}" for i in range(40)],
    }
    for split, stories in texts.items():
        (folder / f"{split}.txt").write_text("".join(f"{story}\n<|endoftext|>\n" for story in stories))
    return [
        "model=tiny", "model.d_model=32", "data=tinystories", "data.corpus.tokenizer=bpe:300", "run_dir=run", "seed=3",
        *(f"data.corpus.{split}={folder / f'{split}.txt'}" for split in texts), "optimizer.lr=0.01",
        "trainer.max_steps=24", "trainer.val_check_interval=4", "callbacks.last.every_n_train_steps=4",
        "data.stories_per_step=8",
    ]  # fmt: skip


def cycle(letters: str, start: int, step: int, length: int) -> str:
    return " ".join(letters[(start + step * i) % len(letters)] for i in range(length))


BEST = "tti.callbacks.checkpoints.DurableCheckpoints.save_checkpoint"
BEST_PLACES = {
    "in a step": killer(f"{LANGUAGE_MODEL}.training_step", "self.trainer.global_step == 18"),
    "in a validation that is worse": killer(f"{LANGUAGE_MODEL}.validation_step", "self.trainer.global_step == 16"),
    "while the best is written": killer(BEST, "args[1].endswith('best.ckpt') and args[0]['global_step'] == 8"),
    "after the best is written": killer(BEST, "args[1].endswith('last.ckpt') and args[0]['global_step'] == 8"),
}


@pytest.fixture(scope="module")
def rising(commands_in, tmp_path_factory, falling_then_rising) -> Commands:
    tti = commands_in(tmp_path_factory.mktemp("rising"))
    tti(*falling_then_rising).ok()
    return tti


def best(folder: Path) -> dict[str, object]:
    return dict(torch.load(folder / "run/checkpoints/best.ckpt", weights_only=True))


def test_the_best_checkpoint_is_that_of_the_lowest_validation_loss(rising):
    losses = {row["step"]: row["val/loss"] for row in rows(rising.folder / "run") if "val/loss" in row}
    assert min(losses, key=losses.__getitem__) == 12
    assert best(rising.folder)["global_step"] == 12


@pytest.mark.parametrize(
    ("place", "sent"),
    nightly_but(
        [("in a validation that is worse", "SIGKILL")],
        [
            *((place, "SIGKILL") for place in BEST_PLACES),
            *((place, "SIGINT") for place in BEST_PLACES if "written" not in place),  # it waits until one is written
        ],
    ),
)
def test_stopped_and_started_again_the_best_checkpoint_is_the_best(tti, rising, falling_then_rising, place, sent):
    assert tti(*falling_then_rising, patch=BEST_PLACES[place].replace("SIGKILL", sent)).code in (-signal.SIGKILL, 130)
    tti(*falling_then_rising).ok()
    assert_same_best(rising.folder, tti.folder)


def test_a_moved_folder_keeps_its_best_score(tti, rising, falling_then_rising, commands_in):
    tti(*falling_then_rising, patch=BEST_PLACES["in a step"])
    elsewhere = commands_in(tti.folder.rename(tti.folder.with_name("elsewhere")))
    done = elsewhere(*falling_then_rising).ok()
    assert "dirpath" not in done.output
    assert_same_best(rising.folder, elsewhere.folder)


def assert_same_best(there: Path, here: Path) -> None:
    expected, got = best(there), best(here)
    assert got["global_step"] == expected["global_step"]
    assert all(torch.equal(value, got["state_dict"][name]) for name, value in expected["state_dict"].items())


def test_a_changed_checkpoint_is_neither_resumed_nor_evaluated(tti, falling_then_rising):
    tti(*falling_then_rising, patch=BEST_PLACES["in a step"])
    for name in ("last", "best"):
        path = tti.folder / f"run/checkpoints/{name}.ckpt"
        content = bytearray(path.read_bytes())
        middle = len(content) // 2
        content[middle : middle + 64] = bytes(byte ^ 0x11 for byte in content[middle : middle + 64])
        path.write_bytes(content)
        with pytest.raises(ValueError, match=f"{name}.ckpt is damaged: .* is not what was written"):
            Run(tti.folder / "run").model(name)
    assert "last.ckpt is damaged. Copy best.ckpt over it" in tti(*falling_then_rising).failed()
