"""Run folders written by commit b8c1b31 (tests/earlier/make.py), with today's options and additional ones."""

import shutil
from pathlib import Path

import pytest
from commands import Commands, summary
from omegaconf import OmegaConf

from tti.configuration import conf_dir
from tti.runs import Run

EARLIER = Path(__file__).parents[1] / "earlier"
# New options with defaults, each in a different group, and another validation metric.
ADDED = {
    "optimizer/adamw.yaml": "amsgrad: false",
    "trainer/default.yaml": "detect_anomaly: false",
    "callbacks/default.yaml": "noted: {_target_: lightning.pytorch.callbacks.Callback}",
    "metrics/default.yaml": """
added:
  _target_: tti.metrics.sites.AtSites
  sites: [blocks.*.mlp_out]
  metric: {_target_: tti.metrics.firing.FiringRates, _partial_: true, threshold: 1e-9}
""",
}


@pytest.fixture(scope="module")
def conf(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Today's configuration plus ``ADDED``."""
    folder = tmp_path_factory.mktemp("later") / "conf"
    shutil.copytree(conf_dir(), folder)
    for name, text in ADDED.items():
        with (folder / name).open("a") as file:
            file.write(f"\n{text}\n")
    return folder


@pytest.fixture
def earlier(tti: Commands, conf: Path) -> Commands:
    """A folder with both runs, and commands that compose with ``conf``."""
    for name in ("baseline", "unfinished"):
        shutil.copytree(EARLIER / name, tti.folder / name)
    tti.environment["TTI_CONF"] = str(conf)
    return tti


def command(name: str) -> list[str]:
    """The overrides with which the run was started, except the one that interrupted it."""
    overrides = OmegaConf.load(EARLIER / name / "overrides.yaml")
    return [override for override in overrides if "signalled" not in override]


def test_a_finished_one_is_skipped(earlier):
    assert "has finished already" in earlier(*command("baseline")).ok().output


def test_an_unfinished_one_goes_on_and_ends_as_the_uninterrupted_one_did(earlier):
    done = earlier(*command("unfinished")).ok()
    assert "resuming from unfinished/checkpoints/last.ckpt" in done.output
    expected, got = (summary(earlier.folder / name)["metrics"] for name in ("baseline", "unfinished"))
    assert got["val/loss"] == pytest.approx(expected["val/loss"], rel=1e-5)  # another CPU rounds differently
    assert "val/active_fraction/mlp_out/mean" not in expected
    assert 0 < got["val/active_fraction/mlp_out/mean"] <= 1


def test_without_a_checkpoint_it_begins_as_it_did_then(earlier):
    (earlier.folder / "unfinished/checkpoints/last.ckpt").unlink()
    earlier(*command("unfinished")).ok()
    expected, got = (summary(earlier.folder / name)["metrics"] for name in ("baseline", "unfinished"))
    assert got["val/loss"] == pytest.approx(expected["val/loss"], rel=1e-5)


def test_an_added_knob_that_is_turned_makes_another_configuration(earlier):
    message = earlier(*command("unfinished"), "optimizer.amsgrad=true", "model.init_std=0.1").failed()
    assert "optimizer.amsgrad: False there, True wanted" in message
    assert "model.init_std: 0.02 there, 0.1 wanted" in message
    assert len(message.splitlines()) < 6


BUDGET = ["run_dir=budget", "weighting=budget", "weighting.baseline.of=baseline"]


def test_a_finished_one_serves_as_a_baseline(earlier):
    earlier(*command("baseline"), *BUDGET, "model.init_std=0.02").ok()
    assert Run(earlier.folder / "budget").status == "finished"


def test_a_baseline_that_began_otherwise_is_none(earlier):
    message = earlier(*command("baseline"), *BUDGET, "optimizer.amsgrad=true").failed()
    assert "differ in: model.init_std (0.02 there, None here); optimizer.amsgrad (False there, True here)" in message


def test_a_finished_one_is_evaluated_and_its_untrained_network_is_that_of_then(earlier):
    parts = "parts=[performance,utilisation]"
    earlier("run=baseline", parts, "subjects=[trained,random_init]", "threads=1", module="tti.evaluate").ok()
    written = {path.name for path in (earlier.folder / "baseline/evaluation/validation/trained").iterdir()}
    assert {"performance.json", "utilisation.json"} <= written
    weights = [each for each in Run(earlier.folder / "baseline").untrained().parameters() if each.ndim == 2]
    assert weights[0].std().item() == pytest.approx(0.02, rel=0.1)
