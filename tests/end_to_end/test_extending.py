"""Adds every file of docs/extending.md to a copy of this repository, and trains, resumes and evaluates with them."""

import re
import shutil
import subprocess
from functools import partial
from pathlib import Path

import pytest
import torch
from commands import rows, summary
from hypothesis import given, settings
from hypothesis import strategies as st
from small import SMALL

from tests.typed import in_documents
from tti.evaluation_folder import Evaluation
from tti.runs import Run

REPOSITORY = Path(__file__).parents[2]
FILE = re.compile(r"`((?:tti|conf)/[\w/]+\.(?:py|yaml))`[^\n]*:\n\n```(?:python|yaml)\n(.*?)```", re.DOTALL)
PAGE = (REPOSITORY / "docs" / "extending.md").read_text()
FILES = dict(FILE.findall(PAGE))
ADDED = [
    "regularizer=[winner_share,online_sae]", "metrics=[default,kurtosis]", "model/mlp=competing",
    "constraint=top_weights", "task=restoring", "regularizer/autoencoder=counted", "regularizer.online_sae.expansion=2",
]  # fmt: skip
# Lets commands, which are forks of a process that has imported the package, find the added modules.
FOUND = "import {package}; {package}.__path__.append({folder!r})"


def git(folder: Path, *arguments: str) -> str:
    command = ["git", "-c", "user.name=t", "-c", "user.email=t", *arguments]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=True).stdout


@pytest.fixture(scope="module")
def copy(tmp_path_factory) -> Path:
    """A copy of this repository with the page's files, the only ones unknown to git."""
    folder = tmp_path_factory.mktemp("extended") / "repository"
    for name in git(REPOSITORY, "ls-files", "tti", "conf").splitlines():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(REPOSITORY / name, folder / name)
    git(folder, "init", "-q")
    git(folder, "add", "-A")
    git(folder, "commit", "-qm", "before")
    for name, text in FILES.items():
        (folder / name).write_text(text)
    return folder


@pytest.fixture(scope="module")
def tti(commands_in, copy, tmp_path_factory):
    """Commands of the copy, with two runs that use everything on the page: `straight`, and `resumed`, stopped twice."""
    commands = commands_in(tmp_path_factory.mktemp("runs"))
    commands.environment["TTI_CONF"] = str(copy / "conf")
    folders = {Path(name).parent for name in FILES if name.endswith(".py")}
    patch = "\n".join(FOUND.format(package=".".join(each.parts), folder=str(copy / each)) for each in folders)
    command = partial(commands, patch=patch)
    train = partial(command, *SMALL, *ADDED)
    train("run_dir=straight").ok()
    for _ in range(2):
        train("run_dir=resumed", "callbacks.last.max_hours=1e-9").failed()
    train("run_dir=resumed").ok()
    return command


@pytest.fixture(scope="module")
def straight(tti) -> Path:
    return tti.func.folder / "straight"


