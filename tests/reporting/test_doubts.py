"""Checks shown with the scores: controls, CKA with the baseline, the audit, and the summary of all."""

import json

import numpy as np
import pandas as pd
import pytest

from tti.evaluation_folder import RANDOM_INIT, ROTATION, TRAINED, Array, Evaluation, Result, write
from tti.reporting import findings, pictures, summary

SELECTIVITY = "selectivity/selectivity_top5_weighted/mlp.post/mean"
SAMPLE = np.random.default_rng(0).normal(size=(200, 6))
VARIANTS = {"baseline": (0.50, 0.0), "better": (0.90, 0.3), "same": (0.52, 3.0)}  # selectivity, noise in the sample


def measure(run, subject, seed, score, noise):
    generator = np.random.default_rng(seed)
    about = {"of": {}, "settings": {}, "cost": {}, "environment": {}}
    evaluation = Evaluation(run, "validation", subject)
    write(evaluation, "selectivity", Result({"selectivity_top5_weighted/mlp.post/mean": score + seed / 1000}), about)
    samples = {
        f"blocks.{i}.mlp_out/sample": Array(
            (SAMPLE + noise * generator.normal(size=SAMPLE.shape)).astype(np.float16), ("sample", "width")
        )
        for i in range(2)
    }
    place = {"sample/place": Array(np.arange(len(SAMPLE)), ("sample",))}
    cka = {"cka/mlp_out": Array(np.array([[1.0, score], [score, 1.0]], np.float32), ("layer", "layer"))}
    write(evaluation, "geometry", Result({}, samples | place | cka), about)


@pytest.fixture
def runs(written_run, tmp_path):
    for variant, (score, noise) in VARIANTS.items():
        for seed in (1, 2, 3):
            run = written_run(variant, seed, 1 + seed / 1000)
            measure(run, TRAINED, seed, score, noise + 0.1 * seed)
            measure(run, ROTATION, seed, 0.4, 0)
            if variant == "baseline":
                measure(run, RANDOM_INIT, seed, 0.3, 0)
    return tmp_path


def test_the_first_table_says_gain_cost_and_trust(runs, reported):
    analysis = reported()
    table = findings.first(analysis).table
    assert len(table.header) == 8
    cells = {row[0].text: [cell.text for cell in row[1:]] for row in table.rows}
    assert cells["baseline"] == ["", "1.0020", "", "", "", "", "3 seeds; below its trigram"]
    assert cells["better"][:5] == ["baseline", "1.0020", "+0.0000", "free", "+0.400"]
    assert cells["better"][5] == "gained"  # by the same amount in every seed
    assert cells["same"][4:6] == ["+0.020", "gained"]


def test_a_model_above_its_trigram_is_not_said_to_gain(runs, reported):
    for run in runs.glob("better/*/summary.json"):
        summary_ = json.loads(run.read_text())
        summary_["ngrams"]["validation"]["seen"][2] = 0.9
        run.write_text(json.dumps(summary_))
    analysis = reported()
    assert analysis.gains["verdict"].to_dict() == {"better": "above the trigram", "same": "gained"}
    text = "\n".join(summary.sentences(analysis))
    assert "**No statement on interpretability**" in text
    assert "*above the trigram*: `better`" in text
    assert "| the tokens that a run has seen | 5.000 | 4.000 |" in (runs / "report.md").read_text()


def test_without_n_gram_losses_nothing_is_said_either(runs, reported):
    for run in runs.glob("*/*/summary.json"):
        content = json.loads(run.read_text())
        del content["ngrams"]
        run.write_text(json.dumps(content))
    assert set(reported().gains["verdict"]) == {"trigram unknown"}


def test_scores_stand_beside_rotations_of_the_same_seeds(runs, reported):
    for path in runs.glob(f"baseline/seed-3/evaluation/validation/{ROTATION}/*"):
        path.unlink()
    analysis = reported()
    beside = findings.beside(analysis, "baseline", SELECTIVITY)
    assert beside["score"] == pytest.approx(0.5015)  # mean of seeds 1 and 2
    assert beside["rotated"] == pytest.approx(0.4015)
    assert analysis.gains["n"].to_dict() == {"better": 2, "same": 2}


