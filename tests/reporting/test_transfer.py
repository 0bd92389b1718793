"""Transfer in a report: neurons beside their controls, and beside the control's neurons."""

from itertools import product

import pytest

from tests.reporting.conftest import section
from tti.evaluation_folder import RANDOM_INIT, ROTATION, TRAINED, Evaluation, Result, write
from tti.reporting.transfer import BESIDE, DECIDES, FACTORS, OTHERS, PLACES, TRANSFER


def scored(run, score, subject=TRAINED):
    metrics = {f"{name}/{place}": score for name, place in product((DECIDES, *BESIDE), PLACES.values())}
    metrics |= {f"ground_truth/f1_agent/{place}": score / 2 for place in PLACES.values()}
    metrics |= {"ground_truth/f1_ceiling_token": 0.25, "ground_truth/context_f1_ceiling": 1.0}
    about = {"of": {}, "settings": {}, "cost": {}, "environment": {}}
    for part in {name.partition("/")[0] for name in metrics}:
        own = {name.partition("/")[2]: value for name, value in metrics.items() if name.startswith(f"{part}/")}
        write(Evaluation(run, "validation", subject), part, Result(own, {}), about)


@pytest.fixture
def text(written_run, reported, tmp_path):
    for seed, (variant, score) in product((1, 2), {"baseline": 0.3, "beta": 0.5}.items()):
        run = written_run(variant, seed)
        scored(run, score)
        scored(run, 0.2, ROTATION)
        scored(run, 0.1, RANDOM_INIT)
    reported()
    return (tmp_path / "report.md").read_text()


def test_neurons_stand_beside_rotation_untrained_network_and_control(text):
    shown = section(text, TRANSFER)
    for place in PLACES:
        figures = "0.300 ± 0.000 | 0.200 ± 0.000 | 0.100 ± 0.000 | 0.100 ± 0.000 |  |"
        assert f"| `baseline` | {place} | {figures}" in shown
        figures = "0.500 ± 0.000 | 0.200 ± 0.000 | 0.100 ± 0.000 | 0.300 ± 0.000 | 0.200 ± 0.000 |"
        assert f"| `beta` | {place} | {figures}" in shown


def test_other_measures_have_their_rotation_and_ceilings(text):
    shown = section(text, OTHERS)
    assert "| `beta` | encoder |" + " 0.500 (0.200) |" * len(BESIDE) in shown
    assert "| a detector that knows | the current token | 0.250 | - |" in shown
    assert "| a detector that knows | the sentence | - | 1.000 |" in shown


def test_factors_have_their_nulls(text):
    shown = section(text, FACTORS)
    assert "| variant | neurons of | agent |" in shown
    assert "| `beta` | decoder | 0.250 ± 0.000 |" in shown
    assert "| rotated | encoder | 0.100 |" in shown
    assert "| untrained | decoder | 0.050 |" in shown


def test_other_runs_have_no_such_section(written_run, reported, tmp_path):
    written_run("baseline", 1)
    reported()
    assert TRANSFER not in (tmp_path / "report.md").read_text()
