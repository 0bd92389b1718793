"""Several experiments in one report: runs are identified by experiment, variant and seed."""

import pytest

from tti.reporting.given import Given, Key


def experiment(written_run, named, offset=0.0, variants=("baseline", "sparse"), **options):
    for i, variant in enumerate(variants):
        for seed in (1, 2, 3):
            loss = 1 + offset + i / 10 + i * seed / 1000
            written_run(f"{named}/{variant}", seed, loss, experiment=named, **options)


@pytest.fixture
def two(written_run, tmp_path):
    experiment(written_run, "expt1")
    experiment(written_run, "expt2", 0.5)
    return tmp_path


def test_each_is_compared_with_its_own_baseline(two, reported):
    analysis = reported(f"runs=[{two}/expt1,{two}/expt2]")
    assert analysis.variants == ["expt1/baseline", "expt1/sparse", "expt2/baseline", "expt2/sparse"]
    assert analysis.controls == {"expt1/sparse": "expt1/baseline", "expt2/sparse": "expt2/baseline"}
    assert analysis.losses["mean"].tolist() == pytest.approx([0.102, 0.102])
    assert (two / "expt1+expt2.md").read_text().startswith("# expt1 + expt2\n")
    assert (two / "expt1+expt2.html").exists()


def test_or_all_with_one(two, reported):
    analysis = reported(f"runs=[{two}/expt1,{two}/expt2]", "baseline=expt1/baseline")
    assert analysis.controls == dict.fromkeys(["expt1/sparse", "expt2/baseline", "expt2/sparse"], "expt1/baseline")
    assert analysis.losses["mean"].tolist() == pytest.approx([0.102, 0.5, 0.602])


def test_other_data_of_another_experiment_are_remarked_and_refused_only_where_they_are_compared(
    written_run, reported, tmp_path
):
    experiment(written_run, "expt1")
    experiment(written_run, "expt2", data={"corpus": {"train": "/elsewhere/other.txt"}})
    runs = f"runs=[{tmp_path}/expt1,{tmp_path}/expt2]"
    assert "experiments differ, so compare changes, not figures, across them" in "\n".join(reported(runs).remarks)
    with pytest.raises(ValueError, match=r"data.corpus.train: c.txt .*, other.txt"):
        reported(runs, "baseline=expt1/baseline")


def test_an_experiment_without_the_baseline_is_shown_and_not_compared(written_run, reported, tmp_path):
    experiment(written_run, "expt1")
    experiment(written_run, "expt2", variants=("sparse",))
    analysis = reported(f"runs=[{tmp_path}/expt1,{tmp_path}/expt2]")
    assert list(analysis.controls) == ["expt1/sparse"]
    assert "no finished run of the baseline `baseline` in `expt2`" in "\n".join(analysis.remarks)


def test_the_name_of_a_sweep_is_part_of_its_experiments(written_run, reported, tmp_path):
    experiment(written_run, "tiny", name="tiny")
    assert Given(tmp_path / "tiny" / "sparse" / "seed-1").key == Key("tiny-tiny", "sparse", 1)


def test_the_same_run_twice_is_refused(written_run, reported, tmp_path):
    written_run("a/baseline", 1)
    written_run("b/baseline", 1)
    with pytest.raises(ValueError, match="are the same experiment, variant and seed"):
        reported()


def test_a_control_holds_in_the_experiments_that_have_it(written_run, reported, tmp_path):
    experiment(written_run, "expt1", variants=("baseline", "relu", "relu_l1"))
    experiment(written_run, "expt2")
    analysis = reported(f"runs=[{tmp_path}/expt1,{tmp_path}/expt2]", "+controls.relu='relu_*'")
    assert analysis.controls["expt1/relu_l1"] == "expt1/relu"
    assert analysis.controls["expt2/sparse"] == "expt2/baseline"
    with pytest.raises(ValueError, match="no finished run of 'gelu'; there are baseline, relu, relu_l1, sparse"):
        reported(f"runs=[{tmp_path}/expt1,{tmp_path}/expt2]", "+controls.gelu='relu_*'")
