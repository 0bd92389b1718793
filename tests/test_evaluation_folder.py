"""The evaluation folder: reading returns what was written, and reports everything wrong with it."""

import json
import math

import numpy as np
import pytest

from tti.evaluation_folder import RANDOM_INIT, AbsentArraysError, Array, Evaluation, Result, evaluations, write

ABOUT = {"of": {"step": 3}, "settings": {"k": 2}, "cost": {"seconds": 1.0}, "environment": {"torch": "2"}}
SITE = "blocks.0.mlp.post"


@pytest.fixture
def evaluation(tmp_path):
    evaluation = Evaluation(tmp_path)
    write(evaluation, "geometry", a_result(), ABOUT)
    return evaluation


def a_result():
    arrays = {
        f"{SITE}/neuron/mean": Array(np.arange(3, dtype=np.float32), ("width",)),
        f"{SITE}/cosine": Array(np.eye(3, dtype=np.float16), ("width", "width")),
    }
    return Result({"loss": 1.5, "undefined": math.nan, "endless": np.float64("inf")}, arrays, {"loss": "in nats"})


def test_what_is_written_is_read(evaluation):
    part = evaluation.part("geometry")
    assert part.metrics["loss"] == 1.5
    assert math.isnan(part.metrics["undefined"])
    assert math.isnan(part.metrics["endless"])
    assert (part.of, part.settings, part.notes) == ({"step": 3}, {"k": 2}, {"loss": "in nats"})
    assert list(part.arrays) == [f"{SITE}/neuron/mean", f"{SITE}/cosine"]
    assert (part.arrays[f"{SITE}/cosine"] == np.eye(3)).all()
    assert part.arrays[f"{SITE}/cosine"].dtype == np.float16
    part.arrays.verify()


def test_json_is_json_without_nan(evaluation):
    text = (evaluation.folder / "geometry.json").read_text()
    assert json.loads(text, parse_constant=pytest.fail)["metrics"]["undefined"] is None


def test_metrics_and_neurons_of_all_parts_are_one(evaluation):
    other = Result({"loss": 2.0}, {f"{SITE}/neuron/max": Array(np.ones(3, np.float32), ("width",))})
    write(evaluation, "utilisation", other, ABOUT)
    metrics = evaluation.metrics()
    assert (metrics["geometry/loss"], metrics["utilisation/loss"]) == (1.5, 2.0)
    assert evaluation.sites() == (SITE,)
    assert sorted(evaluation.neurons(SITE)) == ["max", "mean"]


def test_every_subject_and_split_is_found(evaluation):
    write(Evaluation(evaluation.run, "test", RANDOM_INIT), "geometry", a_result(), ABOUT)
    assert [(each.split, each.subject) for each in evaluations(evaluation.run)] == [
        ("test", "random_init"),
        ("validation", "trained"),
    ]


def test_a_part_that_is_not_there_names_those_that_are(evaluation):
    with pytest.raises(ValueError, match=r"no evaluation 'contexts'.*it has: geometry.*parts=\[contexts\]"):
        evaluation.part("contexts")


def test_another_schema_version_is_refused(evaluation):
    path = evaluation.folder / "geometry.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"schema": 2}))
    with pytest.raises(ValueError, match="schema version 2; this version of tti reads 1"):
        evaluation.metrics()


@pytest.mark.parametrize("text", ["", "[1, 2]", '{"schema": 1', "null"])
def test_a_damaged_json_is_named(evaluation, text):
    (evaluation.folder / "geometry.json").write_text(text)
    with pytest.raises(ValueError, match=r"geometry\.json is damaged"):
        evaluation.part("geometry")


def test_a_truncated_array_file_is_named_and_leaves_the_numbers(evaluation):
    path = evaluation.folder / "geometry.npz"
    path.write_bytes(path.read_bytes()[:-20])
    part = evaluation.part("geometry")
    assert part.metrics["loss"] == 1.5
    with pytest.raises(ValueError, match=r"geometry\.npz is damaged \(.* bytes, .* were written"):
        part.arrays[f"{SITE}/cosine"]
    path.unlink()
    with pytest.raises(AbsentArraysError, match=r"geometry\.npz is missing: .* Evaluate again"):
        part.arrays[f"{SITE}/cosine"]


def test_changed_arrays_are_found_by_their_hash(evaluation):
    path = evaluation.folder / "geometry.npz"
    data = bytearray(path.read_bytes())
    data[60] ^= 255
    path.write_bytes(bytes(data))
    with pytest.raises(ValueError, match="its hash differs"):
        evaluation.part("geometry").arrays.verify()


def test_an_unknown_array_is_a_key_error(evaluation):
    with pytest.raises(KeyError, match="has no array 'x'"):
        evaluation.part("geometry").arrays["x"]


def test_a_part_that_fails_while_it_is_written_is_not_there(evaluation, monkeypatch):
    def broken(*_, **__):
        raise OSError("disk full")

    monkeypatch.setattr(np, "savez_compressed", broken)
    with pytest.raises(OSError, match="disk full"):
        write(evaluation, "geometry", a_result(), ABOUT)
    assert evaluation.parts() == ()
