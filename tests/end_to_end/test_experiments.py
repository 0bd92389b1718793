"""Every variant of every experiment, through the command that a user would run."""

from pathlib import Path

import pytest
import yaml
from small import CORPUS

from tti.configuration import conf_dir
from tti.runs import find

TINY = [
    "model=tiny", *CORPUS, "model.d_model=32", "data.stories_per_step=4", "seed=42", "name=once",
]  # fmt: skip
DATA = {"expt3": ()}  # has its own
STEPS = {"weightings": 10}  # a budget needs ten validations or more


@pytest.mark.slow
@pytest.mark.each_option("experiment", daily=["demo"])
def test_each_variant_of_an_experiment_takes_a_step(option, tti, tmp_path):
    steps = STEPS.get(option, 1)
    lengths = [f"trainer.max_steps={steps}", "trainer.val_check_interval=1"]
    tti("-m", f"experiment={option}", *DATA.get(option, ["data=grammar"]), *TINY, *lengths).ok()
    experiment = yaml.safe_load(Path(conf_dir(), "experiment", f"{option}.yaml").read_text())
    trained = {run.folder.parent.name: run.summary["steps"] for run in find(tmp_path / "runs" / f"{option}-once")}
    assert trained == dict.fromkeys(experiment["hydra"]["sweeper"]["variants"], steps)
