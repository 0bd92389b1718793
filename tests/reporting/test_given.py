"""Run folders from other people: their content is text and cannot act."""

import base64
import json

import numpy as np
import pytest

from tti.evaluation_folder import Array, Evaluation, Result, write

ABOUT = {"of": {"data": "d", "tokenizer": "t"}, "settings": {}, "cost": {}, "environment": {}}
BAD = "<img src=x onerror=alert(1)>`|**b**"


def test_nothing_is_interpolated(written_run, reported, tmp_path, monkeypatch):
    monkeypatch.setenv("SECRET", "hunter2")
    for seed in (1, 2):
        run = written_run("baseline", seed, model={"name": "${oc.env:SECRET}"}, data={"path": "${oc.env:SECRET}"})
        (run / "overrides.yaml").write_text("- note=${oc.env:SECRET}\n")
    reported()
    for path in ("report.md", "report.html", "report/runs.csv"):
        assert "hunter2" not in (tmp_path / path).read_text()
    assert "`note=${oc.env:SECRET}`" in (tmp_path / "report.md").read_text()


def test_a_name_with_a_backtick_is_no_markup(written_run, reported, tmp_path):
    written_run("baseline", 1)
    written_run("odd", 1, variant=BAD)
    reported(f"title='{BAD}'")
    text, page = (tmp_path / "report.md").read_text(), (tmp_path / "report.html").read_text()
    assert text.startswith("# \\<img src=x onerror=alert(1)\\>\\`\\|\\*\\*b\\*\\*\n")
    outside = "".join(text.replace("\\<", "").split("``")[::2])
    assert "<img" not in outside
    assert "<img" not in page
    for table in text.split("\n\n"):
        pipes = {line.count("|") - line.count("\\|") for line in table.splitlines() if table.startswith("| ")}
        assert len(pipes) <= 1, table


@pytest.mark.parametrize("site", ["blocks./../../../../../X.mlp.post", "blocks.0.mlp.post<b>", "blocks..\\x.mlp.post"])
def test_a_site_with_another_name_is_none_and_no_path(written_run, evaluate_run, reported, tmp_path, site):
    run = written_run("baseline", 1)
    evaluate_run(run, 1)
    wide = np.zeros(4, np.float32)
    arrays = {
        f"{site}/neuron/selectivity_top5": Array(wide, ("width",)),
        f"{site}/neuron/firing_rate": Array(wide, ("width",)),
    }
    write(Evaluation(run), "extra", Result({}, arrays), ABOUT)
    before = {path for path in tmp_path.parent.rglob("*") if tmp_path not in path.parents}
    reported()
    assert {path for path in tmp_path.parent.rglob("*") if tmp_path not in path.parents} == before
    assert not list(tmp_path.rglob("*X.mlp.post*"))
    assert site not in (tmp_path / "report" / "browser" / "data" / "index.js").read_text()


def test_files_of_the_browser_are_numbers(written_run, evaluate_run, reported, tmp_path):
    evaluate_run(written_run("baseline", 1), 1)
    reported()
    names = sorted(path.relative_to(tmp_path / "report/browser/data").as_posix()
                   for path in (tmp_path / "report/browser/data/0").rglob("*.js"))  # fmt: skip
    assert names[:4] == ["0/0/0.js", "0/0/1.js", "0/0/2.js", "0/0/table.js"]


def test_a_failure_that_is_markup_is_text(written_run, reported, tmp_path):
    written_run("baseline", 1)
    run = written_run("sparse", 1, finished=False)
    (run / "failure.json").write_text(json.dumps({"error": "ValueError: <script>x</script>", "traceback": ""}))
    reported()
    assert "<script>x" not in (tmp_path / "report.md").read_text()
    assert "<script>x" not in (tmp_path / "report.html").read_text()


def test_a_configuration_without_a_variant_is_one_clear_line(written_run, reported):
    run = written_run("baseline", 1)
    (run / "config.yaml").write_text("seed: 1\n")
    with pytest.raises(ValueError, match="does not say which variant and seed"):
        reported()


MOE = {"mlp": {"_target_": "tti.models.moe.MixtureOfExperts", "experts": 2, "shared": 1}}


def delivered(path):
    data = path.read_text().removeprefix("tti.deliver(").removesuffix(");\n").split(",", 1)[1]
    return json.loads(data)


def numbers(packed):
    return np.frombuffer(base64.b64decode(packed["base64"]), packed["dtype"]).reshape(packed["shape"])


def test_the_neurons_of_each_expert_are_a_site_of_the_browser(written_run, evaluate_run, reported, tmp_path):
    run = written_run("baseline", 1, model=MOE)
    evaluate_run(run, 1)
    reported()
    data = tmp_path / "report/browser/data"
    (found,) = delivered(data / "index.js")["runs"]
    sites = {site["name"]: site for site in found["sites"]}
    assert [name for name in sites if ".0.mlp." in name] == [f"blocks.0.mlp.experts.{j}.post" for j in range(3)]
    assert "blocks.0.mlp_out" in sites
    assert len({site["folder"] for site in sites.values()}) == len(sites)
    second = sites["blocks.0.mlp.experts.1.post"]
    assert second["width"] == 200
    assert second["note"].startswith("The neurons of one expert. A token that did not visit it counts as 0")
    assert sites["blocks.0.mlp_out"]["note"] == ""
    whole = Evaluation(run).neurons("blocks.0.mlp.post")["selectivity_top5"]
    table = delivered(data / f"{second['folder']}/table.js")
    np.testing.assert_array_equal(numbers(table["columns"]["selectivity_top5"]), whole[200:400])
    rows = delivered(data / f"{second['folder']}/0.js")
    types = Evaluation(run).part("selectivity").arrays["blocks.0.mlp.post/top_types"]
    np.testing.assert_array_equal(numbers(rows["top_types"]), types[200:400])


@pytest.mark.parametrize("experts", ["many", -2, 7, [1]])
def test_experts_that_do_not_divide_the_neurons_are_none(written_run, evaluate_run, reported, tmp_path, experts):
    run = written_run("baseline", 1, model={"mlp": MOE["mlp"] | {"experts": experts, "shared": 0}})
    evaluate_run(run, 1)
    reported()
    index = (tmp_path / "report/browser/data/index.js").read_text()
    assert "blocks.0.mlp.post" in index
    assert "experts" not in index.replace('"experts"', "")
