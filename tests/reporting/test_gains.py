"""The declared gain, which is a difference of differences."""

import math

import pandas as pd
import pytest

from tti.evaluation_folder import RANDOM_INIT, ROTATION, TRAINED, Evaluation, Result, write
from tti.reporting import findings
from tti.reporting.gains import Declared, beyond, gains, own

CONTROLS = {"mild": "baseline", "strong": "baseline"}
DECLARED = dict.fromkeys(["mild", "strong"], Declared("score", "score", 1))


def by_seed(**rows):
    cells = {(variant, seed): value for variant, row in rows.items() for seed, value in enumerate(row, start=1)}
    return pd.Series(list(cells.values()), index=pd.MultiIndex.from_tuples(list(cells), names=["variant", "seed"]))


SCORE = {"score": by_seed(baseline=[0.5, 0.6, 0.7], mild=[0.6, 0.7, 0.8], strong=[0.9, 1.01, 1.1])}
ROTATED = {"score": by_seed(baseline=[0.4, 0.5, 0.6], mild=[0.5, 0.6, 0.7], strong=[0.5, 0.6, 0.7])}


def found(score=SCORE, rotated=ROTATED, sequences=(["mild", "strong"],), silent=None, declared=DECLARED):
    return gains(declared, score, rotated, CONTROLS, sequences, silent or {})


def test_a_change_that_a_rotation_has_too_is_no_gain():
    table = found()
    assert table["verdict"].to_dict() == {"mild": "not shown", "strong": "gained"}
    assert table.loc["mild", "mean"] == pytest.approx(0.0)
    assert table.loc["strong", "mean"] == pytest.approx((0.3 + 0.31 + 0.3) / 3)


def test_seeds_without_a_rotation_do_not_count_for_anyone():
    one = {"score": ROTATED["score"].drop([("baseline", 3), ("strong", 2)])}
    assert found(rotated=one)["n"].to_dict() == {"mild": 2, "strong": 1}
    assert found(rotated=one).loc["strong", "verdict"] == "no test with one seed"
    assert found(rotated={})["verdict"].to_dict() == {"mild": "not measured", "strong": "not measured"}


def test_a_single_variant_is_compared_with_nothing_and_has_the_columns_all_the_same():
    """As in the report of one run."""
    alone = {"score": by_seed(only=[0.5])}
    changes = beyond(alone, alone, {})
    assert changes.empty
    assert {("score", "mean"), ("score", "change")} <= set(changes)


def test_less_may_be_better():
    table = found(declared=dict.fromkeys(["mild", "strong"], Declared("score", "score", -1)))
    assert table.loc["strong", "verdict"] == "lost"


def test_a_score_that_fell_less_than_its_rotation_is_no_gain():
    fell = {"score": by_seed(baseline=[0.5, 0.6, 0.7], strong=[0.4, 0.5, 0.6])}
    rotated = {"score": by_seed(baseline=[0.5, 0.6, 0.7], strong=[0.1, 0.21, 0.3])}
    assert found(fell, rotated=rotated).loc["strong", ["p", "verdict"]].tolist()[1] == "not shown"
    assert beyond(fell, rotated, {"strong": "baseline"})["score", "change"].tolist() == [pytest.approx(-0.1)]


def test_a_nan_is_no_gain():
    score = {"score": SCORE["score"].where(SCORE["score"] != 1.01)}
    assert found(score).loc["strong", ["nan", "verdict"]].tolist() == [1, "NaN"]


def test_nothing_is_said_of_a_model_that_counting_beats():
    assert found(silent={"strong": "above the trigram"}).loc["strong", "verdict"] == "above the trigram"


def test_the_strongest_is_tested_first_and_no_milder_one_behind_a_failure():
    score = {"score": by_seed(baseline=[0.5, 0.6, 0.7], mild=[0.9, 1.01, 1.1], strong=[0.6, 0.7, 0.8])}
    assert found(score)["verdict"].to_dict() == {"mild": "not shown", "strong": "not shown"}


def test_marks_follow_the_interval_of_the_difference_of_differences():
    table = beyond(SCORE, ROTATED, CONTROLS)
    assert findings.mark(table.loc["strong", "score"], 1) == "▲"
    assert findings.mark(table.loc["strong", "score"], -1) == "▼"
    assert findings.mark({"mean": 0.1, "margin": 0.2}, 1) == "="
    assert findings.mark({"mean": 0.3, "margin": 0.2, "change": -0.1}, 1) == "="
    assert findings.mark({"mean": 0.1, "margin": math.nan}, 1) == ""


def test_a_score_above_its_rotation_is_of_the_runs_that_have_both():
    assert own(SCORE["score"], ROTATED["score"].drop(("mild", 1))).index.tolist() == [
        ("baseline", 1), ("baseline", 2), ("baseline", 3), ("mild", 2), ("mild", 3),
        ("strong", 1), ("strong", 2), ("strong", 3)]  # fmt: skip


@pytest.mark.parametrize(("untrained", "said"), [(0.1, False), (0.5, True)])
def test_a_score_not_above_the_untrained_network_is_named(written_run, reported, tmp_path, untrained, said):
    metric = "selectivity_top5_weighted/mlp.post/mean"
    about = {"of": {"data": "d", "tokenizer": "t"}, "settings": {}, "cost": {}, "environment": {}}
    for seed in (1, 2, 3):
        run = written_run("baseline", seed)
        for subject, value in ((TRAINED, 0.5), (ROTATION, 0.4), (RANDOM_INIT, untrained)):
            score = {metric: value + seed / 1000}
            write(Evaluation(run, "validation", subject), "selectivity", Result(score, {}), about)
        written_run("l1", seed)
    reported()
    text = (tmp_path / "report.md").read_text()
    assert (
        "**No better than untrained**: the interval overlaps that of the untrained network for `baseline`." in text
    ) == said
    assert f"| 0.502 ± 0.002 | 0.402 ± 0.002 | {untrained + 0.002:.3f} ± 0.002 |" in text
