"""Concept modules in a report: units beside their controls, and what leaks."""

from itertools import product

import pytest

from tests.reporting.conftest import section
from tti.evaluation_folder import RANDOM_INIT, ROTATION, TRAINED, Evaluation, Result, write
from tti.reporting.concepts import FOUND, LEAKED, LOST, PATHS, SCORES, SITES


def evaluated(run, part, metrics, subject=TRAINED):
    about = {"of": {}, "settings": {}, "cost": {}, "environment": {}}
    write(Evaluation(run, "validation", subject), part, Result(metrics, {}), about)


def scored(run, score, sites, subject=TRAINED):
    metrics = {f"{name}/{site}/mean": score for name, site in product(SCORES, sites)}
    evaluated(run, "ground_truth", metrics | {"f1_ceiling_token": 0.6, "context_f1_ceiling": 1.0}, subject)


@pytest.fixture
def text(written_run, reported, tmp_path):
    for seed in (1, 2):
        scored(written_run("baseline", seed), 0.2, ["mlp.post"])
        run = written_run("concepts", seed)
        for score, subject in ((0.7, TRAINED), (0.3, ROTATION), (0.1, RANDOM_INIT)):
            scored(run, score, SITES, subject)
        evaluated(run, "leakage", dict(zip(PATHS, (0.1, 0.2, 0.7), strict=True)) | dict.fromkeys(LOST, 0.5))
    reported()
    return (tmp_path / "report.md").read_text()


def test_units_stand_beside_neurons_controls_and_ceilings(text):
    shown = section(text, FOUND)
    assert "| `baseline` | neurons (mlp.post) |" + " 0.200 ± 0.000 |" * len(SCORES) in shown
    assert "| `baseline` | neurons (mlp.post), rotated |" not in shown
    assert "| `concepts` | known |" + " 0.700 ± 0.000 |" * len(SCORES) in shown
    assert "| `concepts` | known, rotated |" + " 0.300 ± 0.000 |" * len(SCORES) in shown
    assert "| `concepts` | known, untrained |" + " 0.100 ± 0.000 |" * len(SCORES) in shown
    assert "| a detector that knows the current token |  | 0.600 |" in shown
    assert shown.rstrip().endswith("| - | 1.000 |")


def test_paths_have_their_shares_and_what_is_lost_without_them(text):
    shown = section(text, LEAKED)
    assert "`baseline`" not in shown
    assert "| `concepts` | 0.100 ± 0.000 | 0.200 ± 0.000 | 0.700 ± 0.000 |" + " 0.500 ± 0.000 |" * len(LOST) in shown


def test_other_runs_have_no_such_section(written_run, reported, tmp_path):
    written_run("baseline", 1)
    reported()
    assert FOUND not in (tmp_path / "report.md").read_text()
