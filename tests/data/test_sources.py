import gzip
import json

import pyarrow
import pyarrow.parquet
import pytest

from tti.data import sources

STORIES = ["Once there was a cat.\nIt slept.", "Tim ran.", "Él comió una piña 🍍."]


@pytest.fixture(autouse=True)
def offline(monkeypatch):
    """Disable network access, so that no test waits for it."""
    import datasets
    import huggingface_hub

    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)


def as_text(stories):
    return "".join(f"{story}\n<|endoftext|>\n" for story in stories)


def as_rows(stories):
    return "".join(json.dumps({"id": 1, "text": story}) + "\n" for story in stories)


def write_parquet(path, stories):
    pyarrow.parquet.write_table(pyarrow.table({"text": stories}), path)


WRITERS = {
    "a.txt": lambda path, stories: path.write_text(as_text(stories), encoding="utf-8"),
    "a.txt.gz": lambda path, stories: path.write_bytes(gzip.compress(as_text(stories).encode())),
    "a.jsonl": lambda path, stories: path.write_text(as_rows(stories), encoding="utf-8"),
    "a.jsonl.gz": lambda path, stories: path.write_bytes(gzip.compress(as_rows(stories).encode())),
    "a.parquet": write_parquet,
}


@pytest.mark.parametrize("name", WRITERS)
def test_every_format_gives_the_stories_in_order_stripped_without_empty_ones(tmp_path, name):
    WRITERS[name](tmp_path / name, [STORIES[0], "", f"  {STORIES[1]}\n", " \n ", STORIES[2]])
    assert list(sources.stories(str(tmp_path / name))) == STORIES


def test_the_last_story_needs_no_end_of_text(tmp_path):
    (tmp_path / "a.txt").write_text("One.\n<|endoftext|>\nTwo,\nstill two.", encoding="utf-8")
    assert list(sources.stories(str(tmp_path / "a.txt"))) == ["One.", "Two,\nstill two."]


def test_the_end_of_text_may_stand_in_a_line(tmp_path):
    (tmp_path / "a.txt").write_text("One.<|endoftext|>Two.<|endoftext|><|endoftext|>Three.", encoding="utf-8")
    assert list(sources.stories(str(tmp_path / "a.txt"))) == ["One.", "Two.", "Three."]


@pytest.mark.parametrize("stories", ["One.\n\nTwo.\n", "One.\nTwo.\n", "", "\n"])
def test_a_text_without_a_single_end_of_text_is_an_error(tmp_path, stories):
    (tmp_path / "a.txt").write_text(stories)
    with pytest.raises(ValueError, match=r"a\.txt has no <\|endoftext\|>, which must end each story"):
        list(sources.stories(str(tmp_path / "a.txt")))


@pytest.mark.parametrize("name", ["a.txt", "a.jsonl", "a.txt.gz"])
def test_a_byte_order_mark_is_no_part_of_a_story(tmp_path, name):
    text = "\ufeff" + (as_rows(STORIES) if "jsonl" in name else as_text(STORIES))
    (tmp_path / name).write_bytes(gzip.compress(text.encode()) if name.endswith(".gz") else text.encode())
    assert list(sources.stories(str(tmp_path / name))) == STORIES


def test_files_that_were_joined_with_their_byte_order_marks_are_read_without_them(tmp_path):
    (tmp_path / "a.txt").write_text("\ufeffOne.<|endoftext|>\n\ufeffTwo.<|endoftext|>", encoding="utf-8")
    assert list(sources.stories(str(tmp_path / "a.txt"))) == ["One.", "Two."]


@pytest.mark.parametrize(
    "content", ["\N{LEFT DOUBLE QUOTATION MARK}Hi".encode("cp1252"), "One.<|endoftext|>".encode("utf-16")]
)
def test_another_encoding_is_called_that(tmp_path, content):
    (tmp_path / "a.txt").write_bytes(content)
    with pytest.raises(ValueError, match=r"cannot read .*a\.txt: it is not UTF-8 .*iconv"):
        list(sources.stories(str(tmp_path / "a.txt")))


SHARDS = {"train-0.txt": ["One."], "train-1.txt": ["Two.", "Three."], "valid.txt": ["Four."]}


