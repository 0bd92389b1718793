"""Codes in a report: beside their ceilings, and a collapsed variant is marked and has no scores."""

import numpy as np
import pytest

from tti.evaluation_folder import Array, Evaluation, Result, write
from tti.reporting.disentanglement import BESIDE, KEPT, MOVED, OF_SCORES, OF_USE, SCORED


def coded(run, active, score=0.4):
    metrics = dict.fromkeys(OF_USE, 0.5) | {"active_units": float(active)}
    arrays = {}
    if active:
        metrics |= dict.fromkeys(OF_SCORES, score) | {"specificity_rotated": 0.3}
        metrics |= {f"{prefix}{name}": 0.9 for prefix in BESIDE for name in OF_SCORES if name != "specificity"}
        arrays = {
            "intervention/change": Array(np.array([[0.5, 0.5], [0.0, 0.8]]), ("latent", "factor")),
            "traversal/text": Array(np.array([[["A.", "B."], ["C.", "D."]]]), ("sentence", "latent", "step")),
            "factor/name": Array(np.array(["tense", "agent"]), ("factor",)),
        }
    about = {"of": {}, "settings": {}, "cost": {}, "environment": {}}
    write(Evaluation(run, "validation", "trained"), "disentanglement", Result(metrics, arrays), about)


@pytest.fixture
def text(written_run, reported, tmp_path):
    for seed in (1, 2):
        coded(written_run("baseline", seed), active=3, score=0.4)
        coded(written_run("beta", seed), active=seed - 1)
    reported()
    return (tmp_path / "report.md").read_text()


def test_codes_stand_beside_their_ceilings_and_nulls(text):
    assert f"## {KEPT}" in text
    scores = text.partition(f"## {SCORED}")[2].partition("\n## ")[0]
    assert "| `baseline` | 0.400 ± 0.000 |" in scores
    for label in BESIDE.values():
        assert f"| {label} | 0.900 |" in scores
    rotated = next(line for line in scores.splitlines() if line.startswith("| the codes, rotated"))
    assert rotated.endswith("| 0.300 |")


def test_a_variant_that_collapsed_in_a_seed_is_marked_and_has_no_figure(text):
    scores = text.partition(f"## {SCORED}")[2].partition("\n## ")[0]
    row = next(line for line in scores.splitlines() if line.startswith("| `beta`"))
    assert row == "| `beta` | collapsed in 1 of 2 seeds |" + " - |" * (len(OF_SCORES) - 1)


def test_the_most_specific_move_is_shown_with_its_ends(text):
    moved = text.partition(f"## {MOVED}")[2].partition("\n## ")[0]
    assert "| `baseline` | 1 | agent | C. | D. |" in moved


def test_other_runs_have_no_such_section(written_run, reported, tmp_path):
    written_run("baseline", 1)
    reported()
    assert KEPT not in (tmp_path / "report.md").read_text()
