"""The choice of variants for the meta-experiment: its rule, its file, and what it refuses."""

import pytest
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf

from tests.reporting.conftest import evaluate, write_run
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


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("chosen")
    for variant, (more, own) in OWN.items():
        written(folder, variant, more, overrides=("experiment=e", f"variant={variant}", *own))
    return folder


def written(folder, variant, more, **options):
    for seed in (42, 43):
        run = write_run(folder, f"e/{variant}", seed, **options)
        evaluate(run, seed, more)
        evaluate(run, seed, 0.0, ROTATION)


@pytest.fixture
def chosen(runs, tmp_path):
    def choice(*overrides, runs=runs):
        with initialize_config_dir(conf_dir(), version_base="1.3"):
            return choose(compose("meta", [f"runs={runs}", f"to={tmp_path}/meta.yaml", *overrides]))

    return choice


def test_the_largest_gain_within_the_budget_on_fresh_seeds(chosen):
    text = chosen().read_text()
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


def test_fewer_methods_and_a_larger_budget(chosen):
    variants = OmegaConf.create(chosen("budget=1", "at_most=1").read_text()).hydra.sweeper.variants
    assert list(variants) == ["baseline", "dear"]


def test_a_choice_is_not_made_twice_by_accident(chosen):
    chosen()
    with pytest.raises(ValueError, match="its variants were chosen already"):
        chosen()
    chosen("overwrite=true")


def test_the_test_split_is_for_what_was_chosen(chosen):
    with pytest.raises(ValueError, match="choose on validation"):
        chosen("split=test")


def test_runs_of_unequal_length_are_refused(chosen, runs, tmp_path):
    written(tmp_path, "long", 0.04, overrides=("regularizer=hoyer",), trainer={"max_steps": 99})
    with pytest.raises(ValueError, match=r"differ in more than the method: trainer.max_steps \(None, 99\)"):
        chosen(runs=f"[{runs},{tmp_path}]")


def test_nothing_can_be_chosen_without_evaluations(chosen, tmp_path):
    for variant in ("baseline", "weak"):
        write_run(tmp_path, f"e/{variant}", 1, overrides=(f"variant={variant}",))
    with pytest.raises(ValueError, match="no method can be chosen: weak: its gain is unknown: not measured"):
        chosen(runs=tmp_path)
