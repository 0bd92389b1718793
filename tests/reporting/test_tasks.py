"""Answers, experts and tasks in a report: only where runs have them, models of one task as references."""

import math

import numpy as np
import pytest

from tti.evaluation_folder import RANDOM_INIT, TRAINED, Array, Evaluation, Result, write
from tti.reporting.experts import assigned_first
from tti.reporting.modularity import LOST, USED, charts

TASKS = ("sentiment", "question")
DATA = {"corpus": {"_target_": "tti.data.tasks.GrammarTasks", "weights": {"sentiment": 1, "question": 1}}}
MATRIX = np.array([[0.0, 0.1], [0.0, 0.6], [0.7, 0.0]])  # expert 2 is sentiment's, expert 1 is question's


def answered(run, tasks=TASKS, right=0.9):
    metrics = {}
    for prefix, score in (("", right), ("majority_", 0.35), ("promptless_", right / 3)):
        for name, more in (("exact_match", 0), ("f1", 0.01), ("accuracy", 0)):
            metrics |= {f"{prefix}{name}/{task}": score + more for task in (*tasks, "mean")}
    part(run, "answers", Result(metrics))


def routed(run, experts=True, subject=TRAINED, p=0.01):
    ways = ("renormalised", "next", "random", "blocks") if experts else ("blocks",)
    metrics, arrays = {}, {}
    for layer in ("layer_0", "layer_1", "mean"):
        for way in ways:
            metrics |= {f"dominance_{way}/mlp.post/{layer}": 0.65 if way in ("renormalised", "next") else 0.02}
            metrics |= {f"dominance_{way}_p/mlp.post/{layer}": p}
        if experts:
            metrics |= {f"{name}/mlp.post/{layer}": 0.5 for name in ("expert_entropy", "router_entropy")}
            metrics |= {f"information{kind}_excess/mlp.post/{layer}": 0.8 for kind in ("", "_given_type")}
            metrics |= {f"information_given_type_p/mlp.post/{layer}": p if layer == "layer_0" else 0.5}
    for layer in (0, 1):
        site = f"blocks.{layer}.mlp.post"
        arrays |= {f"{site}/ablation_{way}": Array(MATRIX, ("expert", "task"), "nats") for way in ways}
        if experts:
            arrays[f"{site}/utilisation"] = Array(np.array([[0.1, 0.2, 0.7], [0.3, 0.6, 0.1]]), ("task", "expert"))
    part(run, "modularity", Result(metrics, arrays, {"tasks": ", ".join(TASKS)}), subject)


def part(run, name, result, subject=TRAINED):
    write(
        Evaluation(run, "validation", subject), name, result, {"of": {}, "settings": {}, "cost": {}, "environment": {}}
    )


@pytest.fixture
def sweep(written_run):
    """A dense model and a mixture, and a model of each task, which the second does not learn in one seed."""
    for seed in (1, 2):
        dense, moe = (written_run(variant, seed, 0.5, data=DATA) for variant in ("dense", "moe"))
        for run, experts in ((dense, False), (moe, True)):
            answered(run, right=0.9 + seed / 50)
            routed(run, experts)
            routed(run, experts, RANDOM_INIT, p=0.6)
        for task in TASKS:
            weights = {each: float(each == task) for each in TASKS}
            only = written_run(f"only_{task}", seed, 0.4, data={"corpus": DATA["corpus"] | {"weights": weights}})
            answered(only, (task,), 0.99 if task == "sentiment" else 0.9 + seed / 25)


def test_models_of_one_task_are_references_and_not_compared(sweep, reported, tmp_path):
    analysis = reported("baseline=dense")
    assert analysis.variants == ["dense", "moe"]
    assert {run.key.variant for run in analysis.selection.references} == {"only_sentiment", "only_question"}
    text = (tmp_path / "report.md").read_text()
    assert "| one model per task | 0.990 ± 0.000 | 0.960 ± 0.254 | - |" in text
    assert "| most frequent answer | 0.350 | 0.350 | 0.350 |" in text
    assert "| without the prompt | 0.307 to 0.313 |" in text
    assert "above 95% exact match in every seed: sentiment; not: question" in text
    assert "with the question alone |" not in text  # none of the runs has it
    assert "## Answers: F1" in text
    assert "## Answers: accuracy" not in text
    assert "Equal in every cell: accuracy." in text


