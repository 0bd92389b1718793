"""What the variants of an experiment share, and what a regularizer must not affect."""

import math

import pytest
import torch
from commands import Commands, rows, summary
from small import SMALL

from tti.evaluation_folder import Evaluation
from tti.runs import Run, find

SHORT = [*SMALL, "trainer.max_steps=6", "trainer.val_check_interval=6"]
LINEAR = "+regularizer.linear={_target_: additions.Linear, sites: blocks.1.mlp_out, weight: 0.1, warmup: 0, width: 32}"
NOISY = "+regularizer.noisy={_target_: additions.Noisy, sites: blocks.0.mlp_out, weight: 0.1, warmup: 0}"
ARMS = {
    "baseline": [],
    "orthogonality": ["regularizer=orthogonality"],
    "anti_polysemantic": ["regularizer=anti_polysemantic"],
    "l1": ["regularizer=l1"],
    "linear": [LINEAR],
    "zero": ["regularizer=[l1,orthogonality]", "regularizer.l1.weight=0", "regularizer.orthogonality.weight=0"],
    "zero_linear": [LINEAR.replace("weight: 0.1", "weight: 0.0")],
    "often": [
        "regularizer=[l1,orthogonality]",
        LINEAR,
        NOISY,
        "task.grad_ratio_every=1",
        "trainer.log_every_n_steps=1",
    ],
    "never": ["regularizer=[l1,orthogonality]", LINEAR, NOISY, "task.grad_ratio_every=1000000"],
    "seed_43": ["seed=43"],
    "online_sae": ["regularizer=online_sae", "regularizer/autoencoder=batch_topk", "regularizer.online_sae.warmup=0"],
    "apart_sae": ["regularizer=online_sae", "regularizer.online_sae.gradient_into_model=false"],
    "rare_sae": [
        "regularizer=online_sae",
        "regularizer/autoencoder=standard",
        "regularizer.online_sae.gradient_into_model=false",
        "regularizer.online_sae.every=3",
    ],
    "decoys": ["model/mlp=decoys", "regularizer=decoys"],
}


@pytest.fixture(scope="module")
def arms(commands_in, tmp_path_factory) -> Commands:
    tti = commands_in(tmp_path_factory.mktemp("arms"))
    for name, overrides in ARMS.items():
        tti(*SHORT, *overrides, f"run_dir={name}").ok()
    return tti


def first_step(arms: Commands, name: str) -> dict[str, float]:
    return rows(arms.folder / name)[0]


def weights(arms: Commands, name: str) -> dict[str, torch.Tensor]:
    return Run(arms.folder / name).model().state_dict()


