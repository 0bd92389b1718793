"""Every option of Lightning's Trainer is accepted, or refused before anything starts."""

import inspect

import pytest
from lightning import Trainer
from omegaconf import OmegaConf

from tti.schema import check
from tti.trainer_options import TAKEN, require_taken


def options(compose, *overrides):
    return OmegaConf.to_container(compose("model=tiny", "data=grammar", *overrides).trainer, resolve=True)


@pytest.mark.each_option("trainer")
def test_ours_are_taken(compose, option):
    require_taken(options(compose, f"trainer={option}"))


def test_what_is_taken_exists():
    assert set(TAKEN) < inspect.signature(Trainer).parameters.keys()


@pytest.mark.parametrize("name", sorted(inspect.signature(Trainer).parameters.keys() - set(TAKEN)))
def test_any_other_is_refused_by_name(compose, name):
    with pytest.raises(ValueError, match=rf"trainer\.{name} is not accepted\..*callbacks\.last\.max_hours"):
        require_taken({**options(compose), name: None})


@pytest.mark.parametrize(
    ("given", "why"),
    [
        ("limit_val_batches=0", "use the validation loss"),
        ("limit_val_batches=0.0", "use the validation loss"),
        ("limit_val_batches=null", "use the validation loss"),
        ("val_check_interval=0.25", "not a fraction of an epoch"),
        ("val_check_interval='00:05:00'", "not a fraction of an epoch"),
        ("check_val_every_n_epoch=1", "validations are counted in steps"),
        ("num_sanity_val_steps=2", "before the first step"),
        ("use_distributed_sampler=true", "the data module shares stories out"),
        ("max_steps=-1", "an integer from 1"),
        ("strategy=fsdp", "checkpoints are one file"),
        ("plugins=[]", "a list of mappings"),
    ],
)
def test_a_value_that_is_not_expected_is_refused(compose, given, why):
    config = compose("model=tiny", "data=grammar", f"trainer.{given}")
    with pytest.raises(ValueError, match=rf"^trainer\.{given.partition('=')[0]}=.* must be .*{why}.*$"):
        check(config)


def test_nor_is_a_training_without_durable_checkpoints(compose):
    with pytest.raises(ValueError, match=r"trainer\.plugins must hold .*DurableCheckpoints"):
        require_taken(options(compose, "trainer.plugins=[{_target_: a.B}]"))


def test_nor_are_options_taken_from_the_environment(compose, monkeypatch):
    monkeypatch.setenv("PL_TRAINER_LIMIT_TRAIN_BATCHES", "3")
    with pytest.raises(ValueError, match="unset the environment variable PL_TRAINER_LIMIT_TRAIN_BATCHES"):
        require_taken(options(compose))
