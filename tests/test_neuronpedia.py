"""Activation records in Neuronpedia's format, from contexts with known tokens and activations."""

import gzip
import json
from dataclasses import dataclass, field
from datetime import datetime

import numpy as np
import pytest
from omegaconf import OmegaConf

from tti.data.grammar import StoryGrammar
from tti.evaluation_folder import Array, Evaluation, Result
from tti.evaluation_folder import write as write_part
from tti.neuronpedia import source_of, write

SITE, NAN = "blocks.1.mlp.post", np.nan


@dataclass
class Activation:
    """The fields of Neuronpedia's own class (neuronpedia-utils, db_models/activation.py), in its order."""

    id: str
    tokens: list[str]
    index: str
    layer: str
    modelId: str  # noqa: N815
    maxValue: float  # noqa: N815
    maxValueTokenIndex: int  # noqa: N815
    minValue: float  # noqa: N815
    values: list[float]
    creatorId: str  # noqa: N815
    dataSource: str | None = None  # noqa: N815
    dataIndex: str | None = None  # noqa: N815
    dfaValues: list[float] = field(default_factory=list)  # noqa: N815
    dfaTargetIndex: int | None = None  # noqa: N815
    dfaMaxValue: float | None = None  # noqa: N815
    createdAt: datetime = field(default_factory=datetime.now)  # noqa: N815
    lossValues: list[float] = field(default_factory=list)  # noqa: N815
    logitContributions: str | None = None  # noqa: N815
    binMin: float | None = None  # noqa: N815
    binMax: float | None = None  # noqa: N815
    binContains: float | None = None  # noqa: N815
    qualifyingTokenIndex: int | None = None  # noqa: N815


@pytest.fixture
def run(tmp_path):
    """A run whose neuron 0 has two contexts, neuron 1 none; the window is 1 token before and 2 after."""
    folder = tmp_path / "run"
    folder.mkdir()
    (folder / "config.yaml").write_text("{}")
    StoryGrammar().tokenizer().save(str(folder / "tokenizer.json"))
    shape = {"top_place": (2, 2), "top_activation": (2, 2), "top_window": (2, 2, 4)}
    place = np.array([[3, 0], [-1, -1]], np.int32)
    activation = np.array([[2.001, 1.5], [NAN, NAN]], np.float32)
    window = np.full(shape["top_window"], NAN, np.float16)
    window[0, 0] = [0.5, 2.0, 0.25, NAN]  # the story ends after the next token
    window[0, 1] = [NAN, 1.5, 0.0, 1.75]  # the story begins with this token
    arrays = {
        "tokens": Array(np.array([5, 6, 7, 8, 9, 0], np.uint16), ("packed",)),
        f"{SITE}/top_place": Array(place, ("width", "rank")),
        f"{SITE}/top_activation": Array(activation, ("width", "rank")),
        f"{SITE}/top_window": Array(window, ("width", "rank", "window")),
    }
    result = Result({"window_before": 1, "window_after": 2, "k": 2}, arrays)
    write_part(Evaluation(folder), "contexts", result, {"of": {}, "settings": {}})
    return folder


def configuration(run, **options):
    shared = {"run": str(run), "to": str(run / "np"), "split": "validation", "model_id": "m", "creator": "c"}
    return OmegaConf.create({**shared, "sites": "blocks.*.mlp.post", **options})


def written(run):
    path = write(configuration(run)) / "m" / "1-mlp-post" / "activations" / "batch-0.jsonl.gz"
    with gzip.open(path, "rt", encoding="utf-8") as file:
        return [json.loads(line) for line in file]


def test_records_have_the_fields_and_the_numbers(run):
    first, second = (Activation(**record) for record in written(run))
    decode = StoryGrammar().tokenizer().decode
    assert (first.modelId, first.layer, first.index, first.creatorId) == ("m", "1-mlp-post", "0", "c")
    assert first.tokens == [decode([id_]) for id_ in (7, 8, 9)]
    assert first.values == pytest.approx([0.5, 2.001, 0.25])
    assert (first.maxValueTokenIndex, first.qualifyingTokenIndex, first.minValue) == (1, 1, 0.25)
    assert second.tokens == [decode([id_]) for id_ in (5, 6, 7)]
    assert (second.maxValue, second.maxValueTokenIndex, second.qualifyingTokenIndex) == (1.75, 2, 0)
    assert len({first.id, second.id}) == 2


def test_neuronpedias_own_package_reads_them(run):
    own = pytest.importorskip("neuronpedia.np_activation", reason="the extra tools")
    for record in written(run):
        bins = dict.fromkeys(("binMin", "binMax", "binContains"))
        read = own.Activation.from_np_db_json({"source": record["layer"], **bins, **record})
        assert (read.index, read.tokens, read.values) == (0, record["tokens"], record["values"])


def test_what_is_missing_is_said(run, tmp_path):
    with pytest.raises(ValueError, match=r"no site of this model matches 'nope'; it has: blocks\.\*\.mlp\.post"):
        write(configuration(run, sites="nope"))
    with pytest.raises(ValueError, match=r"has no evaluation 'contexts' of trained on test"):
        write(configuration(run, split="test"))
    with pytest.raises(ValueError, match="holds no run"):
        write(configuration(tmp_path / "nope"))
    write(configuration(run))
    with pytest.raises(ValueError, match="exists already"):
        write(configuration(run))


def test_nothing_is_left_of_what_fails(run, monkeypatch):
    monkeypatch.setattr("tti.neuronpedia.records", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
    before = sorted(run.rglob("*"))
    with pytest.raises(KeyboardInterrupt):
        write(configuration(run))
    assert sorted(run.rglob("*")) == before


def test_names_of_sources():
    assert source_of("blocks.3.mlp_out") == "3-mlp-out"
    assert source_of("embed") == "embed"
