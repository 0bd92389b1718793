"""The aggregate: a minimum over families, of metrics that the court lets speak; and what the report believes."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from tests.reporting.conftest import section
from tests.reporting.test_concepts import evaluated
from tests.reporting.test_gains import by_seed
from tti.evaluation_folder import RANDOM_INIT, ROTATION, TRAINED
from tti.reporting.aggregate import SITE, TITLE, gains
from tti.reporting.believed import Voice

F1, SPARSE = Voice("ground_truth/f1", 1, 0.5), Voice("utilisation/density", -1, 0.2)
RESULTS = Path(__file__).parents[2] / "docs" / "results" / "court.md"


def figures(**values):
    """The same values of two seeds, ``f1`` and ``density`` of variant ``v``."""
    names = {"f1": F1.metric, "density": SPARSE.metric}
    return {f"{names[name]}/{SITE}": by_seed(v=[value, value]) for name, value in values.items()}


def test_a_gain_is_above_the_better_control_in_doses():
    trained, rotated, untrained = figures(f1=0.8), figures(f1=0.2), figures(f1=0.3)
    assert gains([F1], trained, rotated, untrained)["ground_truth"].tolist() == pytest.approx([1.0, 1.0])
    less = [figures(density=value) for value in (0.1, 0.5, 0.3)]
    assert gains([SPARSE], *less)["utilisation"].tolist() == pytest.approx([1.0, 1.0])


def test_a_family_is_the_mean_of_its_metrics_and_none_may_be_missing():
    other = Voice("ground_truth/gap", 1, 1.0)
    three = [figures(f1=value) | {f"{other.metric}/{SITE}": by_seed(v=[value, np.nan])} for value in (0.8, 0.2, 0.3)]
    found = gains([F1, other], *three)
    assert found["ground_truth"].to_dict() == {("v", 1): pytest.approx((1.0 + 0.5) / 2)}
    assert gains([F1, SPARSE], *three).empty  # nobody measured the density
    assert gains([], *three).empty


@pytest.fixture
def court(tmp_path):
    """A function that writes a court's verdict."""

    def written(**voices):
        rows = [
            {"metric": f"{voice.metric} - rotation", "measured": voice.metric, "better": better, "unit": voice.unit,
             "verdict": "reportable", "failed": "", "voice": speaks}
            for (voice, better), speaks in zip(((F1, "more"), (SPARSE, "less")), voices.values(), strict=True)
        ]  # fmt: skip
        (tmp_path / "court").mkdir(exist_ok=True)
        pd.DataFrame(rows).to_csv(tmp_path / "court" / "verdicts.csv", index=False)
        return f"court={tmp_path / 'court.md'}"

    return written


@pytest.fixture
def runs(written_run):
    for variant, f1, density in (("baseline", 0.5, 0.4), ("lopsided", 0.5, 0.1), ("both", 0.7, 0.3)):
        for seed in (1, 2):
            run = written_run(variant, seed)
            for subject, share in ((TRAINED, 1.0), (ROTATION, 0.0), (RANDOM_INIT, 0.0)):
                evaluated(run, "ground_truth", {f"f1/{SITE}": 0.4 + share * (f1 - 0.4)}, subject)
                evaluated(run, "utilisation", {f"density/{SITE}": 0.5 + share * (density - 0.5)}, subject)


def test_a_variant_that_gains_in_one_family_does_not_win(runs, reported, tmp_path, court):
    reported(court(f1=True, density=True))
    text = (tmp_path / "report.md").read_text()
    shown = section(text, TITLE)
    assert "| variant | minimum | mean | ground_truth | utilisation |" in shown
    assert "| `baseline` | 0.200 ± 0.000 | 0.350 ± 0.000 | 0.200 ± 0.000 | 0.500 ± 0.000 |" in shown
    assert "| `lopsided` | 0.200 ± 0.000 | 1.100 ± 0.000 |" in shown
    assert "| `both` | 0.600 ± 0.000 | 0.800 ± 0.000 |" in shown
    assert "`ground_truth/f1`, `utilisation/density` may speak in the aggregate" in text


def test_without_a_voice_there_is_no_aggregate_and_the_first_screen_says_so(runs, reported, tmp_path, court):
    reported(court(f1=False, density=False))
    text, page = ((tmp_path / f"report.{kind}").read_text() for kind in ("md", "html"))
    assert TITLE not in text
    assert "2 of 2 metrics meet the criteria that planted layers can test" in text
    assert "none has a voice, so there is no aggregate (`court.md`)" in text
    assert '<a href="court.html">Which scores to believe</a>' in page
    reported()
    text, page = ((tmp_path / f"report.{kind}").read_text() for kind in ("md", "html"))
    assert "no score has a voice, so there is no aggregate" in text
    assert "Which scores to believe" not in page


def test_a_court_without_a_verdict_is_named(runs, reported, tmp_path):
    with pytest.raises(ValueError, match=r"court=.*nowhere\.md: .*verdicts\.csv is no verdict"):
        reported(f"court={tmp_path}/nowhere.md")


def test_the_committed_verdict_gives_no_metric_a_voice():
    """What a report says without a court is this verdict."""
    assert "A voice in an aggregate of scores, which takes S, N, C, R, V and G: none." in RESULTS.read_text()
