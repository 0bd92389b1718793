"""What stands beside the scores: controls, CKA with the baseline, the audit, and the summary over all of it."""

import json

import numpy as np
import pytest

from tti.evaluation_folder import RANDOM_INIT, ROTATION, TRAINED, Array, Evaluation, Result, write
from tti.reporting import controls, similarity, summary

SELECTIVITY = "selectivity/selectivity/mlp.post/mean"
SAMPLE = np.random.default_rng(0).normal(size=(200, 6))
VARIANTS = {"baseline": (0.50, 0.0), "better": (0.90, 0.3), "same": (0.52, 3.0)}  # selectivity, noise in the sample


def measure(run, subject, seed, score, noise):
    generator = np.random.default_rng(seed)
    about = {"of": {}, "settings": {}, "cost": {}, "environment": {}}
    evaluation = Evaluation(run, "validation", subject)
    write(evaluation, "selectivity", Result({"selectivity/mlp.post/mean": score + seed / 1000}), about)
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


def test_a_change_is_marked_only_beyond_what_a_rotation_does(runs, reported):
    analysis = reported()
    assert controls.compared(analysis, "better", SELECTIVITY) == (pytest.approx(0.4), pytest.approx(0.1))
    (found,) = controls.finding(analysis)
    cells = {row[0].text: row[2] for row in found.table.rows}
    assert cells["baseline"].text == "0.502"
    assert cells["baseline"].spread == "(rotated 0.402; untrained 0.302)"
    assert (cells["better"].text, cells["better"].kind) == ("0.902 ▲", "good")
    assert (cells["same"].text, cells["same"].kind) == ("0.522 =", "")


def test_no_rotation_no_marks(runs, reported):
    for path in runs.glob(f"*/*/evaluation/validation/{ROTATION}/*"):
        path.unlink()
    (found,) = controls.finding(reported())
    assert "No rotation was evaluated" in found.notes[0]
    assert found.table.rows[1][2].text == "0.902"


def test_cka_with_the_baseline_of_the_same_seed_and_between_its_seeds(runs, reported):
    analysis = reported()
    means = similarity.between_runs(analysis).groupby(["variant", "layer"])["cka"].mean()
    assert len(similarity.between_runs(analysis)) == 2 * (3 + 3 + 3)
    assert 1 > means["better", 0] > means["same", 0] > 0  # less noise, more alike
    assert means["", 0] < 1
    (found,) = similarity.finding(analysis)
    assert [row[0].text for row in found.table.rows] == ["baseline, other seeds", "better", "same"]
    assert list(found.table.header) == ["variant", "mlp_out 0", "mlp_out 1"]
    layers = {variant: matrix for variant, _, matrix in similarity.layers(analysis)}
    assert layers["better"][0, 1] == pytest.approx(0.9)


def test_samples_of_other_tokens_are_not_compared(runs, reported):
    run = runs / "better" / "seed-1"
    about = {"of": {}, "settings": {}, "cost": {}, "environment": {}}
    other = {"blocks.0.mlp_out/sample": Array(SAMPLE.astype(np.float16), ("sample", "width")),
             "sample/place": Array(np.arange(len(SAMPLE)) + 1, ("sample",))}  # fmt: skip
    write(Evaluation(run), "geometry", Result({}, other), about)
    pairs = similarity.between_runs(reported())
    assert len(pairs[pairs["variant"] == "better"]) == 2 * 2


def test_the_summary_says_cost_gain_and_doubt(runs, reported):
    text = "\n".join(summary.sentences(reported()))
    assert "3 variants, 3 seeds each, 10 steps" in text
    assert "*free* `better` +0.0000, `same` +0.0000" in text
    assert "*selectivity mlp.post* by `better`, `same`" in text  # the scores differ by the same in every seed
    assert "in 1 of 1 figures `better`; in 0 of 1 figures `same`" in text


def test_a_figure_that_moved_in_the_audit_is_marked_and_is_no_gain(runs, reported):
    metric = SELECTIVITY.removesuffix("/mean")
    moved = {f"duplicate/{metric}/before": 1.0, f"duplicate/{metric}/after": 2.0, f"duplicate/{metric}/moved": 1.0}
    about = {"of": {}, "settings": {}, "cost": {}, "environment": {}}
    write(Evaluation(runs / "same" / "seed-1"), "gaming", Result(moved), about)
    analysis = reported()
    assert analysis.display_only == {SELECTIVITY, "aggregate"}
    assert analysis.headings[SELECTIVITY].endswith("‡")
    assert "no figure that may decide is better" in "\n".join(summary.sentences(analysis))
    assert "| `selectivity/selectivity/mlp.post` | 1 of 1, +100% |" in (runs / "report.md").read_text()
    assert "moved in the gaming audit (‡)" in (runs / "report.md").read_text()


def test_one_seed_is_said_and_not_tested(written_run, reported, tmp_path):
    written_run("baseline", 1)
    written_run("sparse", 1, 1.2)
    assert "*not tested* `sparse` +0.2000" in "\n".join(summary.sentences(reported()))
    assert json.dumps("NaN") not in (tmp_path / "report.html").read_text()


def test_metrics_of_any_part_are_shown_where_they_are_configured_and_there(runs, reported):
    about = {"of": {}, "settings": {}, "cost": {}, "environment": {}}
    write(Evaluation(runs / "same" / "seed-1"), "sae", Result({"gap/loss_recovered/mlp_out/mean": 0.125}), about)
    reported()
    text = (runs / "report.md").read_text()
    assert "co-trained less fresh SAE loss recovered mlp_out" in text
    assert "0.125" in text
    assert "POS accuracy" not in text  # no run has it
