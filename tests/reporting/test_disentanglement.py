"""Codes in a report: beside their ceilings, over their KL, and without a figure if they collapsed."""

import numpy as np
import pytest

from tti.evaluation_folder import RANDOM_INIT, Array, Evaluation, Result, write
from tti.reporting import disentanglement, every, findings
from tti.reporting.disentanglement import BESIDE, KEPT, MOVED, OF_SCORES, OF_USE, REBUILT, SCORED, SHARES

SENTENCES = {"corpus": {"_target_": "tti.data.sentences.Sentences"}}
ABOUT = {"of": {}, "settings": {}, "cost": {}, "environment": {}}
STEPS = np.array([[["A.", "B.", "C."], ["D.", "E.", "F."], ["G.", "G.", "G."]]])  # of one sentence
CHANGE = np.array([[0.5, 0.5], [0.0, 0.8], [0.01, 0.0]])


def coded(run, score=0.4, kl=None, **metrics):
    """An evaluation of a code whose scores are all the same; nulls are 0.1, and ceilings 0.8."""
    measured = {**dict.fromkeys(OF_USE, 0.5), "loss_shuffled": 2.5, "active_units": 3.0}
    measured |= dict.fromkeys(OF_SCORES, score) | {"specificity_rotated": 0.3}
    nulls = {prefix: 0.8 if "ceiling" in prefix else 0.1 for prefix in BESIDE}
    measured |= {f"{prefix}{name}": v for prefix, v in nulls.items() for name in OF_SCORES if name != "specificity"}
    measured = {name: value for name, value in {**measured, "kl": kl, **metrics}.items() if value is not None}
    arrays = {
        "intervention/change": Array(CHANGE, ("latent", "factor")),
        "traversal/text": Array(STEPS, ("sentence", "latent", "step")),
        "traversal/original": Array(np.array(["B."]), ("sentence",)),
        "factor/name": Array(np.array(["tense", "agent"]), ("factor",)),
    }
    write(Evaluation(run), "disentanglement", Result(measured, arrays), ABOUT)
    untrained = {"mig_rank": 0.2, "ceiling_scalar/mig_rank": 0.8}
    write(Evaluation(run, subject=RANDOM_INIT), "disentanglement", Result(untrained), ABOUT)


def write_runs(written_run):
    for seed in (1, 2, 3):
        coded(written_run("baseline", seed, data=SENTENCES))
        for strength, score in ((4, 0.5), (10, 0.6)):
            overrides = ("regularizer=kl", "regularizer.kl.free=0.25", f"regularizer.kl.weight={strength}")
            run = written_run(f"beta_{strength}", seed, data=SENTENCES, overrides=overrides)
            coded(run, score + seed / 1000, kl=20.0 / strength + seed)
        coded(written_run("silent", seed, data=SENTENCES), kl=1.0, active_units=float(seed - 1))
        coded(written_run("unread", seed, data=SENTENCES), kl=8.0, loss_shuffled=0.5 + 0.1 * seed)


@pytest.fixture(scope="module")
def report(reported_once):
    return reported_once(write_runs)


@pytest.fixture
def analysis(report):
    return report[1]


def table(analysis, title):
    (found,) = (each.table for each in every.tables(analysis) if each.title == title)
    return {row[0].text: row for row in found.rows}


def test_codes_stand_beside_their_ceilings_and_nulls(analysis):
    rows = table(analysis, SCORED)
    assert [cell.text for cell in rows["baseline"][1:]] == ["0.400"] * len(OF_SCORES)
    for prefix, label in BESIDE.items():
        assert rows[label][1].text == ("0.800" if "ceiling" in prefix else "0.100")
    assert rows[BESIDE["rotated/"]][-1].text == "0.300"


