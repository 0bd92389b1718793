"""Behavior common to all commands, tested through their command lines on a run of an earlier version."""

import shutil
import signal
from pathlib import Path

import pytest
from commands import Commands
from omegaconf import OmegaConf

EARLIER = Path(__file__).parents[1] / "earlier"
COMMANDS = {
    "tti.evaluate": ["run=baseline", "parts=[performance]", "subjects=[trained]", "threads=1"],
    "tti.generate": ["run=baseline", "tokens=2"],
    "tti.export": ["run=baseline", "to=exported"],
    "tti.sae": [
        "run=baseline",
        "site=blocks.0.mlp_out",
        "k=[2]",
        "tokens=500",
        "measured_tokens=500",
        "expansion=2",
        "fit.batch=128",
    ],
    "tti.neuronpedia": ["run=baseline", "to=np"],
    "tti.report": ["runs=baseline", "to=report.md"],
}
BUILDING = ["tti.evaluate", "tti.generate", "tti.export", "tti.sae"]


@pytest.fixture
def baseline(tti: Commands) -> Commands:
    """A folder with a finished run."""
    shutil.copytree(EARLIER / "baseline", tti.folder / "baseline")
    return tti


def change(tti: Commands, key: str, value: object) -> None:
    path = tti.folder / "baseline/config.yaml"
    config = OmegaConf.load(path)
    OmegaConf.update(config, key, value)
    OmegaConf.save(config, path)


@pytest.mark.parametrize("module", BUILDING)
def test_a_given_run_runs_nothing_of_its_own(baseline, module):
    precious = baseline.folder / "precious"
    precious.touch()
    change(baseline, "model.mlp", {"_target_": "pathlib.Path.unlink", "self": str(precious), "_partial_": False})
    message = baseline(*COMMANDS[module], module=module).failed()
    assert "a run folder may not name pathlib.Path.unlink" in message
    assert "trust=pathlib" in message
    assert precious.exists()


OWN = """
from tti.models.mlp import DenseMLP

class Mine(DenseMLP):
    pass
"""


@pytest.mark.parametrize("module", BUILDING)
def test_a_package_of_ones_own_is_trusted_by_name(baseline, module):
    (baseline.folder / "own").mkdir()
    (baseline.folder / "own/mypackage.py").write_text(OWN)
    change(baseline, "model.mlp._target_", "mypackage.Mine")
    path = {"PYTHONPATH": str(baseline.folder / "own")}
    assert "trust=mypackage" in baseline(*COMMANDS[module], module=module, **path).failed()
    baseline(*COMMANDS[module], "trust=mypackage", module=module, **path).ok()


@pytest.mark.parametrize("module", COMMANDS)
def test_a_given_configuration_is_not_resolved(baseline, module):
    path = baseline.folder / "baseline/config.yaml"
    path.write_text(path.read_text().replace("experiment: default", "experiment: ${oc.env:SECRET}"))
    done = baseline(*COMMANDS[module], module=module, SECRET="hunter2")
    if module != "tti.report":  # tti.report reads such a run unchanged
        assert "has an interpolation, experiment: ${oc.env:SECRET}" in done.failed()
    assert "hunter2" not in done.output
    assert not [each for each in baseline.folder.rglob("*.md") if "hunter2" in each.read_text()]


@pytest.mark.parametrize("module", COMMANDS)
def test_a_mistyped_key_is_answered_with_those_there_are(baseline, module):
    message = baseline(*COMMANDS[module], "splitt=test", module=module).failed()
    assert "splitt" in message
    assert "the configuration has: " in message
    assert "run" in message.rpartition("the configuration has: ")[2]


@pytest.mark.parametrize(
    ("module", "missing"),
    [
        ("tti.generate", ["run=... is missing: a run folder"]),
        ("tti.export", ["run=... is missing: a run folder", "to=... is missing: a new folder"]),
        ("tti.sae", ["run=... is missing: a run folder", "site=... is missing: a site of docs/sites.md"]),
        ("tti.neuronpedia", ["run=... is missing: a run folder", "to=... is missing"]),
        ("tti.report", ["runs=... is missing: a folder of runs"]),
    ],
)
def test_a_missing_argument_is_said_with_what_it_is(tti, module, missing):
    message = tti(module=module).failed()
    assert all(each in message for each in missing)
    assert len(message.strip().splitlines()) == len(missing)


WAITING = """
import os, signal, {module} as module
def interrupted(*_, **__):
    os.kill(os.getpid(), signal.SIGINT)
    import time
    time.sleep(10)
import tti.runs, tti.reporting.given
tti.runs.Run.config = tti.reporting.given.Given.config = property(interrupted)
"""


@pytest.mark.parametrize("module", COMMANDS)
def test_ctrl_c_is_one_line(baseline, module):
    done = baseline(*COMMANDS[module], module=module, patch=WAITING.format(module=module))
    assert done.code == 128 + signal.SIGINT
    assert "Traceback" not in done.output
    assert "interrupted" in done.output.strip().splitlines()[-1]


def test_a_finished_run_where_nothing_can_be_written_still_answers(baseline):
    command = [str(each) for each in OmegaConf.load(EARLIER / "baseline/overrides.yaml")]
    readonly = """
import builtins, errno, io, os
from pathlib import Path
writes = os.O_WRONLY | os.O_RDWR | os.O_CREAT
for owner, name in ((Path, "mkdir"), (os, "open")):
    def refuse(*arguments, _original=getattr(owner, name), **more):
        asks = not arguments[1] & writes if _original.__name__ == "open" else arguments[0].exists()
        if asks:  # existing files can be read, and an existing folder need not be made
            return _original(*arguments, **more)
        raise OSError(errno.EROFS, os.strerror(errno.EROFS), str(arguments[0]))
    setattr(owner, name, refuse)
"""
    done = baseline(*command, patch=readonly)
    assert "has finished already" in done.ok().output
