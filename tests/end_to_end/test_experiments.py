"""Every variant of every experiment, through the command that a user would run."""

from pathlib import Path

import pytest
import yaml
from small import CORPUS

from tti.configuration import conf_dir
from tti.runs import find

TINY = [*CORPUS, "model.d_model=32", "data.stories_per_step=4", "seed=42", "name=once"]
OWN = {"expt3": ["model=tiny"], "expt4": []}  # with data of their own, or a model and data
STEPS = {"weightings": 10}  # a budget needs ten validations or more


@pytest.mark.slow
@pytest.mark.each_option("experiment", daily=["demo"])
def test_each_variant_of_an_experiment_takes_a_step(option, tti, tmp_path):
    steps = STEPS.get(option, 1)
    lengths = [f"trainer.max_steps={steps}", "trainer.val_check_interval=1"]
    common = OWN.get(option, ["model=tiny", "data=grammar"])
    tti("-m", f"experiment={option}", *common, *TINY, *lengths).ok()
    experiment = yaml.safe_load(Path(conf_dir(), "experiment", f"{option}.yaml").read_text())
    trained = {run.folder.parent.name: run.summary["steps"] for run in find(tmp_path / "runs" / f"{option}-once")}
    assert trained == dict.fromkeys(experiment["hydra"]["sweeper"]["variants"], steps)
