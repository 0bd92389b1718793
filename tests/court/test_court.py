"""Known answers through the whole court: parts, planted networks, scores, tables."""

import json
import math
from pathlib import Path

import pytest

from tests.conftest import options
from tests.court.conftest import KNOWN
from tti.court.__main__ import court, frozen_digest
from tti.court.record import OPENED, TRIED

OWN = ["more=[known/truth,known/constant,known/random]", "less=[known/density]", "evaluation=[]", KNOWN]


@pytest.fixture(scope="module")
def config(court_config):
    return court_config(*OWN)


@pytest.fixture(scope="module")
def verdict(config):
    return court(config)


@pytest.fixture(scope="module")
def scores(verdict):
    (sitting,) = verdict.sittings
    return {score.metric.name: score for score in sitting.scores}


def test_the_truth_passes(scores):
    truth = scores["known/truth"]
    assert truth.failed == ["R"] if truth.resolution > 0.1 else truth.failed == []
    assert (truth.sensitivity, truth.nuisance, truth.calibration) == (pytest.approx(1), 0, (0, 0))


def test_a_constant_a_random_number_and_a_density_fail_each_for_its_reason(scores):
    assert scores["known/constant"].sensitivity == 0
    assert math.isnan(scores["known/constant"].nuisance)
    assert "S" in scores["known/random"].failed
    assert scores["known/density"].worst.dial == "density"
    assert scores["known/density"].nuisance > 1


def test_a_repeated_court_measures_nothing_and_says_the_same(verdict, config, monkeypatch):
    written = {path: path.read_bytes() for path in _outputs(config)}
    monkeypatch.setattr("tti.court.bench.Bench.measure", None)
    court(config)
    assert {path: path.read_bytes() for path in _outputs(config)} == written
    assert len(written) == 4


def _outputs(config):
    return sorted(path for path in Path(config.folder).rglob("*") if path.suffix in (".md", ".html", ".csv"))


def test_two_courts_say_the_same(court_config, verdict):
    other = court(court_config(*OWN))
    assert other.figures().equals(verdict.figures())
    assert other.provenance == verdict.provenance


def test_what_was_cut_short_is_measured_again(court_config, verdict, config, tmp_path):
    lines = Path(config.folder, TRIED).read_bytes().splitlines(keepends=True)
    (tmp_path / TRIED).write_bytes(b"".join(lines[:5]) + lines[5][:40])
    again = court_config(*OWN, folder=tmp_path)
    assert court(again).figures().equals(verdict.figures())
    assert len((tmp_path / TRIED).read_bytes().splitlines()) == len(lines) + 1


def test_the_sealed_seeds_are_opened_once(court_config, verdict, config, tmp_path):
    assert "have not been opened" in " ".join(verdict.sentences())
    opened = court_config(*OWN, "open=true", folder=tmp_path)
    found = court(opened)
    assert [sitting.name for sitting in found.sittings] == ["open seeds", "sealed seeds"]
    record = json.loads((tmp_path / OPENED).read_text())
    assert record["metrics"] == ["known/constant", "known/density", "known/random", "known/truth"]
    assert record["frozen"] == frozen_digest(opened)
    assert record["at"] in " ".join(found.sentences())
    court(opened)  # the same again changes nothing
    assert json.loads((tmp_path / OPENED).read_text()) == record
    closed = court_config(*OWN, folder=tmp_path)
    assert [sitting.name for sitting in court(closed).sittings] == ["open seeds", "sealed seeds"]
    fewer = court_config("more=[known/truth]", *OWN[2:], folder=tmp_path)
    assert [sitting.name for sitting in court(fewer).sittings] == ["open seeds"]
    with pytest.raises(ValueError, match=r"were opened on .* with other metrics: they are no longer unseen"):
        court(court_config("more=[known/truth]", *OWN[2:], "open=true", folder=tmp_path))
    with pytest.raises(ValueError, match=r"were opened on .* with other frozen"):
        court(court_config(*OWN, "open=true", "trial.thresholds.nuisance=0.5", folder=tmp_path))


def test_the_digest_covers_every_threshold_and_dial(court_config):
    digests = {
        frozen_digest(court_config(*change))
        for change in ([], ["trial.thresholds.nuisance=0.2"], ["trial.seeds.open=[7]"], ["trial.doses.union=[3]"])
    }
    assert len(digests) == 4
    assert frozen_digest(court_config(*OWN)) in digests


def test_a_metric_or_part_that_is_not_there_is_named_with_those_that_are(court_config):
    with pytest.raises(ValueError, match=r"more=\[unknown/x\]: no part 'unknown' stands trial; there are: known"):
        court(court_config("more=[unknown/x]", "evaluation=[]", KNOWN))
    with pytest.raises(ValueError, match=r"^no metric known/trth; known yields: known/truth, known/constant"):
        court(court_config("more=[known/trth]", "evaluation=[]", KNOWN))
    with pytest.raises(ValueError, match=r"^no metric stands trial: evaluation="):
        court(court_config("evaluation=[]"))
    with pytest.raises(ValueError, match=r"^effects cannot stand trial: "):
        court(court_config("evaluation=[effects]", "evaluation.effects.sites=[blocks.0.mlp.post]", "more=[effects/x]"))


def test_every_part_of_the_evaluation_stands_trial_or_says_why_not(court_config):
    config = court_config("trial=planted")
    named = {name.partition("/")[0] for names in config.trial.untried for name in names.split(", ")}
    tried = {name.partition("/")[0] for name in config.trial.metrics}
    assert set(options("evaluation")) <= named | tried
    assert set(config.evaluation) == tried
