"""The report on real run folders, written by hand so that no training is needed."""

import json

import pytest
from omegaconf import OmegaConf

from tti.reporting.selection import by_size


def write_run(folder, variant, seed, loss, finished=True):
    run = folder / variant / f"seed-{seed}"
    run.mkdir(parents=True)
    OmegaConf.save(OmegaConf.create({"experiment": "e", "variant": variant, "seed": seed}), run / "config.yaml")
    OmegaConf.save(
        OmegaConf.create(["model=tiny", f"seed={seed}", "data.corpus.train=/a/b/c.txt"]), run / "overrides.yaml"
    )
    environment = {"commit": "abc", "device": "CPU", "platform": "here", "packages": {"torch": "2"}}
    (run / "environment.jsonl").write_text(json.dumps(environment) + "\n")
    metrics = {"val/loss": loss, "val/perplexity": 2.0, "val/mean_abs_cosine/mlp_out/mean": loss / 10}
    (run / "metrics.jsonl").write_text(json.dumps({"step": 5, **metrics}) + "\n")
    if finished:
        summary = {"steps": 5, "tokens": 50, "seconds": 1.0, "tokens_per_second": 50.0, "metrics": metrics}
        (run / "summary.json").write_text(json.dumps(summary))


@pytest.fixture(scope="module")
def report(commands_in, tmp_path_factory):
    """``report(folder, ...)``: the command."""
    tti = commands_in(tmp_path_factory.mktemp("reports"))
    return lambda folder, *arguments: tti(f"runs={folder}", *arguments, module="tti.report")


@pytest.fixture(scope="module")
def written(tmp_path_factory, report):
    folder = tmp_path_factory.mktemp("runs, with a comma")
    for seed in (42, 43):
        write_run(folder, "sparse", seed, 1.2 + seed / 1000)
        write_run(folder, "baseline", seed, 1.1)
    write_run(folder, "dense", 42, 0.0, finished=False)
    return folder, report(folder)


def test_markdown_has_means_changes_and_what_is_missing(written):
    folder, done = written
    done.ok()
    text = (folder / "report.md").read_text()
    assert "4 of 5 runs finished" in text
    assert "| `baseline` | 2 | 1.1000 ± 0.0000 |" in text
    assert max(line.count("|") for line in text.splitlines() if line.startswith("|")) == 9  # eight columns
    assert "| `sparse` | `baseline` | +0.1425 ± 0.0064 | 0.01 | 0.0022 | 1 | costs |" in text
    assert "| `sparse` | `baseline` | +0.0142 ± 0.0006 |" in text
    assert "not finished: `seed-42` of `dense` (unfinished)" in text


def test_the_baseline_comes_first_and_no_folder_of_this_machine_is_named(written):
    folder, _ = written
    text = (folder / "report.md").read_text()
    assert text.index("`baseline`") < text.index("`sparse`")
    assert "data.corpus.train=.../b/c.txt" in text
    assert str(folder.parent) not in text


def test_variants_come_in_the_order_of_their_numbers():
    variants = ["l1_1e-1", "l1_0.5", "topk_50", "l1_1e-3", "topk_9", "none"]
    assert sorted(variants, key=by_size) == ["l1_1e-3", "l1_1e-1", "l1_0.5", "none", "topk_9", "topk_50"]


def test_figures_and_the_tidy_table_lie_beside_it(written):
    folder, done = written
    assert sorted(path.name for path in (folder / "report").iterdir()) == [
        "curves.png", "curves.svg", "figures.csv", "front.png", "front.svg", "gain.png", "gain.svg", "runs.csv",
        "runs.parquet"]  # fmt: skip
    assert (folder / "report.html").read_text().startswith("<!doctype html>")
    assert "sparse" in done.output


def test_no_runs_is_one_clear_line(report, tmp_path):
    assert report(tmp_path).failed().strip() == f"error: no runs in {tmp_path}"


def test_it_is_a_wandb_run_too_if_asked(report, written, tmp_path):
    folder, _ = written
    report(folder, f"to={tmp_path}/compared.md", "wandb.mode=offline", "wandb.group=e").ok()
    (record,) = (tmp_path / "compared").glob("wandb/offline-run-*/run-*.wandb")
    content = record.read_bytes()
    assert b"report/front" in content
    assert b"report/runs" in content
    media = {path.name.split("_")[0] for path in record.parent.rglob("media/**/*") if path.is_file()}
    assert {"front", "runs"} <= media