@pytest.fixture
def shards(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "data" / "stories"  # looks like a name on the Hub
    folder.mkdir(parents=True)
    for name, stories in SHARDS.items():
        (folder / name).write_text(as_text(stories))
    (folder / "info.json").write_text("{}")
    (folder / ".cache").mkdir()
    (folder / ".cache" / "train-9.txt").write_text(as_text(["Never."]))
    return folder


@pytest.mark.parametrize(
    "source",
    [
        ["data/stories/train-0.txt", "data/stories/train-1.txt"],
        "data/stories/train-*.txt",
        "data/stories@train",
        ["data/stories/train-0.txt", "data/stories/*-1.txt"],
    ],
)
def test_several_files_are_read_in_order(shards, source):
    assert list(sources.stories(source)) == ["One.", "Two.", "Three."]
    assert sources.count(source) == 3
    assert len(sources.fingerprint(source)) == 2


def test_a_folder_with_files_of_several_splits_must_say_which(shards):
    with pytest.raises(ValueError, match=r"several splits: choose one, data/stories@train or data/stories@validation"):
        list(sources.stories("data/stories"))
    assert list(sources.stories("data/stories@validation")) == ["Four."]
    with pytest.raises(ValueError, match=r"no file in data/stories has a name with test"):
        list(sources.stories("data/stories@test"))


def test_the_splits_of_a_folder_may_be_folders(shards):
    for split in ("train", "validation"):
        (shards / "parts" / split).mkdir(parents=True)
        (shards / "parts" / split / "0000.txt").write_text(as_text([split]))
    assert list(sources.stories(f"{shards}/parts@validation")) == ["validation"]


def test_a_folder_of_one_split_is_all_its_files(shards):
    (shards / "valid.txt").unlink()
    assert (
        list(sources.stories("data/stories")) == list(sources.stories("./data/stories/")) == ["One.", "Two.", "Three."]
    )


def test_a_folder_that_is_there_is_never_looked_for_on_the_hub(shards):
    for path in shards.glob("[a-z]*.txt"):
        path.unlink()
    with pytest.raises(
        ValueError, match=r"data/stories holds no file to read; supported are \.jsonl, \.parquet, \.txt"
    ):
        list(sources.stories("data/stories"))
    (shards / "a.txt").touch()
    (shards / "b.jsonl").touch()
    with pytest.raises(ValueError, match=r"several kinds \(\.jsonl, \.txt\): give a glob"):
        list(sources.stories("data/stories"))


@pytest.mark.parametrize("source", ["data/stories/no-*.txt", "data/no-*", ["data/stories/train-0.txt", "no.txt"]])
def test_what_matches_nothing_is_a_missing_file(shards, source):
    with pytest.raises(ValueError, match=r"no such file: .*no"):
        list(sources.stories(source))


def test_an_empty_list_is_an_error():
    with pytest.raises(ValueError, match="an empty list names no corpus"):
        sources.fingerprint([])


@pytest.mark.parametrize("name", ["train (1).txt", "a=b.txt", "a[1].jsonl", "what?.txt", "été.txt", "a#b.parquet"])
def test_names_are_taken_as_they_stand(tmp_path, name):
    as_kind = "a" + name[name.rindex(".") :]
    WRITERS[as_kind](tmp_path / name, STORIES)
    assert list(sources.stories(str(tmp_path / name))) == STORIES


def test_the_home_is_known(shards, monkeypatch):
    monkeypatch.setenv("HOME", str(shards))
    assert list(sources.stories("~/train-0.txt")) == list(sources.stories("~/*-0.txt")) == ["One."]


def test_texts_may_stand_in_another_column(tmp_path):
    (tmp_path / "a.jsonl").write_text('{"story": "One.", "id": 3}\n')
    assert list(sources.stories(str(tmp_path / "a.jsonl"), "story")) == ["One."]


@pytest.mark.parametrize("value", ["5", "[1]", "true", '{"a": "b"}'])
def test_what_is_no_text_is_an_error_that_names_file_and_row(tmp_path, value):
    (tmp_path / "a.jsonl").write_text(f'{{"text": {value}}}\n')
    with pytest.raises(ValueError, match=r"a\.jsonl: column 'text' of row 1 holds .*, which is not text"):
        list(sources.stories(str(tmp_path / "a.jsonl")))


def test_rows_without_text_in_them_are_dropped(tmp_path):
    (tmp_path / "a.jsonl").write_text('{"text": "One."}\n{"text": null}\n{"text": "Two."}\n')
    assert list(sources.stories(str(tmp_path / "a.jsonl"))) == ["One.", "Two."]


@pytest.mark.parametrize("name", ["missing.txt", "folder/missing.parquet", "a/b/c", "missing.jsonl.gz", "alone"])
def test_a_missing_file_is_named(name):
    with pytest.raises(ValueError, match=rf"no such file: {name} \(from folder /"):
        list(sources.stories(name))


def test_a_format_that_is_not_known_is_an_error_that_lists_those_that_are(tmp_path):
    (tmp_path / "a.csv").touch()
    with pytest.raises(ValueError, match=r"a\.csv: its name must end in one of \.json, \.jsonl, \.parquet, \.txt"):
        list(sources.stories(str(tmp_path / "a.csv")))


def test_a_file_without_a_text_column_is_an_error_that_lists_its_columns(tmp_path):
    (tmp_path / "a.jsonl").write_text('{"story": "One.", "id": 3}\n')
    with pytest.raises(ValueError, match=r"a\.jsonl has no column 'text'; it has story, id"):
        list(sources.stories(str(tmp_path / "a.jsonl")))


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.txt", b"caf\xe9"),
        ("a.txt.gz", b"no gzip"),
        ("b.txt.gz", gzip.compress(b"cut short " * 9999)[:-20]),
        ("a.parquet", b"no parquet"),
        ("a.jsonl", b'{"text": "One."\n'),
        ("b.jsonl", b""),
    ],
)
def test_a_damaged_file_is_an_error_that_names_it(tmp_path, name, content):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ValueError, match=rf"cannot read .*{name}"):
        list(sources.stories(str(tmp_path / name)))


