"""The command line of the benchmark."""

import subprocess
import sys

import pytest

from tti import benchmark
from tti.benchmark import _of_training
from tti.configuration import without_folders

SMALL = [
    "model=tiny", "model.d_model=16", "data=grammar_small", "data.corpus.train=60", "data.corpus.validation=20",
    "data.corpus.test=null", "data.stories_per_step=8", "stories=3", "steps=1", "trainer.accelerator=cpu",
]  # fmt: skip


@pytest.mark.nightly
def test_every_table_at_a_small_scale_through_the_command_line(tmp_path):
    tables = [
        "loops",
        "regularizers",
        "objectives",
        "mixtures",
        "overhead",
        "start",
        "operations",
        "profile",
        "evaluation",
    ]
    left_out = [
        "loops.original_equal_dropout", "loops.nanogpt", "loops.huggingface", "loops.ours_bf16_compiled",
        "dropouts.everywhere", "dropouts.none",
    ]  # fmt: skip
    fast = [
        "loops.rounds=2",
        "regularizers.rounds=1",
        "objectives.rounds=1",
        "mixtures.rounds=1",
        "objectives.with_memory=false",
        "overhead.rounds=1",
        "overhead.steps=3",
        "start.starts=1",
        "evaluation.tokens=2000",
        "evaluation.rounds=1",
        "evaluation.parts=[performance,sae,leakage]",
    ]
    overhead = [each for each in SMALL if not each.startswith("st")] + ["regularizer=l1", "task.compile=false"]
    overrides = [
        f"table=[{','.join(tables)}]", f"to={tmp_path}/out", *(f"tables.{each}" for each in fast),
        f"tables.overhead.overrides={overhead}",
        *(f"~tables.loops.{each}" for each in left_out),
    ]  # fmt: skip
    command = [sys.executable, "-m", "tti.benchmark", *SMALL, *overrides]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    texts = {name: (tmp_path / "out" / f"{name}.md").read_text() for name in tables}
    for name, text in texts.items():
        assert text.startswith(f"# Benchmark: {name}\n")
        assert "written by `python -m tti.benchmark model=tiny" in text
        assert str(tmp_path.parent) not in text
    assert "| `original` |" in texts["loops"]
    assert "1.00 [1.00, 1.00]" in texts["loops"]
    assert "| `online_sae_1` |" in texts["objectives"]
    assert "| `moe_8` |" in texts["mixtures"]
    assert "| ours | " in texts["operations"]
    assert "metrics are logged every" in texts["overhead"]
    assert "the first step begins" in texts["start"]
    assert "| `sae` |" in texts["evaluation"]
    assert "`leakage` is left out: its network has no concept module" in texts["evaluation"]
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


@pytest.mark.nightly
def test_cost_against_work_at_a_small_scale_through_the_command_line(tmp_path):
    kinds = [
        "model.variants=[['model.d_model=8'],['model.d_model=16']]",
        *(f"{steps}.variants=[[]]" for steps in ("stories", "length")),
        "stories.stories=[1,2]",
        "sites.overrides=[]",
        "sites.blocks=[1,2]",
        "evaluation_tokens.tokens=[500,1000]",
        "evaluation_tokens.variants=[[]]",
        "evaluation_tokens.names=[performance,selectivity]",
        "evaluation_neurons.tokens=[500]",
        "evaluation_neurons.variants=[['model.d_model=8'],['model.d_model=16']]",
        "evaluation_neurons.names=[performance,selectivity]",
        "report_runs.runs=[3,6]",
        "report_runs.parts=[performance,contexts]",
        "report_neurons.parts=[performance,contexts]",
    ]
    overrides = ["table=scaling", f"to={tmp_path}/out", *(f"tables.scaling.kinds.{each}" for each in kinds)]
    command = [sys.executable, "-m", "tti.benchmark", *SMALL, *overrides]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    text = (tmp_path / "out" / "scaling.md").read_text()
    for title in (
        "training: model",
        "training: stories per step",
        "penalties: sites",
        "evaluation: neurons",
        "report: runs",
    ):
        assert f"## {title}\n" in text
    assert "| `orthogonality` | 2 |" in text
    assert (tmp_path / "out" / "scaling.png").exists()
    assert str(tmp_path.parent) not in text


def test_a_table_is_written_with_the_command_that_made_it(monkeypatch, tmp_path):
    monkeypatch.setattr(sys, "argv", ["tti.benchmark", *SMALL, "table=operations", f"to={tmp_path}/out"])
    benchmark.main()
    text = (tmp_path / "out" / "operations.md").read_text()
    assert "| ours | " in text
    assert "written by `python -m tti.benchmark model=tiny" in text


@pytest.fixture
def refused(monkeypatch, capsys):
    """The last line of a command that exits with 1."""

    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["tti.benchmark", *arguments])
        with pytest.raises(SystemExit) as stopped:
            benchmark.main()
        assert stopped.value.code == 1
        return capsys.readouterr().err.splitlines()[-1]

    return run


def test_an_unknown_table_names_those_that_there_are(refused, tmp_path):
    message = refused("table=[loops,lops]", f"to={tmp_path}/out")
    known = "loops, regularizers, objectives, mixtures, overhead, evaluation, scaling, start, operations, profile"
    assert message == f"error: no table lops; there are: {known}"


def test_no_memory_says_what_to_lower(refused, monkeypatch, tmp_path):
    def broken(*_):
        raise MemoryError("no room")

    monkeypatch.setattr("tti.benchmarking.operations.Operations.__call__", broken)
    message = refused(*SMALL, "table=operations", f"to={tmp_path}/out")
    assert message == "error: no room. Lower stories=3, the stories of a benchmarked step"


def test_what_is_wrong_with_the_training_is_one_clear_line(refused, tmp_path):
    message = refused(*SMALL, "stories=9", "table=operations", f"to={tmp_path}/out")
    assert message == "error: stories=9, but a step has data.stories_per_step=8"


def test_overrides_of_the_benchmark_are_no_overrides_of_the_training():
    overrides = [
        "table=loops",
        "model/mlp=topk",
        "model.mlp.keep=0.5",
        "+data.x=1",
        "stories=3",
        "seed=4",
        "tables.a.b=1",
    ]
    assert _of_training(overrides) == ("model/mlp=topk", "model.mlp.keep=0.5", "+data.x=1", "seed=4")


def test_folders_of_one_machine_are_left_out():
    assert without_folders("data.corpus.train=/a/b/c/d.txt") == "data.corpus.train=.../c/d.txt"
    assert without_folders("data.corpus.cache_dir=/a/b") == "data.corpus.cache_dir=.../b"
    assert without_folders("x=['/a/b/c','/e/f/g']") == "x=['.../b/c','.../f/g']"
    assert without_folders("regularizer.l1.sites='blocks.*.mlp/x'") == "regularizer.l1.sites='blocks.*.mlp/x'"
