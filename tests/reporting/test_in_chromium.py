"""Page, neuron browser and rating in a real browser, from disk; every test also asserts a clean console."""

import json

import pytest

pytestmark = pytest.mark.slow
DETAIL = "document.querySelector('.detail h2')?.textContent"
CAT, WIDTH = 17, 600  # as conftest.py plants them


@pytest.fixture
def browser(chromium, evaluated_runs):
    chromium.open(evaluated_runs[0] / "report" / "browser" / "index.html")
    chromium.wait("document.querySelectorAll('.contexts .context').length")
    return chromium


def first_row(browser):
    return int(browser.run("document.querySelector('.list .row').dataset.neuron"))


def test_it_opens_with_the_most_selective_neuron(browser):
    assert browser.run(DETAIL) == f"blocks.0.mlp.post · neuron {CAT}"
    assert browser.run("document.querySelector('.marked').textContent") == "cat"
    assert browser.run("document.querySelector('.count').textContent") == f"{WIDTH} of {WIDTH} neurons"


def test_only_rows_in_sight_are_there(browser):
    assert browser.run("document.querySelectorAll('.list .row').length") < 40
    browser.run("document.querySelector('.list').scrollTop = 44 * 500")
    browser.wait("[...document.querySelectorAll('.list .row')].some((row) => row.offsetTop === 44 * 500)")


def test_runs_layers_sites_and_neurons_are_switched(browser):
    browser.fill("[data-role=run]", "1")
    browser.wait("document.querySelector('.detail .note').textContent === 'l1_1e-3, seed 42'")
    browser.fill("[data-role=layer]", "1")
    browser.wait(f"{DETAIL}.startsWith('blocks.1.mlp.post')")
    browser.fill("[data-role=neuron]", "300")  # in another file
    browser.wait(f"{DETAIL} === 'blocks.1.mlp.post · neuron 300'")
    browser.fill("[data-role=layer]", "0")
    browser.fill("[data-role=site]", "mlp_out")
    browser.wait(f"{DETAIL} === 'blocks.0.mlp_out · neuron 11'")  # the last neuron
    assert "12 of 12" in browser.run("document.querySelector('.count').textContent")


def test_sorting_goes_both_ways_and_what_is_undefined_comes_last(browser):
    browser.fill("[data-role=sort]", "ablation")
    values = "[...document.querySelectorAll('.list .row .top span')].map((cell) => cell.textContent)"
    falling = [float(value) for value in browser.run(values)]
    assert falling == sorted(falling, reverse=True)
    browser.click("[data-role=direction]")
    rising = [float(value) for value in browser.run(values)]
    assert rising == sorted(rising)
    browser.run("document.querySelector('.list').scrollTop = 1e9")
    browser.wait(f"{values}.at(-1) === '–'")


def test_searching_by_token_and_by_statistic(browser):
    browser.fill("[data-role=search]", '"cat"')
    everyone = browser.run("document.querySelector('.count').textContent")
    assert first_row(browser) == CAT
    browser.fill("[data-role=search]", "cat selectivity_top5 > 0.95")
    assert browser.run("document.querySelector('.count').textContent") == f"1 of {WIDTH} neurons" != everyone
    browser.fill("[data-role=search]", "no such token")
    assert browser.run("document.querySelector('.count').textContent") == f"0 of {WIDTH} neurons"


def test_what_one_sees_of_a_neuron(browser):
    headings = browser.run("[...document.querySelectorAll('.detail h3')].map((each) => each.textContent)")
    assert headings == ["Highest activations", "Activation on all tokens (log count)",
                        "Token types that take most of it",
                        "Next tokens it raises", "When it is ablated", "Statistics"]  # fmt: skip
    assert browser.run("document.querySelectorAll('svg.histogram rect').length") == 8
    assert "--active" in browser.run("document.querySelector('.marked').style.backgroundColor")


def test_two_runs_side_by_side_and_the_address_holds_them(browser, evaluated_runs):
    browser.click("#compare")
    browser.wait("document.querySelectorAll('.pane .detail h2').length === 2")
    browser.fill("[data-role=neuron]", "5")
    browser.wait("[...document.querySelectorAll('.detail h2')].every((each) => each.textContent.endsWith('neuron 5'))")
    fragment = browser.run("location.hash")
    browser.open(evaluated_runs[0] / "report" / "browser" / "index.html", fragment)
    browser.wait("document.querySelectorAll('.pane .detail h2').length === 2")
    assert browser.run("[...document.querySelectorAll('.detail > .note')].map((each) => each.textContent)") == [
        "baseline, seed 42", "l1_1e-3, seed 42"]  # fmt: skip


