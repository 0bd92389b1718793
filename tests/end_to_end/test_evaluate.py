"""`python -m tti.evaluate` on runs of the real command line: its results, resumption, controls and errors."""

import json
import re
import shutil
from functools import partial
from pathlib import Path

import pytest
import torch
from commands import summary
from small import SMALL

from tti.evaluation_folder import Evaluation, evaluations

QUICK = [
    "evaluation.selectivity.fixed_tokens=500",
    "evaluation.causality.neurons=3",
    "evaluation.causality.tokens=100",
    "evaluation.gaming.tokens=300",
    "evaluation.sae.tokens=600",
    "evaluation.sae.measured_tokens=300",
    "evaluation.sae.fit.batch=64",
    "evaluation.probes.story_tokens=800",
    "evaluation.probes.tokens=500",
    "evaluation.factor_probes.tokens=500",
    "evaluation.contexts.k=4",
    "evaluation.contexts.decile_tokens=60",
    "evaluation.geometry.sample_tokens=50",
    "calibration_tokens=800",
]
SOME = "parts=[performance,geometry]"


@pytest.fixture(scope="module")
def trained(commands_in, tmp_path_factory):
    """A folder with two finished runs, `runs/dense` and `runs/topk`."""
    folder = tmp_path_factory.mktemp("evaluated")
    train = commands_in(folder)
    train(*SMALL, "run_dir=runs/dense").ok()
    train(*SMALL, "run_dir=runs/topk", "model/mlp=topk", "regularizer=l1").ok()
    return folder


@pytest.fixture
def evaluate(commands_in, trained, tmp_path):
    """The command, in a copy of the folder."""
    shutil.copytree(trained / "runs", tmp_path / "runs")
    return partial(commands_in(tmp_path), *QUICK, module="tti.evaluate")


def files(run: Path) -> dict[str, int]:
    return {str(path.relative_to(run)): path.stat().st_mtime_ns for path in (run / "evaluation").rglob("*.json")}


def test_every_part_for_every_subject(evaluate, tmp_path):
    said = evaluate("run=runs/topk").ok().output
    assert re.search(r"loss in nats per token: [\d.]+ \(random_init [\d.]+\)", said)
    assert "all metrics: runs/topk/evaluation/validation/trained" in said
    run = tmp_path / "runs/topk"
    subjects = {each.subject: each for each in evaluations(run)}
    assert set(subjects) == {"trained", "random_init", "rotation"}
    assert {"performance", "geometry", "utilisation", "selectivity", "contexts", "effects", "ground_truth",
            "factor_probes", "causality", "sae", "gaming"} <= set(subjects["trained"].parts())  # fmt: skip
    metrics = subjects["trained"].metrics()
    assert metrics["performance/loss"] == pytest.approx(summary(run)["metrics"]["val/loss"], rel=1e-5)
    for site in ("mlp.post", "mlp_out"):
        logged = summary(run)["metrics"][f"val/polysemanticity/{site}/mean"]
        assert metrics[f"selectivity/type_entropy/{site}/mean"] == pytest.approx(logged, rel=1e-4)
    logged = summary(run)["metrics"]["val/mean_abs_cosine/mlp_out/mean"]
    assert metrics["geometry/mean_abs_cosine/mlp_out/mean"] == pytest.approx(logged, rel=1e-4)
    assert subjects["random_init"].metrics()["performance/loss"] > metrics["performance/loss"]
    for evaluation in subjects.values():
        for part in evaluation.parts():
            if evaluation.part(part).content["arrays_file"]:
                evaluation.part(part).arrays.verify()
    site = "blocks.0.mlp.post"
    table = subjects["trained"].neurons(site)
    assert {"mean", "selectivity_top5", "influence", "ablation", "output_norm", "gap"} <= set(table)
    assert len({len(values) for values in table.values()}) == 1


def test_the_random_init_is_the_one_that_training_began_with(commands_in, tmp_path):
    """A run that has learned nothing still is its random_init."""
    command = commands_in(tmp_path)
    command(*SMALL, "run_dir=still", "optimizer.lr=0", "trainer.max_steps=1", "trainer.val_check_interval=1").ok()
    command("run=still", "parts=[performance]", module="tti.evaluate").ok()
    trained, began = (Evaluation(tmp_path / "still", subject=each).metrics() for each in ("trained", "random_init"))
    assert began["performance/loss"] == trained["performance/loss"]