def test_an_unreachable_hub_is_an_error_that_names_alternatives():
    with pytest.raises(ValueError, match=r"cannot load 'nobody/nothing@train' from the Hugging Face Hub") as error:
        list(sources.stories("nobody/nothing@train"))
    assert "local .txt" in str(error.value)
    assert "data=grammar" in str(error.value)


def test_a_hub_source_is_loaded_by_name_and_split(monkeypatch):
    import datasets

    asked = []

    def load_dataset(name, split):
        asked.append((name, split))
        return [{"text": "One."}, {"text": ""}]

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    assert list(sources.stories("owner/name@validation")) == ["One."]
    assert list(sources.stories("owner/name")) == ["One."]
    assert asked == [("owner/name", "validation"), ("owner/name", "train")]


def test_a_changed_file_has_another_fingerprint(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("One.")
    before = sources.fingerprint(str(path))
    assert sources.fingerprint(str(path)) == before
    path.write_text("Two and more.")
    assert sources.fingerprint(str(path)) != before
    (tmp_path / "copy.txt").write_text("Two and more.")
    assert sources.fingerprint(str(path)) == sources.fingerprint(str(tmp_path / "copy.txt"))
    assert sources.fingerprint("owner/name@train") != sources.fingerprint("owner/name@validation")


def test_real_stories_are_whole(real_data):
    stories = list(sources.stories(str(real_data / "tinystories" / "valid.txt.gz")))
    assert len(stories) == 1056
    assert next(sources.stories(str(real_data / "tinystories" / "train.txt.gz"))).startswith(
        "One day, a little boy named Tim"
    )


def test_stories_of_a_text_are_counted_beforehand_and_of_others_not(tmp_path):
    text = tmp_path / "a.txt.gz"
    text.write_bytes(gzip.compress(b"One.\n<|endoftext|>\nTwo\nlines.\n<|endoftext|>\n"))
    assert sources.count(str(text)) == 2
    rows = tmp_path / "b.jsonl"
    rows.write_text('{"text": "One."}\n')
    assert sources.count(str(rows)) is None