@pytest.fixture
def rating(chromium, evaluated_runs):
    chromium.open(evaluated_runs[0] / "report" / "rating" / "index.html")
    chromium.wait("document.querySelectorAll('.context').length")
    return chromium


def test_ten_neurons_are_rated_kept_and_exported(rating, evaluated_runs, tmp_path):
    folder, _ = evaluated_runs
    rating.call("Browser.setDownloadBehavior", behavior="allow", downloadPath=str(tmp_path))
    rating.fill("#rater", "A. Rater")
    for key in "1m2p3u" + "1111":
        rating.press(key)
    assert rating.run("document.querySelector('#progress-text').textContent") == "11 of 30, 10 rated"
    rating.open(folder / "report" / "rating" / "index.html")
    rating.wait("document.querySelectorAll('.context').length")
    assert rating.run("document.querySelector('#progress-text').textContent") == "11 of 30, 10 rated"
    rating.press("ArrowLeft")
    assert rating.run("document.querySelector('[aria-pressed=true]').dataset.rating") == "monosemantic"
    rating.click("#export")
    path = tmp_path / "ratings-A_Rater.json"
    for _ in range(500):
        if path.exists() and path.stat().st_size:
            break
        rating.run("new Promise((done) => setTimeout(done, 20))")
    content = json.loads(path.read_text())
    key = json.loads((folder / "report" / "rating-key.json").read_text())
    assert content["rater"] == "A. Rater"
    assert [given["rating"] for given in content["ratings"].values()].count("monosemantic") == 6
    assert set(content["ratings"]) <= set(key)


def test_a_rater_cannot_see_the_method(rating, evaluated_runs):
    files = (evaluated_runs[0] / "report" / "rating" / "items.js").read_text() + rating.run("document.body.innerHTML")
    assert not [name for name in ("baseline", "l1_1e", "blocks.", "seed-") if name in files]


@pytest.fixture
def page(chromium, evaluated_runs):
    chromium.open(evaluated_runs[0] / "report.html")
    return chromium


def test_the_page_draws_every_chart(page):
    assert page.run("document.querySelectorAll('[data-chart]').length") > 8
    assert page.run("[...document.querySelectorAll('[data-chart]')].every((each) => each.querySelector('svg'))")
    assert not page.run("[...document.querySelectorAll('svg')].some((each) => each.outerHTML.includes('NaN'))")


def test_a_variant_is_hidden_everywhere(page):
    shapes = "[...document.querySelectorAll('svg [data-variant=\"l1_1e-2\"]')]"
    seen = f"{shapes}.filter((each) => getComputedStyle(each).display !== 'none').length"
    assert page.run(seen) > 0
    page.click("#variants [data-variant='l1_1e-2']")
    assert page.run(seen) == 0
    page.click("#variants [data-variant='l1_1e-2']")
    assert page.run(seen) > 0


def test_a_heading_sorts_the_table(page):
    column = "[...document.querySelectorAll('table tbody')[0].rows].map((row) => Number(row.cells[2].dataset.value))"
    page.run("document.querySelectorAll('table')[0].rows[0].cells[2].click()")
    rising = page.run(column)
    page.run("document.querySelectorAll('table')[0].rows[0].cells[2].click()")
    assert rising == sorted(rising) == page.run(column)[::-1]


@pytest.mark.parametrize("name", ["report.html", "report/browser/index.html", "report/rating/index.html"])
def test_nothing_is_wider_than_a_phone(chromium, evaluated_runs, name):
    chromium.size(375, 800)
    chromium.open(evaluated_runs[0] / name)
    chromium.run("new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))")
    assert chromium.run("document.documentElement.scrollWidth") <= 375


def test_the_first_screen_is_one_figure_and_one_table_of_eight_columns(page):
    assert page.run("document.querySelectorAll('.first figure').length") == 1
    assert (
        page.run("[...document.querySelectorAll('.first th')].map((each) => each.textContent)[7]")
        == "can it be trusted?"
    )
    assert (
        page.run("Math.max(...[...document.querySelectorAll('table')].map((each) => each.rows[0].cells.length))") == 8
    )


def test_no_two_labels_of_the_figure_overlap(page):
    boxes = page.run(
        "[...document.querySelectorAll('.first .point-name')].map((each) => each.getBoundingClientRect().toJSON())"
    )
    assert len(boxes) == 2
    (a, b) = boxes
    assert a["right"] <= b["left"] or b["right"] <= a["left"] or a["bottom"] <= b["top"] or b["bottom"] <= a["top"]