def test_what_is_there_is_left_and_what_is_not_is_added(evaluate, tmp_path):
    run = tmp_path / "runs/dense"
    evaluate("run=runs/dense", SOME).ok()
    before = files(run)
    assert "nothing to do" in evaluate("run=runs/dense", SOME).ok().output
    assert files(run) == before
    evaluate("run=runs/dense", "parts=[performance,geometry,effects]").ok()
    assert before.items() < files(run).items()
    evaluate("run=runs/dense", SOME, "evaluation.performance.resamples=10").ok()
    changed = {name for name, time in files(run).items() if before.get(name) not in (None, time)}
    assert {Path(name).stem for name in changed} == {"performance"}


def test_killed_within_a_part_the_others_are_there(evaluate, tmp_path):
    patch = "import os, tti.evaluation.geometry as g; g.Geometry.compute = lambda self: os._exit(9)"
    assert evaluate("run=runs/dense", SOME, "subjects=[trained]", patch=patch).code == 9
    evaluation = Evaluation(tmp_path / "runs/dense")
    assert evaluation.parts() == ("performance",)
    done = evaluate("run=runs/dense", SOME, "subjects=[trained]").ok()
    assert "trained: geometry\n" in done.output
    assert evaluation.parts() == ("geometry", "performance")


def test_without_spacy_its_part_is_left_out_and_said(evaluate, tmp_path):
    patch = "import tti.evaluation.tagging as t; t._version = lambda name: None"
    done = evaluate("run=runs/dense", "parts=[probes,effects]", "subjects=[trained]", patch=patch).ok()
    assert "probes: left out, parts of speech need spaCy" in done.output
    assert "pip install 'training-time-interpretability[probes]'" in done.output
    assert Evaluation(tmp_path / "runs/dense").parts() == ("effects",)


def test_a_glob_and_a_sweep(evaluate, tmp_path):
    said = evaluate("run=runs/*", "parts=[effects]", "subjects=[trained]").ok().output
    assert re.search(r"runs/topk \(2 of 2, \d+ min left\)", said)
    assert all(Evaluation(tmp_path / "runs" / name).parts() == ("effects",) for name in ("dense", "topk"))
    evaluate("run=runs/dense,runs/topk", "parts=[performance]", "subjects=[trained]", "-m").ok()
    assert all("performance" in Evaluation(tmp_path / "runs" / name).parts() for name in ("dense", "topk"))


def test_folders_without_runs(evaluate, tmp_path):
    (tmp_path / "empty").mkdir()
    assert "no runs in" in evaluate("run=empty").failed()
    assert "no such folder: nowhere/*" in evaluate("run=nowhere/*").failed()


def test_unknown_names_list_those_there_are(evaluate):
    assert "no part nope; there are: performance, answers" in evaluate("run=runs/dense", "parts=[nope]").failed()
    assert "no subject nope; there are: trained" in evaluate("run=runs/dense", "subjects=[nope]").failed()
    assert "has no split 'nope'; it has train, validation, test" in evaluate("run=runs/dense", "split=nope").failed()
    wrong = evaluate("run=runs/dense", "evaluation.geometry.sites=[nope]").failed()
    assert "no site of this model matches 'nope'; it has:" in wrong


def test_one_damaged_run_does_not_stop_the_others(evaluate, tmp_path):
    path = tmp_path / "runs/dense/checkpoints/last.ckpt"
    path.write_bytes(path.read_bytes()[:1000])
    message = evaluate("run=runs", SOME, "subjects=[trained]").failed()
    assert "last.ckpt is damaged" in message
    assert "1 could not be evaluated: runs/dense" in message
    assert Evaluation(tmp_path / "runs/topk").parts() == ("geometry", "performance")


def test_a_regularizer_that_is_not_here_fails_what_needs_it_and_nothing_else(evaluate, tmp_path):
    path = tmp_path / "runs/topk/config.yaml"
    path.write_text(path.read_text().replace("tti.regularizers.l1.L1", "mypkg.share.Share"))
    message = evaluate("run=runs", "parts=[performance,sae]", "subjects=[trained]").failed()
    assert "trained: sae: a run folder may not name mypkg.share.Share" in message
    message = evaluate("run=runs", "parts=[performance,sae]", "subjects=[trained]", "trust=mypkg").failed()
    assert "trained: sae: cannot find mypkg.share.Share: is mypkg installed, or its folder on PYTHONPATH?" in message
    assert "Traceback" not in message
    assert "1 could not be evaluated: runs/topk" in message
    assert Evaluation(tmp_path / "runs/topk").parts() == ("performance",)
    assert Evaluation(tmp_path / "runs/dense").parts() == ("performance", "sae")


