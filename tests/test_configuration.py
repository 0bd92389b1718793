from pathlib import Path

import pytest
from hydra.errors import ConfigCompositionException, MissingConfigException
from omegaconf import OmegaConf

from tti.configuration import (
    LONGEST_NAME,
    Recorded,
    alternatives,
    conf_dir,
    digest,
    every,
    flat,
    identity,
    require_options,
    spell,
    without_repetitions,
)


@pytest.mark.parametrize(
    ("overrides", "name"),
    [
        ([], ""),
        (["model=mini"], "mini"),
        (
            ["model=mini", "trainer.max_steps=100", "regularizer=[l1,orthogonality]"],
            "mini+trainer.max_steps-100+l1+orthogonality",
        ),
        (["regularizer.orthogonality.weight=1e-2"], "orthogonality.weight-1e-2"),
        (["model/mlp=topk", "model.mlp.keep=0.25"], "topk+mlp.keep-0.25"),
        (["data.corpus.train=/a/b/train.txt.gz"], "corpus.train-train.txt.gz"),
        (["+model.extra=3"], "model.extra-3"),
    ],
)
def test_overrides_spell_a_readable_name(overrides, name):
    assert spell(overrides) == name


def test_what_changes_no_result_changes_no_name():
    assert (
        spell(["seed=43", "logger=wandb", "trainer.strategy=ddp", "data.num_workers=4", "threads=1", "runs=/x"]) == ""
    )


def test_names_can_be_folders():
    name = spell(["data.corpus.tokenizer=bpe:4096", "optimizer.betas=[0.9,0.99]", "a.b='x y*?'"])
    assert not set(name) & set("/\\:*?\"<>|' ")
    assert name


def test_long_names_are_cut_and_still_differ():
    names = [spell([f"a.key{i}={i}" for i in range(60)] + [f"last.one={last}"]) for last in (1, 2)]
    assert names[0] != names[1]
    assert all(len(name) == LONGEST_NAME + 13 for name in names)
    assert names[0][:LONGEST_NAME] == names[1][:LONGEST_NAME]


def test_flat_names_leaves_by_their_path():
    assert flat({"a": {"b": 1, "c": {"d": [2, 3]}}, "e": None, "f": {}}) == {
        "a.b": 1,
        "a.c.d": [2, 3],
        "e": None,
        "f": {},
    }


def test_identity_is_resolved_and_leaves_out_what_has_no_effect():
    config = OmegaConf.create(
        {
            "seed": 1,
            "data": {"seed": "${seed}", "num_workers": 3, "corpus": {"cache_dir": "/x", "train": "t"}},
            "logger": {"wandb": {"project": "p"}},
            "trainer": {"strategy": "ddp", "max_steps": 10},
            "logger_of_something_else": 5,
        }
    )
    assert identity(config) == {
        "seed": 1,
        "data.seed": 1,
        "data.corpus.train": "t",
        "trainer.max_steps": 10,
        "logger_of_something_else": 5,
    }


def without_folder(compose, *overrides):
    return identity(compose("model=tiny", "data=grammar", "variant=v", "threads=1", *overrides))


def test_identity_of_a_composed_configuration(compose):
    reference = without_folder(compose)
    same = ("logger=wandb_offline", "runs=/elsewhere", "callbacks.last.max_hours=8", "data.num_workers=5")
    assert without_folder(compose, *same) == reference
    for other in ("seed=43", "trainer.devices=2", "regularizer=l1", "model/mlp=topk"):
        assert without_folder(compose, other) != reference


BUDGETS = ("regularizer=[l1,hoyer,online_sae]", "weighting=budget", "+weighting@regularizer.l1.weighting=budget")


def mappings(config, path=""):
    """Every mapping with several keys in a configuration, with its path."""
    for key, value in config.items():
        if isinstance(value, dict):
            yield from [(value, f"{path}{key}")] if len(value) > 1 else []
            yield from mappings(value, f"{path}{key}.")