def equal(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return all(torch.equal(value, other[name]) for name, value in one.items())


@pytest.mark.parametrize("arm", ["orthogonality", "anti_polysemantic", "l1", "linear", "online_sae"])
def test_the_first_step_is_the_same_in_every_arm(arms, arm):
    assert first_step(arms, arm)["train/ce"] == first_step(arms, "baseline")["train/ce"]
    assert summary(arms.folder / arm)["metrics"]["val/loss"] != summary(arms.folder / "baseline")["metrics"]["val/loss"]


def test_another_seed_is_another_run(arms):
    assert first_step(arms, "seed_43")["train/ce"] != first_step(arms, "baseline")["train/ce"]


@pytest.mark.parametrize("arm", ["zero", "zero_linear"])
def test_a_regularizer_without_weight_changes_no_bit(arms, arm):
    assert equal(weights(arms, arm), weights(arms, "baseline"))


def test_decoys_change_no_bit_of_the_network_and_learn(arms):
    trained = {name.replace(".mlp.mlp.", ".mlp."): value for name, value in weights(arms, "decoys").items()}
    assert equal(weights(arms, "baseline"), trained)
    logged = [row["train/decoys"] for row in rows(arms.folder / "decoys") if "train/decoys" in row]
    assert logged[-1] < 0.8 * logged[0]  # log 2 at first, when they know nothing


def test_decoys_gain_nothing(arms):
    """Scores that decide are those of the baseline; the plain mean over neurons, which does not, moves."""
    scores = {}
    for arm in ("baseline", "decoys"):
        asked = ["parts=[selectivity,ground_truth]", "subjects=[trained]", "evaluation.ground_truth.causal_tokens=200"]
        arms(f"run={arm}", *asked, "calibration_tokens=800", module="tti.evaluate").ok()
        scores[arm] = Evaluation(arms.folder / arm, "validation", "trained").metrics()
    declared = "ground_truth/context_f1/mlp.post/mean", "selectivity/selectivity_top5_weighted/mlp.post/mean"
    for name in (*declared, "ground_truth/causal_f1/mlp.post/mean"):
        assert scores["decoys"][name] == pytest.approx(scores["baseline"][name], rel=1e-4), name
    plain = "selectivity/selectivity_top5/mlp.post/mean"
    assert scores["decoys"][plain] != pytest.approx(scores["baseline"][plain], rel=1e-2)


@pytest.mark.parametrize("arm", ["apart_sae", "rare_sae"])
def test_autoencoders_that_only_watch_change_no_bit_and_learn(arms, arm):
    assert equal(weights(arms, arm), weights(arms, "baseline"))
    state = torch.load(arms.folder / arm / "checkpoints/last.ckpt", weights_only=True)["state_dict"]
    learned = [value for name, value in state.items() if name.endswith("b_dec")]
    assert len(learned) == 2  # one per layer
    assert all(value.abs().sum() > 0 for value in learned)


def test_online_autoencoders_are_logged(arms):
    entry = rows(arms.folder / "online_sae")[1]
    assert {f"train/online_sae/{name}" for name in ("variance_explained", "l0", "dead")} <= entry.keys()
    assert entry["train/online_sae/l0"] == pytest.approx(32)
    assert entry["train/online_sae"] == pytest.approx(1 - entry["train/online_sae/variance_explained"])
    assert rows(arms.folder / "online_sae")[0]["train/online_sae_to_ce_grad_ratio"] > 0


def test_measuring_gradients_changes_no_bit(arms):
    assert equal(weights(arms, "often"), weights(arms, "never"))


def test_each_regularizer_is_logged(arms):
    entry = rows(arms.folder / "often")[3]
    assert {f"train/{name}{end}" for name in ("l1", "linear") for end in ("", "_weighted")} <= entry.keys()
    weighted = sum(entry[f"train/{name}_weighted"] for name in ("l1", "orthogonality", "linear", "noisy"))
    assert entry["train/loss"] == pytest.approx(entry["train/ce"] + weighted)
    assert entry["train/reg_to_ce_ratio"] == pytest.approx(weighted / entry["train/ce"])


def test_regularizers_warm_up(arms):
    """The warm-up is the first tenth of six steps: 0 at the first step, complete at the second."""
    first, second = rows(arms.folder / "often")[:2]
    assert first["train/l1_weighted"] == 0
    assert second["train/l1_weighted"] == pytest.approx(1e-3 * second["train/l1"])


def test_logged_learning_rates_are_those_of_the_steps(arms):
    rates = [row["train/learning_rate"] for row in rows(arms.folder / "often") if "train/learning_rate" in row]
    assert len(rates) == 6
    assert rates == sorted(rates, reverse=True)
    assert rates[-1] == pytest.approx(12e-3 * (1 + math.cos(math.pi * 4 / 5)) / 2)  # one step of warm-up, 4 of 5 done


def test_tensorboard_gets_events(tti):
    tti(*SHORT, "run_dir=run", "logger=tensorboard").ok()
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(tti.folder / "run/tensorboard")).Reload()
    assert {"train/ce", "val/loss"} <= set(events.Tags()["scalars"])
    assert [event.step for event in events.Scalars("val/loss")] == [6]
    assert len(rows(tti.folder / "run")) == 3


@pytest.mark.slow
def test_wandb_offline_needs_no_account_and_every_job_has_a_run_of_its_own(tti):
    sweep = [override for override in SHORT if not override.startswith("hydra.mode")]
    tti(*sweep, "logger=wandb_offline", "variant=baseline,topk", WANDB_MODE="offline").ok()
    for run in find(tti.folder / "runs"):
        identifier = (run.folder / "wandb_id").read_text()
        (record,) = run.folder.glob(f"wandb/offline-run-*/run-{identifier}.wandb")
        content = record.read_bytes()
        assert b"stories_per_step" in content  # the configuration
        assert b"val/loss" in content


@pytest.mark.nightly
def test_two_processes_train_what_one_does(tti):
    short = [
        *SMALL,
        "model.dropout=0",
        "data.validation_tokens=1024",
        "trainer.max_steps=10",
        "trainer.accelerator=cpu",
    ]
    one = tti.start(*short, "run_dir=one")
    two = tti.real(*short, "run_dir=two", "trainer.devices=2", "trainer.strategy=ddp").ok()
    one.wait().ok()
    assert "Traceback" not in two.output
    single, double = (summary(tti.folder / name)["metrics"] for name in ("one", "two"))
    assert double["val/loss"] == pytest.approx(single["val/loss"], rel=1e-5)
    assert double["test/loss"] == pytest.approx(single["test/loss"], rel=1e-5)
    for expected, got in zip(rows(tti.folder / "one"), rows(tti.folder / "two"), strict=True):
        assert got == pytest.approx(expected, rel=1e-2, abs=1e-4)
        assert got.get("train/tokens") == expected.get("train/tokens")
    files = [{path.name for path in (tti.folder / name).iterdir()} for name in ("one", "two")]
    assert files[0] == files[1]


@pytest.mark.nightly
def test_a_sweep_with_two_processes_does_not_start_itself_again(tti):
    sweep = [override for override in SMALL if not override.startswith("hydra.mode")]
    two = ["trainer.devices=2", "trainer.strategy=ddp", "trainer.accelerator=cpu", "data.validation_tokens=1024"]
    done = tti.real(*sweep, *two, "trainer.max_steps=2", "variant=baseline,orthogonality")
    assert "2 finished" in done.ok().output
