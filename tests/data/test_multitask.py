"""Real tasks in one form, from small files and from the real ones."""

import gzip
import json
import socket

import pytest

from tti.data.grammar import StoryGrammar
from tti.data.multitask import MultiTask, items_of, split_of
from tti.data.tasks import TASKS

EVEN = dict.fromkeys(TASKS, 1)
SENTENCES = [(f"film number {i} is {'good' if i % 2 else 'bad'} enough", i % 2) for i in range(120)]


@pytest.fixture
def files(tmp_path):
    """A source of each task, 120 items in each."""
    paths = {task: tmp_path / name for task, name in zip(TASKS, ("a.tsv", "b.jsonl.gz", "c.json"), strict=True)}
    rows = "".join(f"{sentence} \t{label}\n" for sentence, label in SENTENCES)
    paths["sentiment"].write_text("sentence\tlabel\n" + rows)
    pairs = [
        {"sentence1": f"a man {i}", "sentence2": "he sleeps", "gold_label": ["entailment", "neutral", "-"][i % 3]}
        for i in range(120)
    ]
    paths["entailment"].write_bytes(gzip.compress("\n".join(map(json.dumps, pairs)).encode()))
    articles = [
        {"title": str(i), "paragraphs": [{"context": f"There are {i} apples.", "qas": [
            {"question": "How many?", "answers": [{"text": f"{i} apples"}, {"text": str(i)}]}]}]}
        for i in range(120)
    ]  # fmt: skip
    paths["question"].write_text(json.dumps({"data": articles}))
    return {task: str(path) for task, path in paths.items()}


@pytest.fixture
def corpus(files, tmp_path):
    def made(sources=None, weights=EVEN, **options):
        settings = {"train": 90, "validation": 9, "test": 9, "tokenizer": "bpe:300", "longest": 100} | options
        return MultiTask(sources or files, weights=weights, cache_dir=str(tmp_path / "cache"), **settings)

    return made


def test_items_are_text_question_and_answer_with_the_answer_in_the_loss(corpus):
    packed = corpus().open("train")
    tokenizer = packed.tokenizer()
    assert len(packed) == 90
    seen = set()
    for start, end in zip(packed.offsets[:-1], packed.offsets[1:] - 1, strict=True):
        answer, question = packed.extra("answer")[start:end], packed.extra("question")[start:end]
        first = int(answer.argmax())
        text = tokenizer.decode(packed.tokens[start:end].tolist())
        assert answer[first:].all()
        assert tokenizer.decode(packed.tokens[start : start + first + 1].tolist()).endswith("\nanswer:")
        assert question[first] == 1
        assert question[0] == 0
        task = TASKS[packed.extra("task")[start]]
        wanted = {"sentiment": {"bad": "negative", "good": "positive"}}.get(task)
        said = tokenizer.decode(packed.tokens[start + first + 1 : end].tolist()).strip()
        assert not wanted or said == wanted[text.split()[4]]
        seen.add((task, said))
    assert {task for task, _ in seen} == set(TASKS)
    assert ("entailment", "-") not in seen


def test_splits_share_no_key(corpus, files):
    for task, source in files.items():
        keys = {split: {item.key for item in items_of(task, source) if split_of(item.key) == split} for split in
                ("train", "validation", "test")}  # fmt: skip
        assert not keys["train"] & (keys["validation"] | keys["test"])
        assert len(keys["train"]) > 80 if task != "entailment" else True
    assert len(corpus().open("validation")) <= 9


def test_weights_share_the_items_out_and_a_short_task_is_repeated(corpus):
    packed = corpus(weights={"sentiment": 3, "question": 1, "entailment": 0}, train=200).open("train")
    tasks = packed.extra("task")[packed.offsets[:-1]]
    assert [int((tasks == i).sum()) for i in range(3)] == [150, 0, 50]


@pytest.mark.parametrize(("options", "message"), [
    ({"weights": {"sentiment": 0}}, "gives no task any items"),
    ({"sources": {"sentiment": "x.tsv"}}, "no source of the task entailment, question"),
    ({"longest": 3}, "the task sentiment has no train item of at most 3 tokens"),
])  # fmt: skip
def test_what_cannot_be_is_refused(corpus, options, message):
    with pytest.raises(ValueError, match=message):
        corpus(**options).open("train")


def test_a_tokenizer_without_the_answers_is_refused(corpus, tmp_path):
    path = tmp_path / "words.json"
    StoryGrammar().tokenizer().save(str(path))
    with pytest.raises(ValueError, match=r"cannot write the answer '(positive|negative)' of the task sentiment"):
        corpus(tokenizer=str(path)).open("train")


def test_a_missing_file_is_known_from_its_identity(corpus, files):
    with pytest.raises(ValueError, match=r"no such file: .*gone\.tsv .*, of data\.corpus\.sources\.sentiment"):
        corpus({**files, "sentiment": "./gone.tsv"}).identity("train")


def test_a_row_that_is_no_item_names_its_columns(files, tmp_path):
    path = tmp_path / "odd.jsonl"
    path.write_text('{"text": "hello"}\n')
    with pytest.raises(ValueError, match=r"row 1, is no item of the task sentiment .*its columns are text"):
        list(items_of("sentiment", str(path)))


def test_without_network_the_way_out_is_said(monkeypatch):
    def refuse(*_, **__):
        raise OSError("no network")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setattr("datasets.load_dataset", refuse)
    with pytest.raises(ValueError, match=r"set data\.corpus\.sources\.sentiment to a local .*data=grammar_tasks"):
        list(items_of("sentiment", "stanfordnlp/sst2@train"))


def test_the_real_files(real_data):
    there = {"sentiment": "sst2/train.tsv.gz", "entailment": "snli/train_100k.jsonl.gz"}
    there |= {"question": "squad/dev-v1.1.reconstructed.json.gz"}
    counts = dict.fromkeys(TASKS, 0)
    for task, name in there.items():
        for item in items_of(task, str(real_data / name)):
            assert item.text
            assert item.answer
            counts[task] += 1
    assert counts["sentiment"] == 67349
    assert counts["question"] == 10570
    assert 99000 < counts["entailment"] <= 100000