def test_a_configuration_says_nothing_twice(compose):
    config = OmegaConf.to_container(compose("model=tiny", "data=grammar", "variant=v", *BUDGETS[:2]), resolve=True)
    said = [value for value, _ in mappings(config)]
    assert len(said) > 20
    assert [place for value, place in mappings(config) if said.count(value) > 1] == []


def test_a_budget_whose_configuration_said_its_training_again_is_the_same_run(compose):
    now = compose("model=tiny", "data=grammar", "variant=v", "threads=1", *BUDGETS)
    then = now.copy()
    for owner in (then, then.regularizer.l1):
        owner.weighting.baseline = {
            **owner.weighting.baseline, "_recursive_": False, "like": {"seed": 42, "model": now.model},
        }  # fmt: skip
    assert Recorded(without_repetitions(then), None).differences(now) == {}


def test_digests_differ():
    assert digest("a") == digest("a") != digest("b")
    assert len(digest("a")) == 12


def test_an_unknown_key_is_an_error_that_names_it(compose):
    with pytest.raises(ConfigCompositionException, match="max_step"):
        compose("trainer.max_step=5")


def test_configurations_lie_beside_a_checkout_or_where_the_variable_says(tmp_path, monkeypatch):
    assert Path(conf_dir(), "train.yaml").is_file()
    monkeypatch.setenv("TTI_CONF", str(tmp_path))
    with pytest.raises(SystemExit, match="set TTI_CONF"):
        conf_dir()
    (tmp_path / "train.yaml").touch()
    assert conf_dir() == str(tmp_path.resolve())


@pytest.mark.each_option("experiment")
def test_an_experiment_bears_the_name_of_its_file(option):
    assert OmegaConf.load(Path(conf_dir(), "experiment", f"{option}.yaml")).experiment == option


@pytest.mark.parametrize(
    ("interval", "steps"),
    [
        (every(0.02, 50_000), 1000), (every(0.02, 50_000, 4), 4000), (every(0.02, 30), 1), (every(0.02, 30, 1, 10), 10),
        (every(0.02, 4, 1, 10), 4), (every(0.02, 50_000, 1, 10), 1000), (every(0.05, 50_000, 1, 1, 50), 50),
        (every(0.05, 30, 1, 1, 50), 2), (every(0.05, 1, 1, 1, 50), 1),
    ],
)  # fmt: skip
def test_an_interval_is_a_fraction_of_the_steps_within_bounds(interval, steps):
    assert interval == steps


def test_long_runs_log_and_validate_as_ever(compose):
    for steps, log, validate in ((50_000, 50, 1000), (2000, 50, 40), (1000, 50, 20), (30, 2, 10), (4, 1, 4)):
        trainer = compose(f"trainer.max_steps={steps}").trainer
        assert (trainer.log_every_n_steps, trainer.val_check_interval) == (log, validate), steps


def test_a_choice_that_is_missing_is_named():
    chosen = OmegaConf.create({"regularizer": {}})
    error, cause = ValueError(), AttributeError()
    cause.parent_node, cause.key = chosen.regularizer, "l1"
    error.__cause__ = cause
    assert alternatives(error) == "regularizer has nothing: choose something first, as in regularizer=l1\n"


@pytest.mark.parametrize(
    ("missing", "extra"), [("hydra/launcher/submitit_local", "slurm"), ("hydra/launcher/ray", "ray"), ("model/x", None)]
)
def test_the_extra_of_a_launcher_is_named(missing, extra):
    said = alternatives(MissingConfigException("no", missing))
    assert (f"pip install 'training-time-interpretability[{extra}]'" in said) == (extra is not None)


@pytest.mark.parametrize("given", ["model=null", "model/mlp=5", "regularizer=[l1,null]", "task=true"])
def test_a_group_set_to_no_name_of_an_option_says_which_there_are(given):
    group = given.partition("=")[0]
    with pytest.raises(ValueError, match=f"choose an option of the group {group}, which has "):
        require_options(["seed=1", given])


def test_options_of_groups_pass_in_every_form():
    require_options(["model=tiny,mini", "+constraint=x", "~metrics", "model.mlp=5", "-m", "seed=null", "task='x'"])