def test_an_error_that_nobody_foresaw_stops_neither_the_other_parts_nor_the_other_runs(evaluate, tmp_path):
    patch = "import tti.evaluation.performance as p; p.interval = lambda *args: 1 / 0"
    done = evaluate("run=runs", SOME, "subjects=[trained]", patch=patch)
    message = done.output
    assert done.code == 1
    assert "trained: performance: ZeroDivisionError" in message
    assert "Traceback" in message  # it is a bug of ours
    assert "2 could not be evaluated: runs/dense, runs/topk" in message
    assert all(Evaluation(tmp_path / "runs" / name).parts() == ("geometry",) for name in ("dense", "topk"))


def test_an_evaluation_of_an_earlier_version_whose_settings_name_subjects_counts(evaluate, tmp_path):
    evaluate("run=runs/dense", "parts=[gaming]", "subjects=[trained]").ok()
    path = tmp_path / "runs/dense/evaluation/validation/trained/gaming.json"
    content = json.loads(path.read_text())
    assert "subjects" not in content["settings"]
    content["settings"]["subjects"] = ["trained"]
    for part in content["settings"]["parts"].values():
        part["subjects"] = []
    path.write_text(json.dumps(content))
    assert "nothing to do" in evaluate("run=runs/dense", "parts=[gaming]", "subjects=[trained]").ok().output


def test_an_unfinished_run_is_said(evaluate, tmp_path):
    (tmp_path / "runs/dense/summary.json").unlink()
    assert "runs/dense is unfinished: start it again to finish it" in evaluate("run=runs/dense", SOME).failed()


def test_another_schema_version_is_not_overwritten_unless_told(evaluate, tmp_path):
    evaluate("run=runs/dense", "parts=[performance]", "subjects=[trained]").ok()
    path = tmp_path / "runs/dense/evaluation/validation/trained/performance.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"schema": 99}))
    message = evaluate("run=runs/dense", "parts=[performance]", "subjects=[trained]").failed()
    assert "schema version 99" in message
    assert "overwrite=true" in message
    evaluate("run=runs/dense", "parts=[performance]", "subjects=[trained]", "overwrite=true").ok()
    assert Evaluation(tmp_path / "runs/dense").part("performance").metrics["loss"] > 0


def test_a_network_of_nans_is_evaluated_and_undefined(evaluate, tmp_path):
    path = tmp_path / "runs/dense/checkpoints/last.ckpt"
    checkpoint = torch.load(path, weights_only=True)
    for name in checkpoint["state_dict"]:
        if name.startswith("net.blocks.1.mlp"):
            checkpoint["state_dict"][name].fill_(float("nan"))
    torch.save(checkpoint, path)
    done = evaluate("run=runs/dense", "subjects=[trained]")
    assert "Traceback" not in done.output, done.output
    path = tmp_path / "runs/dense/evaluation/validation/trained/performance.json"
    assert json.loads(path.read_text())["metrics"]["loss"] is None
    geometry = Evaluation(tmp_path / "runs/dense").part("geometry").metrics
    assert geometry["mean_abs_cosine/mlp_out/layer_0"] > 0
    assert geometry["mean_abs_cosine/mlp_out/layer_1"] != geometry["mean_abs_cosine/mlp_out/layer_1"]


def test_in_bfloat16_it_says_how_far_off_and_leaves_out_what_is_lost(evaluate, tmp_path):
    said = (
        evaluate("run=runs/dense", "parts=[performance,effects,causality,gaming,ground_truth]", "dtype=bfloat16")
        .ok()
        .output
    )
    assert re.search(r"bfloat16: loss off by [+-][\d.e-]+ nats per token", said)
    for name in ("causality", "gaming"):
        assert f"{name}: left out, the effect of one neuron is lost in torch.bfloat16" in said
    trained = next(each for each in evaluations(tmp_path / "runs" / "dense") if each.subject == "trained")
    assert set(trained.parts()) == {"performance", "effects", "ground_truth"}
    assert "loss off by" in trained.part("performance").content["environment"]["rounding"]
    assert not [name for name in trained.metrics() if "causal" in name]
    assert "1 evaluated" in evaluate("run=runs/dense", "parts=[performance]", "subjects=[trained]").ok().output
