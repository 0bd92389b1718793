"""Robustness in a report: a row for each figure, a column for each edit."""

from tests.reporting.conftest import section
from tests.reporting.test_concepts import evaluated
from tti.reporting.robustness import TITLE


def test_every_edit_is_a_column_and_decides_nothing(written_run, reported, tmp_path):
    figures = {"clean": 1.0, "increase": 0.25, "relative": 0.1, "changed": 0.3}
    for seed in (1, 2):
        evaluated(written_run("baseline", seed), "robustness", {f"{name}/drop": x for name, x in figures.items()})
        written_run("other", seed)
    analysis = reported()
    shown = section((tmp_path / "report.md").read_text(), TITLE)
    assert "| variant | figure | drop |" in shown
    assert "| `baseline` | share of what context is worth | 0.100 ± 0.000 |" in shown
    assert "`other` |" not in shown
    assert "robustness/increase/drop" in analysis.display_only


def test_runs_without_it_have_no_such_section(written_run, reported, tmp_path):
    written_run("baseline", 1)
    reported()
    assert TITLE not in (tmp_path / "report.md").read_text()