def test_no_rotation_no_gain_and_no_marks(runs, reported):
    for path in runs.glob(f"*/*/evaluation/validation/{ROTATION}/*"):
        path.unlink()
    analysis = reported()
    assert set(analysis.gains["verdict"]) == {"not measured"}
    assert findings.controls(analysis) == []


def test_cka_with_the_baseline_of_the_same_seed_and_between_its_seeds(runs, reported):
    analysis = reported()
    means = analysis.similarity.groupby(["variant", "layer"])["cka"].mean()
    assert len(analysis.similarity) == 2 * (3 + 3 + 3)
    assert 1 > means["better", 0] > means["same", 0] > 0  # less noise, more similar
    assert means["", 0] < 1
    (found,) = findings.alike(analysis)
    assert [row[0].text for row in found.table.rows] == ["two seeds of the baseline", "better", "same"]
    layers = {variant: matrix for variant, _, matrix in pictures.draw(analysis).layers}
    assert layers["better"][0, 1] == pytest.approx(0.9)


def test_samples_of_other_tokens_are_not_compared(runs, reported):
    run = runs / "better" / "seed-1"
    about = {"of": {}, "settings": {}, "cost": {}, "environment": {}}
    other = {"blocks.0.mlp_out/sample": Array(SAMPLE.astype(np.float16), ("sample", "width")),
             "sample/place": Array(np.arange(len(SAMPLE)) + 1, ("sample",))}  # fmt: skip
    write(Evaluation(run), "geometry", Result({}, other), about)
    pairs = reported().similarity
    assert len(pairs[pairs["variant"] == "better"]) == 2 * 2


def test_the_summary_says_cost_gain_and_doubt(runs, reported):
    text = "\n".join(summary.sentences(reported()))
    assert "3 variants, 3 seeds each, 10 steps" in text
    assert "*free* `better` +0.0000, `same` +0.0000" in text
    assert "**Gain** in *selectivity mlp.post*, beyond a change of basis: *gained* `better`" in text
    assert "1 better and 0 worse of 1 for `better`" in text


@pytest.mark.parametrize("declared", [True, False], ids=["declared", "moved in an audit"])
def test_a_figure_that_may_not_decide_is_marked_and_is_no_gain(runs, reported, declared):
    metric = SELECTIVITY.removesuffix("/mean")
    moved = {f"duplicate/{metric}/before": 1.0, f"duplicate/{metric}/after": 2.0, f"duplicate/{metric}/moved": 1.0}
    about = {"of": {}, "settings": {}, "cost": {}, "environment": {}}
    if not declared:
        write(Evaluation(runs / "same" / "seed-1"), "gaming", Result(moved), about)
    analysis = reported(f"display_only=[{metric if declared else ''}]")
    assert analysis.display_only == {SELECTIVITY}
    assert analysis.headings[SELECTIVITY].endswith("‡")
    assert set(analysis.gains["verdict"]) == {"display only"}
    shown = "| `selectivity/selectivity_top5_weighted/mlp.post` | 1 of 1, +100% |" in (runs / "report.md").read_text()
    assert shown is not declared


def test_one_seed_is_said_and_not_tested(written_run, reported, tmp_path):
    written_run("baseline", 1)
    written_run("sparse", 1, 1.2)
    assert "*no test with one seed* `sparse` +0.2000" in "\n".join(summary.sentences(reported()))
    assert json.dumps("NaN") not in (tmp_path / "report.html").read_text()


def test_metrics_of_any_part_are_shown_where_they_are_configured_and_there(runs, reported):
    about = {"of": {}, "settings": {}, "cost": {}, "environment": {}}
    write(Evaluation(runs / "same" / "seed-1"), "sae", Result({"gap/loss_recovered/mlp_out/mean": 0.125}), about)
    reported()
    figures = pd.read_csv(runs / "report" / "figures.csv").set_index(["metric", "variant"])
    assert figures.loc[("sae/gap/loss_recovered/mlp_out/mean", "same"), ["mean", "n"]].tolist() == [0.125, 1]
    assert not [name for name, _ in figures.index if name.startswith("probes/")]  # no run has it