def test_the_declared_gain_is_the_share_of_the_ceiling_above_that_of_the_rotated_code(analysis):
    assert analysis.declared["beta_10"].label == "MIG over its ceiling"
    gains = analysis.gains
    assert gains.loc["beta_10", "mean"] == pytest.approx(0.202 / 0.8)  # the rotations have 0.1 / 0.8 each
    assert gains["verdict"].to_dict() == {
        "beta_4": "gained", "beta_10": "gained",
        "silent": "collapsed in 1 of 3 seeds", "unread": "collapsed in 1 of 3 seeds",
    }  # fmt: skip
    first = {row[0].text: row for row in findings.first(analysis).table.rows}
    assert [cell.text for cell in first["beta_4"][5:7]] == ["+0.127", "gained"]
    assert [cell.text for cell in first["unread"][5:7]] == ["-", "collapsed in 1 of 3 seeds"]


@pytest.mark.parametrize("variant", ["silent", "unread"])
def test_a_variant_that_collapsed_in_a_seed_is_marked_everywhere_and_has_no_figure(report, variant):
    folder, analysis = report
    for found in [findings.first(analysis), *every.tables(analysis)]:
        marks = {row[0].spread for row in found.table.rows if row[0].text == variant}
        assert marks <= {"collapsed in 1 of 3 seeds"}, found.title
    assert {cell.text for cell in table(analysis, SCORED)[variant][1:]} == {"-"}
    assert {cell.text for cell in table(analysis, MOVED)[variant][1:]} == {"-"}
    assert table(analysis, KEPT)[variant][1].text != "-"  # what shows the collapse
    drawn = disentanglement.drawn(analysis)
    points = [point["variant"] for chart in drawn[SCORED] for series in chart["series"] for point in series["points"]]
    assert variant not in points
    assert variant not in [chart["variant"] for chart in drawn[MOVED]]
    assert f"`{variant}`: the code collapsed in 1 of 3 seeds" in "\n".join(analysis.remarks)
    assert f"`{variant}` collapsed in 1 of 3 seeds |" in (folder / "report.md").read_text()


def test_fronts_are_over_the_realized_kl_and_join_the_strengths_of_a_method(analysis):
    charts = disentanglement.drawn(analysis)[SCORED]
    assert [chart["y"] for chart in charts] == [*SHARES.values(), *[label for label, _ in REBUILT.values()]]
    (series,) = charts[0]["series"]
    assert series["name"] == "beta"
    assert [(point["label"], *point["at"][:2]) for point in series["points"]] == [
        ("4", 7.0, pytest.approx(0.502 / 0.8)), ("10", 4.0, pytest.approx(0.602 / 0.8))]  # fmt: skip
    assert series["points"][0]["at"][2] == pytest.approx(4.3027 / 3**0.5, rel=1e-4)  # of 1, 2, 3
    rules = {rule["name"]: rule["at"] for rule in charts[0]["rules"]}
    assert rules == {"baseline": 0.5, **{label: pytest.approx(1.0 if "ceiling" in prefix else 0.125)
                                         for prefix, label in BESIDE.items()}, "untrained": 0.25}  # fmt: skip


def test_latents_are_sorted_by_the_factor_that_they_change_and_idle_ones_are_left_out(analysis):
    (heat, *_) = disentanglement.drawn(analysis)[MOVED]
    assert heat["rows"] == ["latent 0", "latent 1"]
    assert heat["values"] == [[0.5, 0.5], [0.0, 0.8]]


def test_the_most_specific_move_is_shown_with_its_ends(analysis):
    assert [cell.text for cell in table(analysis, MOVED)["baseline"]] == ["baseline", "1", "agent", "D.", "E.", "F."]


def test_a_damaged_table_of_moves_is_left_out(written_run, reported):
    run = written_run("baseline", 1)
    coded(run)
    arrays = {"intervention/change": Array(np.zeros(3), ("latent",)), "traversal/text": Array(STEPS, ("a", "b", "c"))}
    write(Evaluation(run), "disentanglement", Result({"active_units": 1.0}, arrays), ABOUT)
    assert reported().moves == []


def test_other_runs_have_no_such_section(written_run, reported, tmp_path):
    written_run("baseline", 1)
    reported()
    assert KEPT not in (tmp_path / "report.md").read_text()
