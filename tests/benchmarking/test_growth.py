"""Cost against work: powers, the table, the figure, and that each kind of work can be measured."""

import json
import math
from dataclasses import replace

import pytest
from omegaconf import OmegaConf

from tti.benchmarking import growth_figure, parts, reports, scaling
from tti.benchmarking.clocks import cpu
from tti.benchmarking.growth import Panel, Point, power
from tti.benchmarking.growth_figure import _apart, _short, draw
from tti.benchmarking.scaling import AMOUNTS, Parts, Scaling, Sites, Steps

POINTS = (Point("a", 10, 2.0, 50.0), Point("a", 100, 20.0, 50.0), Point("b", 10, 3.0, math.nan))


@pytest.fixture
def here(monkeypatch):
    """Points are measured in this process."""
    monkeypatch.setattr(scaling, "in_a_process", lambda work, *args: work(*args))


@pytest.mark.parametrize("known", [0, 0.5, 1, 2])
def test_the_power_of_a_known_growth(known):
    assert power((3, 12), (5 * 3**known, 5 * 12**known)) == pytest.approx(known)


@pytest.mark.parametrize(("work", "cost"), [((3, 3), (1, 2)), ((3, 6), (0, 2)), ((3, 6), (math.nan, 2))])
def test_without_growth_of_work_or_with_a_cost_of_nothing_there_is_no_power(work, cost):
    assert math.isnan(power(work, cost))


def test_the_table_has_the_power_since_the_point_before():
    assert Panel("title", "tokens", "s", POINTS).section().rows == [
        ["`a`", "10", "2.00", "-", "50.0", "-"],
        ["`a`", "100", "20.0", "1.00", "50.0", "0.00"],
        ["`b`", "10", "3.00", "-", "-", "-"],
    ]


def test_every_kind_of_work_has_its_section_and_a_panel(tmp_path, setting, monkeypatch):
    drawn = []
    monkeypatch.setattr(scaling, "draw", lambda panels, path: drawn.append((len(panels), path)))
    kinds = {name: lambda *_, name=name: Panel(name, "tokens", "s", POINTS) for name in "ab"}
    sections = list(Scaling(str(tmp_path), kinds)(setting, cpu))
    assert [section.title for section in sections] == ["a", "Figure", "b", "Figure"]
    assert drawn == [(1, tmp_path / "scaling.png"), (2, tmp_path / "scaling.png")]
    assert "![](scaling.png)" in sections[-1].markdown()


def test_the_figure_has_two_axes_for_each_panel_and_says_what_a_line_is(tmp_path, monkeypatch):
    figures = []
    monkeypatch.setattr(growth_figure.plt, "close", figures.append)
    draw([Panel(title, "tokens", "s", POINTS) for title in "abcde"], tmp_path / "a.png")
    assert sum(axis.axison for axis in figures[0].axes) == 10
    upper, _ = figures[0].subfigs
    assert [text.get_text() for text in upper.legends[0].get_texts()] == ["a", "b", "proportional"]


def test_a_figure_where_memory_cannot_be_measured(tmp_path):
    draw(
        [Panel("a", "tokens", "s", (Point("a", 10, 2.0, math.nan), Point("a", 20, 3.0, math.nan)))], tmp_path / "a.png"
    )
    assert (tmp_path / "a.png").exists()


def test_labels_of_the_axis_are_short_and_apart():
    assert _apart([1, 2, 10, 11, 100]) == [1, 10, 100]
    assert [_short(each) for each in (3, 1234, 30_122_112)] == ["3", "1.23k", "30.1M"]


def test_steps_are_measured_by_ascending_work(setting, here):
    panel = Steps("t", "stories per step", [[]], 1, "linearly", [3, 1])(setting, cpu)
    assert [point.amount for point in panel.points] == [1, 3]
    assert all(point.seconds > 0 for point in panel.points)


def test_amounts_are_what_is_there(setting):
    loop = scaling.Ours(setting)
    found = {name: amount(loop, setting) for name, amount in AMOUNTS.items()}
    assert found["parameters"] == sum(each.numel() for each in loop.net.net.parameters())
    assert found["stories per step"] == 5
    lengths = [length for sample in setting.samples for length in sample.batch.stories.lengths]
    assert found["tokens per story"] == pytest.approx(sum(lengths) / len(lengths))


def test_penalties_are_measured_at_as_many_sites_as_there_should_be(setting, monkeypatch, here):
    monkeypatch.setattr(scaling, "regularizers", lambda: ["l1", "apart"])
    panel = Sites("t", "blocks.*.mlp_out", [2, 1], [], {"apart": []}, 1, "linearly")(setting, cpu)
    assert [(point.line, point.amount) for point in panel.points] == [("l1", 1), ("l1", 2)]


def test_parts_are_counted_in_tokens_or_neurons(setting, monkeypatch, here):
    cost = parts.Cost(tokens=1000, neurons=128, seconds=2.0, own=1.0, mib=7.0)
    monkeypatch.setattr(parts, "cost", lambda *_: replace(cost))
    for amount, expected in (("tokens", 1000), ("neurons", 128)):
        panel = Parts("t", amount, ["geometry"], [900], [[]], "validation", 100, "not")(setting, cpu)
        assert panel.points == (Point("geometry", expected, 2000.0, 7.0),)


def test_copies_of_a_run_are_variants_with_three_seeds(tmp_path):
    run = tmp_path / "one"
    (run / "checkpoints").mkdir(parents=True)
    (run / "config.yaml").write_text("experiment: demo\nname: x\nvariant: v\nseed: 4\n")
    (run / "summary.json").write_text(json.dumps({"metrics": {"val/loss": 3.0}}))
    (run / "metrics.jsonl").write_text("")
    copied = reports.copies(run, tmp_path / "many", 7)
    found = sorted(str(path.parent.relative_to(copied)) for path in copied.rglob("metrics.jsonl"))
    assert found == [
        *(f"baseline/seed-{seed}" for seed in range(3)), *(f"v1/seed-{seed}" for seed in range(3)), "v2/seed-0"
    ]  # fmt: skip
    assert not list(copied.rglob("checkpoints"))
    assert OmegaConf.load(copied / "v2/seed-0/config.yaml") == {
        "experiment": "many", "name": None, "variant": "v2", "seed": 0
    }  # fmt: skip
    losses = {json.loads(path.read_text())["metrics"]["val/loss"] for path in copied.rglob("summary.json")}
    assert len(losses) == 7


def test_a_command_that_fails_says_why():
    with pytest.raises(ValueError, match=r"python -m tti\.nothing a=1 failed:\n.*No module named tti\.nothing"):
        reports._run("nothing", "a=1")
