"""Missing or wrong input is reported, and the rest of the report is written."""

import json
import math

import pytest


def remarks(analysis):
    return "\n".join(analysis.remarks)


def test_one_seed_only(written_run, reported, tmp_path):
    written_run("baseline", 1)
    written_run("sparse", 1, 1.2)
    analysis = reported()
    assert "one seed only: no intervals" in remarks(analysis)
    assert analysis.losses.loc["sparse", "verdict"] == "no test with one seed"
    assert "no test with one seed" in (tmp_path / "report.md").read_text()
    assert "no test with one seed" in (tmp_path / "report.html").read_text()


def test_zero_regularized_runs(written_run, reported, tmp_path):
    written_run("baseline", 1)
    written_run("baseline", 2, 1.1)
    assert "the only variant: there is nothing to compare it with" in remarks(reported())
    assert "## What it costs" not in (tmp_path / "report.md").read_text()


def test_no_baseline(written_run, reported):
    written_run("sparse", 1)
    assert "no finished run of the baseline `baseline`, so nothing is compared with it; there are `sparse`" in remarks(
        reported()
    )


def test_no_finished_run(written_run, reported):
    written_run("baseline", 1, finished=False)
    with pytest.raises(ValueError, match=r"none of the 1 runs in .* has finished"):
        reported()


def test_a_seed_that_one_variant_lacks(written_run, reported):
    written_run("baseline", 1)
    written_run("baseline", 2)
    written_run("sparse", 1)
    assert "`sparse` has no finished run of seed 2, which others have" in remarks(reported())


def test_a_metric_that_is_not_a_number(written_run, reported, tmp_path):
    for seed in (1, 2, 3):
        written_run("baseline", seed)
        run = written_run("sparse", seed, 1.2)
    summary = json.loads((run / "summary.json").read_text())
    summary["metrics"]["val/loss"] = math.nan
    (run / "summary.json").write_text(json.dumps(summary))
    analysis = reported()
    assert "*val loss* is undefined (NaN): `sparse` seed 3" in remarks(analysis)
    assert analysis.losses.loc["sparse", "verdict"] == "NaN"
    assert "NaN" not in (tmp_path / "report.html").read_text().partition("Object.assign")[2].partition("\n")[0]


def test_an_evaluation_of_another_schema_version(written_run, evaluate_run, reported):
    for variant in ("baseline", "sparse"):
        run = written_run(variant, 1)
        evaluate_run(run, 1)
    path = run / "evaluation" / "validation" / "trained" / "selectivity.json"
    path.write_text(path.read_text().replace('"schema": 1', '"schema": 99'))
    analysis = reported()
    assert "left out: sparse/seed-1/evaluation/validation/trained/selectivity.json has schema version 99" in remarks(
        analysis
    )
    assert analysis.table["performance/loss"].notna().all()


def test_damaged_arrays(written_run, evaluate_run, reported, tmp_path):
    for variant in ("baseline", "sparse"):
        run = written_run(variant, 1)
        evaluate_run(run, 1)
    for part in ("contexts", "performance", "geometry"):
        path = run / "evaluation" / "validation" / "trained" / f"{part}.npz"
        path.write_bytes(path.read_bytes()[:100])
    said = remarks(reported())
    assert "no losses of stories: sparse/seed-1" in said
    assert "not in the browser: sparse/seed-1" in said
    assert (tmp_path / "report.html").exists()
    index = (tmp_path / "report" / "browser" / "data" / "index.js").read_text()
    assert "baseline" in index
    assert "sparse" not in index


def test_figures_without_their_arrays_as_in_an_archive_are_named_once(written_run, evaluate_run, reported):
    for variant in ("baseline", "sparse"):
        for seed in (1, 2):
            evaluate_run(run := written_run(variant, seed), seed)
            (run / "evaluation" / "validation" / "trained" / "performance.npz").unlink()
    said = remarks(reported())
    assert "the arrays (.npz) are missing beside the figures of `baseline`, `sparse` seeds 1, 2" in said
    assert "damaged" not in said


def test_a_run_that_was_not_evaluated(written_run, evaluate_run, reported):
    evaluate_run(written_run("baseline", 1), 1)
    written_run("sparse", 1)
    assert "not evaluated on validation: `sparse` seed 1" in remarks(reported())


def test_what_is_missing_is_said_once_and_briefly(written_run, evaluate_run, reported):
    for variant in ("baseline", "sparse"):
        for seed in (1, 2, 3):
            run = written_run(variant, seed)
            if seed == 1:
                evaluate_run(run, seed)
    said = remarks(reported())
    assert "not evaluated on validation: `baseline`, `sparse` seeds 2, 3" in said
    assert "is undefined" not in said


def test_nothing_evaluated(written_run, reported, tmp_path):
    written_run("baseline", 1)
    assert "no run was evaluated on validation" in remarks(reported())
    assert not (tmp_path / "report" / "browser").exists()


def test_other_data_are_refused_unless_told_to(written_run, reported):
    written_run("baseline", 1)
    written_run("sparse", 1, data={"corpus": {"train": "/elsewhere/other.txt"}})
    with pytest.raises(
        ValueError,
        match=r"data.corpus.train: c.txt \(baseline/seed-1\), other.txt \(sparse/seed-1\)\n.*compare_anyway=true",
    ):
        reported()
    assert "compared anyway, although they differ" in remarks(reported("compare_anyway=true"))


def test_the_same_file_elsewhere_is_the_same(written_run, reported):
    written_run("baseline", 1)
    written_run("sparse", 1, data={"corpus": {"train": "/elsewhere/c.txt"}})
    reported()


def test_another_tokenizer_or_validation_set_is_refused(written_run, reported):
    written_run("baseline", 1)
    run = written_run("sparse", 1)
    (run / "tokenizer.json").write_text("{}")
    with pytest.raises(ValueError, match="tokenizer: "):
        reported()
    run = written_run("longer", 1)
    summary = json.loads((run / "summary.json").read_text())
    summary["metrics"]["val/tokens"] = 7
    (run / "summary.json").write_text(json.dumps(summary))
    with pytest.raises(ValueError, match=r"validation tokens: 400 \(baseline/seed-1 and 1 more\), 7 \(longer/seed-1\)"):
        reported()


def test_an_unknown_primary_metric(written_run, reported):
    written_run("baseline", 1)
    written_run("sparse", 1)
    with pytest.raises(ValueError, match="no run has loss=val/los; available losses: val/loss"):
        reported("loss=val/los")


def test_the_loss_may_have_its_former_name(written_run, reported):
    written_run("baseline", 1)
    analysis = reported("primary=train/ce")
    assert analysis.loss == "train/ce"
    assert analysis.declared["baseline"].metric.startswith("selectivity/")


def test_folders_and_globs(written_run, reported, tmp_path):
    written_run("baseline", 1)
    written_run("sparse", 1)
    runs = f"runs=[{tmp_path}/baseline,{tmp_path}/spar*]"
    with pytest.raises(ValueError, match=r"set to=FOLDER/report\.md to say where"):
        reported(runs)
    assert reported(runs, f"to={tmp_path}/both.md").variants == ["baseline", "sparse"]
