"""`python -m tti.sae`, and the evaluation of a run with jointly trained autoencoders."""

import json
import shutil
from functools import partial

import pytest
import torch
from small import SMALL

from tti.evaluation_folder import Evaluation
from tti.runs import Run
from tti.sae import load

FIT = ["batch=64", "passes=1"]
QUICK = ["run=run", "site=blocks.0.mlp_out", "k=[2,4]", "expansion=2", "tokens=1000", "measured_tokens=500"]
QUICK += [f"fit.{setting}" for setting in FIT]


@pytest.fixture(scope="module")
def trained(commands_in, tmp_path_factory):
    """A folder with a finished run that has a jointly trained autoencoder at blocks.1.mlp_out."""
    folder = tmp_path_factory.mktemp("autoencoders")
    own = ["regularizer=online_sae", "regularizer.online_sae.sites=blocks.1.mlp_out"]
    own += ["regularizer.online_sae.expansion=2", "regularizer.online_sae.autoencoder.k=4"]
    commands_in(folder)(*SMALL, "run_dir=run", *own).ok()
    return folder


@pytest.fixture
def folder(trained, tmp_path):
    shutil.copytree(trained / "run", tmp_path / "run")
    return tmp_path


@pytest.fixture
def sae(commands_in, folder):
    return partial(commands_in(folder), module="tti.sae")


def saved(folder):
    return {path.parent.name: path.stat().st_mtime_ns for path in folder.glob("run/sae/*/*/cfg.json")}


def test_several_at_once_and_again_only_what_is_missing(sae, folder):
    said = sae(*QUICK, "kind=[topk,standard]", "sparsity_weight=[0.1]").ok().output
    names = {"topk_2_seed-0", "topk_4_seed-0", "standard_0.1_seed-0"}
    assert set(saved(folder)) == names
    for word in ("variance explained", "loss recovered", "dead", "topk_2", "standard_0.1", "run/sae"):
        assert word in said
    before = saved(folder)
    said = sae(*QUICK, "kind=[topk,standard]", "sparsity_weight=[0.1]", "seeds=[0,1]").ok().output
    assert {name: time for name, time in saved(folder).items() if name in names} == before
    assert len(saved(folder)) == 6
    assert "blocks.0.mlp_out: 3 trained" in said
    assert "trained" not in sae(*QUICK).ok().output


def test_a_saved_one_is_spliced_in_through_the_tap(sae, folder):
    sae(*QUICK, "k=[4]").ok()
    path = folder / "run/sae/blocks.0.mlp_out/topk_4_seed-0"
    net = Run(folder / "run").model()
    tap = load(path, net)
    acts = torch.randn(5, net.sites[tap.site].width)
    assert torch.equal(tap(tap.site, acts), tap.autoencoder(acts))
    assert json.loads((path / "cfg.json").read_text())["metadata"]["hook_name"] == "blocks.0.mlp.hook_out"
    with torch.no_grad():
        net.blocks[0].mlp.out.weight.mul_(2)
    with pytest.raises(ValueError, match="trained on another model, with weights"):
        load(path, net)


def test_killed_while_it_saves_what_was_saved_is_whole_and_the_rest_is_trained(sae, folder):
    patch = (
        "import os, tti.autoencoders.saelens as s; real = s.save_file; calls = []\n"
        "def save(*a): calls.append(real(*a)); len(calls) == 2 and os._exit(9)\n"
        "s.save_file = save"
    )
    assert sae(*QUICK, patch=patch).code == 9
    assert set(saved(folder)) == {"topk_2_seed-0"}
    assert "blocks.0.mlp_out: 1 trained" in sae(*QUICK).ok().output
    assert {path.name for path in (folder / "run/sae/blocks.0.mlp_out").iterdir()} == {"topk_2_seed-0", "topk_4_seed-0"}


def test_other_settings_and_other_models_are_not_overwritten_unless_told(sae, folder):
    sae(*QUICK, "k=[4]").ok()
    said = sae(*QUICK, "k=[4]", "fit.lr=1e-4").failed()
    assert "holds another autoencoder:\n  fit.lr: 0.003 there, 0.0001 wanted" in said
    path = folder / "run/checkpoints/last.ckpt"
    checkpoint = torch.load(path, weights_only=True)
    checkpoint["state_dict"]["net.embed.weight"].mul_(2)
    torch.save(checkpoint, path)
    said = sae(*QUICK, "k=[4]").failed()
    assert "holds an autoencoder of another model:\n  weights:" in said
    assert "to=FOLDER" in said
    sae(*QUICK, "k=[4]", "overwrite=true").ok()


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (["site=nope"], "no site of this model matches 'nope'; it has:"),
        (["kind=[gated]"], "no kind of autoencoder gated; there are: batch_topk, standard, topk"),
        (["k=[1000]"], "k=1000 latents per token: must be from 1 to 64"),
        (["run=elsewhere"], "elsewhere is not started"),
        (["split=train"], "split=train: autoencoders train on it"),
        (["tokens=10", "fit.batch=64000"], "but a batch of autoencoders takes 64000"),
    ],
)
def test_what_is_wrong_is_one_clear_message(sae, folder, wrong, message):
    assert message in sae(*QUICK, *wrong).failed()
    assert not saved(folder)


def test_one_that_was_trained_with_the_model_is_measured_beside_fresh_ones(commands_in, folder):
    small = [
        "tokens=1000",
        "measured_tokens=500",
        "expansion=2",
        "kind=[topk]",
        "k=[4]",
        "gap_factors=[0.5,1,2]",
    ]
    settings = [f"evaluation.sae.{each}" for each in [*small, *(f"fit.{setting}" for setting in FIT)]]
    command = partial(commands_in(folder), module="tti.evaluate")
    said = command("run=run", "parts=[sae]", "subjects=[trained,random_init]", *settings).ok().output
    assert "2 evaluated" in said
    trained, untrained = (Evaluation(folder / "run", subject=each).part("sae") for each in ("trained", "random_init"))
    gap = trained.metrics["gap/variance_explained/mlp_out/layer_1"]
    own, fresh = (trained.metrics[f"{each}/variance_explained/mlp_out/layer_1"] for each in ("cotrained", "fresh"))
    assert gap == pytest.approx(own - fresh)
    assert trained.metrics["cotrained/l0/mlp_out/layer_1"] == pytest.approx(4, abs=0.1)
    assert not [name for name in untrained.metrics if name.startswith("gap")]
    assert "sae: left out, it trains on the split" in command("run=run", "parts=[sae]", "split=train", *settings).output
