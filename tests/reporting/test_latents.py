"""The page on which a reader moves latents."""

import json

import numpy as np
import pytest

from tti.data.sentences import TABLE, write
from tti.evaluation_folder import Array, Evaluation, Result
from tti.evaluation_folder import write as write_part

VALUES = {name: values[0] for name, values in TABLE.items()}
AGENTS = TABLE["agent"][:3]
OTHERS = [write({**VALUES, "agent": agent}) for agent in AGENTS]  # as the first latent moves
CODED, WRITTEN = write({**VALUES, "manner": "slowly"}), write(VALUES)
ABOUT = {"of": {}, "settings": {}, "cost": {}, "environment": {}}


def coded(run, written=True):
    texts = np.array([[OTHERS, [WRITTEN, "The <b>.", WRITTEN], [WRITTEN] * 3]])
    change = np.zeros((3, len(TABLE)))
    change[0, list(TABLE).index("agent")], change[1, list(TABLE).index("tense")] = 0.9, 0.5
    arrays = {
        "intervention/change": Array(change, ("latent", "factor")),
        "traversal/text": Array(texts, ("sentence", "latent", "step")),
        "traversal/original": Array(np.array([CODED]), ("sentence",)),
        "factor/name": Array(np.array(list(TABLE)), ("factor",)),
    } | ({"traversal/written": Array(np.array([WRITTEN]), ("sentence",))} if written else {})
    write_part(Evaluation(run), "disentanglement", Result({"active_units": 2.0}, arrays), ABOUT)


@pytest.fixture(scope="module")
def page(reported_once):
    def runs(written_run):
        coded(written_run("baseline", 1))
        coded(written_run("earlier", 1), written=False)

    return reported_once(runs)[0] / "report" / "latents.html"


@pytest.fixture
def data(page):
    line = next(line for line in page.read_text().splitlines() if line.startswith("Object.assign(tti, "))
    return json.loads(line.removeprefix("Object.assign(tti, ").removesuffix(");"))


def test_it_has_the_sentences_of_every_latent_that_changes_anything(data):
    texts = [text for text, _ in data["texts"]]
    (latent, other) = data["runs"][0]["latents"][::-1]
    assert (latent["number"], latent["factor"], latent["change"]) == (0, "agent", 0.9)
    assert [texts[number] for number in latent["texts"][0]] == OTHERS
    assert (other["number"], other["factor"]) == (1, "tense")
    assert len(texts) == len(set(texts))


def test_every_sentence_has_its_factors_and_what_is_no_sentence_has_none(data):
    values = dict(data["texts"])
    assert dict(zip(data["factors"], values[OTHERS[2]], strict=True)) == {**VALUES, "agent": AGENTS[2]}
    assert values["The <b>."] == []


def test_what_is_written_before_any_move_is_the_original_where_an_evaluation_lacks_it(data):
    texts = [text for text, _ in data["texts"]]
    assert [texts[run["written"][0]] for run in data["runs"]] == [WRITTEN, CODED]


def test_the_report_links_to_it_and_there_is_none_without_such_runs(page, written_run, reported, tmp_path):
    assert "report/latents.html" in (page.parent.parent / "report.html").read_text()
    written_run("baseline", 1)
    (tmp_path / "report").mkdir()
    (tmp_path / "report" / "latents.html").write_text("of an earlier report")
    reported()
    assert "latents.html" not in (tmp_path / "report.html").read_text()
    assert not (tmp_path / "report" / "latents.html").exists()


@pytest.mark.slow
def test_moving_a_latent_changes_the_sentence_and_marks_the_factor(chromium, page):
    chromium.size(375, 800)
    chromium.open(page)
    assert chromium.run("document.documentElement.scrollWidth") <= 375
    chromium.fill("#latent", "1")
    chromium.fill("#step", "2")
    assert chromium.run("document.querySelector('#now').textContent") == OTHERS[2]
    assert chromium.run("document.querySelector('#now mark').textContent") == AGENTS[2]
    assert chromium.run("document.querySelector('#count').textContent") == "1 changed"
    changed = "document.querySelector('#factors .changed').textContent"
    assert chromium.run(changed) == f"agent{AGENTS[0]}{AGENTS[2]}"
    chromium.click("#steps li:first-child button")
    assert chromium.run("document.querySelector('#count').textContent") == "0 changed"
    chromium.fill("#latent", "0")
    chromium.fill("#step", "1")
    assert "none of the corpus" in chromium.run("document.querySelector('#count').textContent")
    chromium.fill("#run", "1")
    assert chromium.run("document.querySelector('#written').textContent") == CODED
