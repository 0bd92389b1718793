"""The combined gaming audits of several runs."""

import pytest

from tti.reporting.audit import display_only, finding, movements


def audit(change, metric, before, after, moved):
    return {f"{change}/logit_difference": 0.0, f"{change}/{metric}/before": before, f"{change}/{metric}/after": after,
            f"{change}/{metric}/moved": float(moved)}  # fmt: skip


AUDITS = {
    ("a", 1): audit("permute", "p/steady/k", 2.0, 2.0, False) | audit("rescale", "p/scale/k", 2.0, 3.0, True),
    ("a", 2): audit("permute", "p/steady/k", 2.0, 2.0, False) | audit("rescale", "p/scale/k", 2.0, 2.0, False),
    ("b", 1): audit("permute", "p/steady/k", 2.0, 2.001, False),  # another activation function: rescale is impossible
}


def test_counts_and_shares_over_the_runs_that_admit_a_change():
    found = movements(AUDITS)["p/scale/k"]["rescale"]
    assert (found.moved, found.runs, found.share) == (1, 2, pytest.approx(0.5))
    assert movements(AUDITS)["p/steady/k"]["permute"].runs == 3


def test_what_moved_anywhere_is_display_only():
    assert display_only(movements(AUDITS)) == {"p/scale/k"}


def test_the_table_has_what_moved_and_the_note_names_what_stayed():
    (found,) = finding(AUDITS, {"p/steady/k": "steady one", "p/scale/k": "scaled one"})
    assert [[cell.text for cell in row] for row in found.table.rows] == [["p/scale/k", "–", "1 of 2, +50%"]]
    assert list(found.table.header[1:]) == ["permute (3 runs)", "rescale (2 runs)"]
    assert found.notes[-1] == "1 of 2 metrics moved in no run, among them: steady one."


def test_no_audit_no_table():
    assert finding({}, {}) == []
