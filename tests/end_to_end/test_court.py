"""`python -m tti.court` as a user runs it: table, page, a repeated command, and errors."""

from pathlib import Path

import pytest

from tests.reporting.chromium import Chromium, binary
from tti.configuration import conf_dir
from tti.reporting.believed import Believed

SMALL = ["trial=small", "evaluation=[utilisation,geometry]"]


@pytest.fixture(scope="module")
def court(commands_in, tmp_path_factory):
    """A folder in which a small court has sat, and the command."""
    command = commands_in(tmp_path_factory.mktemp("court"))
    return command, command(*SMALL, module="tti.court").ok().output


def test_the_table_has_a_row_per_metric_and_the_page_the_same(court):
    command, said = court
    assert "metrics meet the four criteria" in said
    written = (command.folder / "runs/court/court.md").read_text()
    assert "| `utilisation/density` | display only: " in written
    assert "`geometry/mean_abs_cosine - rotation`" in written
    assert written.count("not in") > 20
    page = (command.folder / "runs/court/court.html").read_text()
    assert 'data-metric="utilisation/density"' in page
    assert "The sealed seeds have not been opened" in page


def test_a_report_reads_which_scores_to_believe(court):
    believed = Believed.read(court[0].folder / "runs/court/court.md")
    assert f"{len(believed.reportable)} of {believed.tried} metrics meet" in court[1]
    assert believed.voices == ()
    assert believed.page.exists()


def test_a_repeated_command_writes_the_same_files(court):
    command, _ = court
    folder = command.folder / "runs/court"
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    command(*SMALL, module="tti.court").ok()
    assert {path: path.read_bytes() for path in before} == before


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (["trial.planted.values=31"], "error: trial.planted.values=31 must be a multiple of twice the superposition"),
        (["trial.planted.control=nothing"], "error: trial.planted.control=nothing must be none, shuffled or noise"),
        (["more=[unknown/x]"], "error: more=[unknown/x]: no part 'unknown' stands trial; there are: utilisation"),
        (["trial.doses.rotation=[95]"], "error: trial.doses.rotation=[95] must be a list of numbers above 0, to 90"),
    ],
)
def test_a_wrong_option_is_one_line(tti, given, said):
    assert said in tti(*SMALL, *given, module="tti.court").failed()


@pytest.fixture
def page(court):
    """The court's page in a browser."""
    if binary() is None:
        pytest.skip("Chromium is not installed")
    opened = Chromium()
    opened.open(court[0].folder / "runs/court/court.html")
    yield opened
    opened.close()


def test_a_click_shows_the_curves_and_a_sort_hides_them(page):
    curves = "document.querySelectorAll('tr.curves{}').length"
    assert page.run(curves.format("")) == 0
    page.click("tr[data-metric] button")
    assert page.run(curves.format(" svg .line")) == 2
    assert page.run(curves.format(" svg circle")) > 3
    page.click("tr[data-metric] button")
    assert page.run(curves.format("")) == 0
    page.click("tr[data-metric] button")
    page.click("table.verdicts th:nth-child(4)")
    assert page.run(curves.format("")) == 0
    assert page.problems == []


def test_the_committed_table_is_that_of_the_frozen_file():
    """Whoever changes the file must let the court sit again."""
    from hydra import compose, initialize_config_dir

    from tti.court.__main__ import frozen_digest

    with initialize_config_dir(conf_dir(), version_base=None):
        config = compose("court")
    results = Path(__file__).parents[2] / "docs" / "results" / "court.md"
    assert f"`{frozen_digest(config)}`" in results.read_text()