def test_alone_they_are_compared_with_each_other_and_without_them_it_is_said(written_run, reported, tmp_path):
    answered(written_run("only_sentiment", 1, data=DATA))
    assert reported("baseline=only_sentiment").variants == ["only_sentiment"]
    answered(written_run("dense", 1, data=DATA))
    assert reported("baseline=dense", "references=[]").variants == ["dense", "only_sentiment"]
    assert "no finished runs of models of one task alone" in (tmp_path / "report.md").read_text()


def test_experts_stand_in_tables_beside_their_controls(sweep, reported, tmp_path):
    reported("baseline=dense")
    text = (tmp_path / "report.md").read_text()
    assert f"## {USED}" in text
    assert (
        "| `moe` | 0.500 ± 0.000 | 0.500 ± 0.000 | 0.800 ± 0.000 | 0.800 ± 0.000 | 0.800 ± 0.000 | ≤ 0.05 in 2 of 4 |"
        in text
    )
    assert "| `dense` | - | - | - | 0.020 ± 0.000 | - | ≤ 0.05 in 4 of 4 |" in text
    lost = (
        "| `moe` | 0.650 ± 0.000 | 0.650 ± 0.000 | 0.020 ± 0.000 | 0.020 ± 0.000 | 0.650 ± 0.000 | ≤ 0.05 in 4 of 4 |"
    )
    assert lost in text
    assert "![utilisation](report/utilisation.png)" in text
    assert "![ablation](report/ablation.png)" in text


def test_heatmaps_are_of_the_first_seed_in_the_order_of_the_best_assignment(sweep, reported, tmp_path):
    analysis = reported("baseline=dense")
    shown = charts(analysis)
    assert [(chart["variant"], chart["layer"]) for chart in shown[USED]] == [("moe", "layer_0"), ("moe", "layer_1")]
    assert {each.seed for each in analysis.maps} == {1}
    of_moe = next(chart for chart in shown[LOST] if chart["variant"] == "moe")
    assert of_moe["rows"] == ["expert 2", "expert 1", "expert 0"]
    assert of_moe["columns"] == list(TASKS)
    assert of_moe["values"] == [[0.7, 0], [0, 0.6], [0, 0.1]]
    assert of_moe["y"] == "moe, layer_0, p 0.01"
    assert of_moe["most"] == 0.7
    assert shown[USED][0]["values"] == [[0.7, 0.1], [0.2, 0.6], [0.1, 0.3]]
    assert next(chart for chart in shown[LOST] if chart["variant"] == "dense")["rows"][0] == "block 2"
    assert '"kind":"heat"' in (tmp_path / "report.html").read_text().replace(": ", ":")


def test_matrices_that_cannot_be_read_are_said_once_and_others_are_shown(sweep, reported, tmp_path):
    (tmp_path / "moe" / "seed-1" / "evaluation" / "validation" / "trained" / "modularity.npz").write_bytes(b"no")
    analysis = reported("baseline=dense")
    assert sum("experts not shown" in remark for remark in analysis.remarks) == 1
    assert {each.variant for each in analysis.maps} == {"dense", "moe"}


def test_what_no_run_has_has_no_section(written_run, reported, tmp_path):
    written_run("baseline", 1)
    analysis = reported()
    text = (tmp_path / "report.md").read_text()
    assert "Answers" not in text
    assert "xpert" not in text
    assert charts(analysis) == {USED: [], LOST: []}


def test_the_gain_on_the_grammars_tasks_is_in_answers_by_single_neurons(sweep, reported):
    assert reported("baseline=dense").declared["moe"].metric == "answered/f1/mlp.post/mean"


def test_a_matrix_without_an_assignment_keeps_its_order():
    assert assigned_first(MATRIX).tolist() == [2, 1, 0]
    assert assigned_first(np.full((2, 3), 0.1)).tolist() == [0, 1]
    assert assigned_first(np.array([[math.nan, 1], [0, 1]])).tolist() == [0, 1]