def state(folder: Path) -> dict[str, torch.Tensor]:
    return torch.load(folder / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"]


def test_every_code_of_the_page_is_a_file_that_is_added():
    assert len(FILES) == 14
    shown = re.findall(r"```(?:python|yaml)\n(.*?)```", PAGE, re.DOTALL)
    assert [text for text in shown if text not in FILES.values()] == [AN_EXPERIMENT]


AN_EXPERIMENT = PAGE[PAGE.index("# @package _global_") :].partition("```")[0]  # composed by tests of the sweeper


def test_no_file_is_edited(tti, copy):
    changed = git(copy, "status", "--porcelain", "--untracked-files=all").splitlines()
    assert sorted(changed) == sorted(f"?? {name}" for name in FILES)


def test_a_resumed_run_ends_as_the_straight_one_did(tti, straight):
    resumed = straight.with_name("resumed")
    assert rows(resumed)[-1] == rows(straight)[-1]
    one, other = state(straight), state(resumed)
    assert all(torch.equal(value, other[name]) for name, value in one.items())


def test_the_regularizer_of_the_page_is_logged(straight):
    first, last = rows(straight)[0], rows(straight)[-1]
    assert 0 < first["train/winner_share"] < 1
    assert last["train/winner_share_weighted"] > 0
    assert "train/winner_share_to_ce_grad_ratio" in first


def test_the_metric_of_the_page_is_logged_beside_the_others(straight):
    assert {"val/kurtosis/mlp.post/layer_0", "val/kurtosis/mlp_out/mean", "val/sparsity/mlp_out/mean"} <= summary(
        straight
    )["metrics"].keys()


def test_the_constraint_of_the_page_holds_at_the_end(straight):
    weights = state(straight)
    kept = {
        name: (each != 0).double().mean().item() for name, each in weights.items() if re.search(r"net.*\.mlp\.", name)
    }
    assert len(kept) == 4
    assert all(fraction == pytest.approx(0.1, abs=1e-3) for fraction in kept.values())
    assert all((weight != 0).all() for name, weight in weights.items() if name.endswith("attn.qkv.weight"))


def test_the_task_of_the_page_learns_and_is_not_taken_for_a_language_model(straight):
    entries = rows(straight)
    assert "train/perplexity" not in entries[0]
    assert 0 < summary(straight)["metrics"]["val/loss"] < entries[0]["train/ce"]


def test_the_mlp_and_the_part_of_the_page_are_evaluated(tti, straight):
    sae = [
        "kind=[counted]",
        "sparsity_weight=[0.1]",
        "tokens=800",
        "measured_tokens=300",
        "fit.batch=64",
        "fit.passes=1",
    ]
    settings = [f"evaluation.sae.{each}" for each in sae]
    tti("run=straight", "evaluation=[winners,sae]", "subjects=[trained]", *settings, module="tti.evaluate").ok()
    evaluation = Evaluation(straight)
    width = Run(straight).config.model.mlp.d_ff
    assert 1 / width <= evaluation.metrics()["winners/most_wins/mlp.post/mean"] <= 1
    assert evaluation.neurons("blocks.0.mlp.post")["wins"].sum() == pytest.approx(1)
    assert {"sae/variance_explained/counted_0.1/mlp_out/layer_1", "sae/gap/variance_explained/mlp_out/mean"} <= set(
        evaluation.metrics()
    )


def test_the_metric_of_the_page_is_tried_by_its_command(tti):
    ((command, given),) = [each for each in in_documents(REPOSITORY / "docs/extending.md") if each[0] == "court"]
    tti(*given, "trial=small", module=f"tti.{command}").ok()
    row = next(
        line for line in (tti.func.folder / "winners.md").read_text().splitlines() if "winners/most_wins`" in line
    )
    assert "display only" in row


def test_the_kind_of_autoencoder_of_the_page_is_trained_and_saved(tti, straight):
    small = ["expansion=2", "tokens=1000", "measured_tokens=300", "fit.batch=64", "fit.passes=1"]
    given = ["run=straight", "site=blocks.0.mlp_out", "kind=[counted]", "sparsity_weight=[0.1]", *small]
    tti(*given, module="tti.sae").ok()
    assert (straight / "sae/blocks.0.mlp_out/counted_0.1_seed-0/sae_weights.safetensors").exists()


@given(
    values=st.lists(st.floats(-10, 10, width=32).map(lambda x: round(x, 3)), min_size=1, max_size=60, unique_by=abs),
    keep=st.sampled_from([0.1, 0.25, 1.0]),
    tightness=st.sampled_from([0.0, 0.5, 1.0]),
)
@settings(max_examples=60, deadline=None)
def test_the_projection_of_the_page_keeps_the_largest_and_is_idempotent(values, keep, tightness):
    page: dict = {}
    exec(FILES["tti/constraints/top_weights.py"], page)
    constraint, weight = page["TopWeights"]("*", warmup=0.0, keep=keep), torch.tensor(values)[None]
    projected = constraint.projected(weight, tightness)
    count = max(1, round((1 - tightness * (1 - keep)) * len(values)))
    largest = sorted(values, key=abs, reverse=True)[:count]
    assert sorted(projected[projected != 0].tolist()) == pytest.approx(sorted(v for v in largest if v))
    assert torch.equal(constraint.projected(projected, tightness), projected)
