"""The choice of variants for the meta-experiment: its rule, its file, and what it refuses."""

import pytest
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf

from tti.configuration import conf_dir
from tti.evaluation_folder import ROTATION
from tti.meta import choose

OWN = {  # variant -> by how much both its gain and its loss are larger, and what is its own
    "baseline": (0.0, ()),
    "weak_1e-3": (0.01, ("regularizer=l1", "regularizer.l1.weight=1e-3")),
    "weak_1e-2": (0.03, ("regularizer=l1", "regularizer.l1.weight=1e-2")),
    "weak_1e-1": (0.2, ("regularizer=l1", "regularizer.l1.weight=1e-1")),
    "idle": (-0.02, ("model/mlp=topk",)),
    "dear": (0.3, ("model/mlp=relu",)),
}


@pytest.fixture
def runs(written_run, evaluate_run, tmp_path):
    for variant, (more, own) in OWN.items():
        for seed in (42, 43):
            run = written_run(f"e/{variant}", seed, overrides=("experiment=e", f"variant={variant}", *own))
            evaluate_run(run, seed, more)
            evaluate_run(run, seed, 0.0, ROTATION)
    return tmp_path


def chosen(runs, *overrides):
    with initialize_config_dir(conf_dir(), version_base="1.3"):
        config = compose("meta", [f"runs={runs}", f"to={runs}/meta.yaml", *overrides])
    return choose(config)


def test_the_largest_gain_within_the_budget_on_fresh_seeds(runs):
    text = chosen(runs).read_text()
    sweeper = OmegaConf.create(text).hydra.sweeper
    assert sweeper.params.seed == "44,45,46,47,48,49"
    assert dict(sweeper.variants) == {
        "baseline": [],
        "weak_1e-2": ["regularizer=l1", "regularizer.l1.weight=1e-2"],
        "idle": ["model/mlp=topk"],
    }
    assert "# gain +0.0300, cost +0.0300, 2 seeds; 3 of 3 variants on the front" in text
    assert "# left out: dear: it costs at least +0.3000 (dear)" in text
    assert "python -m tti.train -m experiment=meta model=tiny\n" in text


def test_fewer_methods_and_a_larger_budget(runs):
    variants = OmegaConf.create(chosen(runs, "budget=1", "at_most=1").read_text()).hydra.sweeper.variants
    assert list(variants) == ["baseline", "dear"]


def test_a_choice_is_not_made_twice_by_accident(runs):
    chosen(runs)
    with pytest.raises(ValueError, match="its variants were chosen already"):
        chosen(runs)
    chosen(runs, "overwrite=true")


def test_the_test_split_is_for_what_was_chosen(runs):
    with pytest.raises(ValueError, match="choose on validation"):
        chosen(runs, "split=test")


def test_runs_of_unequal_length_are_refused(runs, written_run, evaluate_run):
    for seed in (42, 43):
        run = written_run("e/long", seed, overrides=("regularizer=hoyer",), trainer={"max_steps": 99})
        evaluate_run(run, seed, 0.04)
        evaluate_run(run, seed, 0.0, ROTATION)
    with pytest.raises(ValueError, match=r"differ in more than the method: trainer.max_steps \(None, 99\)"):
        chosen(runs)


def test_nothing_can_be_chosen_without_evaluations(written_run, tmp_path):
    for variant in ("baseline", "weak"):
        written_run(f"e/{variant}", 1, overrides=(f"variant={variant}",))
    with pytest.raises(ValueError, match="no method can be chosen: weak: its gain is unknown: not measured"):
        chosen(tmp_path)
