import json
import os
import signal
import subprocess
import sys

import numpy as np
import pytest
from tokenizers import Tokenizer, models

from tests.waiting import until
from tti.data import tokenizers
from tti.data.cache import Maker, cached
from tti.data.corpora import GrammarCorpus, TextCorpus

IDENTITY = {"source": "here", "bytes": 3}
STORIES = [[1, 2, 3], [4], [2, 2]]


def tokenizer_of(size):
    return Tokenizer(models.WordLevel({"<|endoftext|>": 0} | {f"w{i}": i for i in range(1, size)}))


def maker(stories=STORIES, size=6, extra=False):
    def encoded(story):
        tokens = np.array(story)
        return {"tokens": tokens, "pairs": np.stack([tokens * 10, tokens], axis=1)} if extra else {"tokens": tokens}

    return Maker("packing", tokenizer_of(size), [[encoded(story)] for story in stories])


def never():
    raise AssertionError("it is built already")


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "caches" / "stories"


@pytest.fixture
def built(folder):
    cached(folder, IDENTITY, maker)
    return folder


def test_stories_come_back_with_their_end_of_text(folder):
    packed = cached(folder, IDENTITY, maker)
    assert len(packed) == 3
    assert packed.tokens.dtype == np.uint16
    assert packed.tokens.tolist() == [1, 2, 3, 0, 4, 0, 2, 2, 0]
    assert packed.offsets.tolist() == [0, 4, 6, 9]
    assert packed.lengths.tolist() == [3, 1, 2]


def test_further_arrays_are_aligned_with_tokens_and_0_at_the_end_of_text(folder):
    packed = cached(folder, IDENTITY, lambda: maker(extra=True))
    pairs = packed.extra("pairs")
    assert pairs.shape == (9, 2)
    assert pairs[:, 1].tolist() == packed.tokens.tolist()
    assert pairs[:, 0].tolist() == [10 * token for token in packed.tokens.tolist()]
    with pytest.raises(ValueError, match="no array 'factors'; it has tokens, pairs, offsets"):
        packed.extra("factors")


def test_the_manifest_says_what_is_there(built):
    manifest = json.loads((built / "manifest.json").read_text())
    assert manifest["identity"] == IDENTITY
    assert (manifest["stories"], manifest["tokens"], manifest["vocab_size"]) == (3, 6, 6)
    assert manifest["arrays"]["tokens"]["bytes"] == (built / "tokens.bin").stat().st_size == 18
    assert sorted(path.name for path in built.iterdir()) == [
        "manifest.json",
        "offsets.bin",
        "tokenizer.json",
        "tokens.bin",
    ]


def test_it_is_built_once(built):
    packed = cached(built, IDENTITY, never)
    assert packed.tokens.tolist() == [1, 2, 3, 0, 4, 0, 2, 2, 0]
    assert packed.tokenizer().to_str() == tokenizer_of(6).to_str()


def test_a_cache_cannot_be_changed_by_its_readers(built):
    with pytest.raises(ValueError, match="read-only"):
        cached(built, IDENTITY, never).tokens[0] = 5


def truncate(folder):
    (folder / "tokens.bin").write_bytes((folder / "tokens.bin").read_bytes()[:-2])


def flip(name):
    def flipped(folder):
        content = bytearray((folder / name).read_bytes())
        content[len(content) // 2] ^= 1
        (folder / name).write_bytes(content)

    return flipped


def rewrite_manifest(text):
    return lambda folder: (folder / "manifest.json").write_bytes(text)


def edit_manifest(edit):
    def edited(folder):
        manifest = json.loads((folder / "manifest.json").read_text())
        edit(manifest)
        (folder / "manifest.json").write_text(json.dumps(manifest))

    return edited


DAMAGES = {
    "cut short": (truncate, r"damaged: .*tokens\.bin"),
    "a flipped bit": (flip("tokens.bin"), r"damaged: .*tokens\.bin"),
    "a flipped offset": (flip("offsets.bin"), r"damaged: .*offsets\.bin"),
    "another tokenizer": (flip("tokenizer.json"), r"damaged: .*tokenizer\.json"),
    "no tokens": (lambda folder: (folder / "tokens.bin").unlink(), r"damaged: .*tokens\.bin"),
    "no tokenizer": (lambda folder: (folder / "tokenizer.json").unlink(), r"damaged: .*tokenizer\.json"),
    "no manifest": (lambda folder: (folder / "manifest.json").unlink(), "no readable manifest.json"),
    "half a manifest": (rewrite_manifest(b'{"format": 1, "iden'), "no readable manifest.json"),
    "no JSON object": (rewrite_manifest(b"[1]"), "no readable manifest.json"),
    "no keys": (rewrite_manifest(b"{}"), "no readable manifest.json"),
    "no text": (rewrite_manifest(b"\xff\xfe\x00"), "no readable manifest.json"),
    "another size": (edit_manifest(lambda content: content.update(vocab_size=3)), r"damaged: .*manifest\.json"),
    "no arrays": (edit_manifest(lambda manifest: manifest.update(arrays={})), r"damaged: .*manifest\.json"),
    "no dtype": (
        edit_manifest(lambda manifest: manifest["arrays"]["tokens"].pop("dtype")),
        r"damaged: .*manifest\.json",
    ),
    "no hash": (edit_manifest(lambda manifest: manifest.pop("manifest_sha256")), r"damaged: .*manifest\.json"),
    "odd arrays": (rewrite_manifest(b'{"format": 1, "identity": {}, "arrays": 3}'), "no readable manifest.json"),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_damage_is_an_error_with_the_way_out_and_the_way_out_works(built, damage):
    do, message = DAMAGES[damage]
    do(built)
    with pytest.raises(ValueError, match=message) as error:
        cached(built, IDENTITY, never)
    assert f"Delete the folder {built}" in str(error.value)
    for path in built.iterdir():
        path.unlink()
    built.rmdir()
    assert len(cached(built, IDENTITY, maker)) == 3


def test_a_cache_of_something_else_is_an_error_that_says_of_what(built):
    with pytest.raises(ValueError, match="made from something else") as error:
        cached(built, {"source": "there"}, never)
    assert "'here'" in str(error.value)
    assert "'there'" in str(error.value)


def test_an_empty_corpus_is_an_error_and_leaves_nothing(folder):
    with pytest.raises(ValueError, match="the source holds no stories"):
        cached(folder, IDENTITY, lambda: maker(stories=[]))
    assert not folder.exists()


def test_a_vocabulary_beyond_16_bits_is_an_error_instead_of_other_tokens(folder):
    with pytest.raises(ValueError, match=r"ids up to 65,536, a cache holds 65,535 at most.*bpe:4096") as error:
        cached(folder, IDENTITY, lambda: maker(size=2**16 + 1))
    assert "packing" in str(error.value)
    assert not folder.exists()
    packed = cached(folder, IDENTITY, lambda: maker(stories=[[2**16 - 1]], size=2**16))
    assert packed.tokens.tolist() == [2**16 - 1, 0]


def test_an_error_in_the_middle_leaves_nothing_and_the_next_build_succeeds(folder):
    def broken():
        yield [{"tokens": np.array([1])}]
        raise RuntimeError("the disk is on fire")

    with pytest.raises(RuntimeError, match="on fire"):
        cached(folder, IDENTITY, lambda: Maker("packing", tokenizer_of(6), broken()))
    assert not folder.exists()
    assert [path.name for path in folder.parent.iterdir()] in ([], ["stories.lock"])
    assert len(cached(folder, IDENTITY, maker)) == 3


SLOW_BUILD = """
import sys, time
from pathlib import Path
import numpy as np
from tokenizers import Tokenizer, models
from tti.data import tokenizers
from tti.data.cache import Maker, cached

folder, log, seconds = Path(sys.argv[1]), Path(sys.argv[2]), float(sys.argv[3])

def make():
    with log.open("a") as file:
        file.write("built\\n")
    def portions():
        for token in (1, 2):
            yield [{"tokens": np.array([token])}]
            time.sleep(seconds)
    return Maker("packing", Tokenizer(models.WordLevel({"<|endoftext|>": 0, "a": 1, "b": 2})), portions())

print(cached(folder, {}, make).tokens.tolist())
"""


def start(folder, log, seconds):
    command = [sys.executable, "-c", SLOW_BUILD, str(folder), str(log), str(seconds)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)


def test_two_processes_at_once_build_once(folder, tmp_path):
    log = tmp_path / "log"
    running = [start(folder, log, 0.3) for _ in range(2)]
    answers = [process.communicate(timeout=60)[0].strip() for process in running]
    assert answers == ["[1, 0, 2, 0]"] * 2
    assert log.read_text() == "built\n"


def test_a_kill_in_the_middle_leaves_no_cache_and_the_next_build_succeeds(folder, tmp_path):
    running = start(folder, tmp_path / "log", 60)
    until((folder.with_name("stories.partial") / "offsets.bin").exists)
    running.send_signal(signal.SIGKILL)
    running.wait()
    assert not folder.exists()
    assert len(cached(folder, IDENTITY, maker)) == 3
    assert not folder.with_name("stories.partial").exists()


TEXT = "Tim had a red ball. He ran to the park.<|endoftext|>Él comió una piña 🍍.<|endoftext|>The end."


@pytest.fixture
def text_corpus(tmp_path):
    (tmp_path / "train.txt").write_text(TEXT, encoding="utf-8")
    (tmp_path / "valid.txt").write_text("Tim ran.<|endoftext|>", encoding="utf-8")

    def corpus(tokenizer="bpe:280"):
        train, valid = str(tmp_path / "train.txt"), str(tmp_path / "valid.txt")
        return TextCorpus(train, valid, None, tokenizer, str(tmp_path / "caches"))

    return corpus


def check_stories(packed, texts):
    tokenizer = packed.tokenizer()
    assert len(packed) == len(texts)
    for i, text in enumerate(texts):
        story = packed.tokens[packed.offsets[i] : packed.offsets[i + 1]].tolist()
        assert story == [*tokenizer.encode(text).ids, tokenizer.token_to_id("<|endoftext|>")]
        assert tokenizer.decode(story, skip_special_tokens=True) == text


def test_a_text_corpus_packs_what_each_story_encodes_to(text_corpus):
    packed = text_corpus().open("train")
    check_stories(packed, TEXT.split("<|endoftext|>"))


def test_every_split_has_the_tokenizer_trained_on_train(text_corpus):
    corpus = text_corpus()
    assert corpus.splits == ("train", "validation")
    assert corpus.open("validation").manifest["tokenizer_sha256"] == corpus.open("train").manifest["tokenizer_sha256"]


def test_opening_again_builds_nothing(text_corpus, monkeypatch):
    first = text_corpus().open("train")
    monkeypatch.setattr(TextCorpus, "make", lambda self, split: never())
    assert text_corpus().open("train").folder == first.folder


def test_changed_texts_and_other_tokenizers_get_caches_of_their_own(text_corpus, tmp_path):
    folders = {text_corpus().open("train").folder, text_corpus("bpe:290").open("train").folder}
    (tmp_path / "train.txt").write_text(TEXT + " Really.", encoding="utf-8")
    packed = text_corpus().open("train")
    assert len(folders | {packed.folder}) == 3
    check_stories(packed, (TEXT + " Really.").split("<|endoftext|>"))


def test_a_cache_belongs_to_a_content_wherever_it_lies(text_corpus, tmp_path, monkeypatch):
    first = text_corpus("bpe:270").open("train")
    other = tmp_path / "other"
    other.mkdir()
    monkeypatch.chdir(other)
    (other / "train.txt").write_text(TEXT.replace("Tim", "Sue"), encoding="utf-8")
    here, there = (TextCorpus("train.txt", "train.txt", None, "bpe:270", str(tmp_path / "caches")) for _ in range(2))
    check_stories(here.open("train"), TEXT.replace("Tim", "Sue").split("<|endoftext|>"))
    monkeypatch.chdir(tmp_path)
    assert there.open("train").folder == first.folder


def test_a_text_that_changed_under_the_same_name_size_and_time_is_another(text_corpus, tmp_path):
    path, old = tmp_path / "train.txt", text_corpus().open("train").folder
    status = path.stat()
    path.write_text(TEXT.replace("red", "tan"), encoding="utf-8")
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert path.stat().st_size == status.st_size
    packed = text_corpus().open("train")
    assert packed.folder != old
    check_stories(packed, TEXT.replace("red", "tan").split("<|endoftext|>"))


def test_another_column_is_another_cache(tmp_path):
    rows = [{"text": "One.", "story": "Two."}, {"text": "Three.", "story": "Four."}]
    path = tmp_path / "a.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))

    def packed(column):
        return TextCorpus(str(path), str(path), None, "bpe:257", str(tmp_path / "caches"), column).open("train")

    check_stories(packed("text"), ["One.", "Three."])
    check_stories(packed("story"), ["Two.", "Four."])


def test_a_damaged_trained_tokenizer_is_an_error_that_names_it(text_corpus, tmp_path):
    text_corpus().open("train")
    (trained,) = (tmp_path / "caches").glob("bpe-280-*.json")
    trained.write_text(trained.read_text()[:100])
    (tmp_path / "valid.txt").write_text("Other.<|endoftext|>", encoding="utf-8")
    with pytest.raises(ValueError, match=rf"{trained.name} cannot be read as a tokenizer"):
        text_corpus().open("validation")


def test_what_a_tokenizer_alters_is_said(tmp_path, capsys):
    from tokenizers import normalizers

    (tmp_path / "a.txt").write_text("Tim had a Red ball.<|endoftext|>", encoding="utf-8")
    trained = tokenizers.train_bpe("bpe:280", iter([TEXT]))
    for name, normalizer in (("same", None), ("lower", normalizers.Lowercase())):
        trained.normalizer = normalizer
        (tmp_path / name).mkdir()
        trained.save(str(tmp_path / name / "tokenizer.json"))
        source = str(tmp_path / "a.txt")
        TextCorpus(source, source, None, str(tmp_path / name), str(tmp_path / "caches")).open("train")
        said = " ".join(capsys.readouterr().err.split())
        assert ("alters texts: 'Tim had a Red ball.' becomes 'tim had a red ball.'" in said) == (name == "lower")


def test_a_split_that_is_not_there_is_an_error_that_lists_those_that_are(text_corpus):
    with pytest.raises(ValueError, match="no split 'test'; it has train, validation"):
        text_corpus().open("test")


def test_real_stories_in_gpt2(real_data, tmp_path):
    valid = real_data / "tinystories" / "valid.txt.gz"
    from tti.data import sources

    some = list(sources.stories(str(valid)))[:40]
    (tmp_path / "some.txt").write_text("\n<|endoftext|>\n".join(some), encoding="utf-8")
    source = str(tmp_path / "some.txt")
    corpus = TextCorpus(source, source, None, str(real_data / "gpt2"), str(tmp_path / "caches"))
    check_stories(corpus.open("train"), some)


def test_a_grammar_corpus_knows_the_factors_of_every_token(tmp_path):
    corpus = GrammarCorpus(train=5, validation=3, test=2, seed=0, cache_dir=str(tmp_path))
    packed = corpus.open("train")
    assert len(packed) == 5
    factors = packed.extra("factors")
    assert factors.shape == (len(packed.tokens), len(corpus.grammar.factors))
    story = corpus.grammar.story(1, 0, training=True)
    span = slice(packed.offsets[1], packed.offsets[2] - 1)
    assert np.array_equal(packed.tokens[span], story.tokens)
    assert np.array_equal(factors[span], story.factors)
    assert (factors[packed.offsets[1:] - 1] == 0).all()


def test_a_cache_of_another_edition_of_the_grammar_is_refused_by_name(tmp_path):
    corpus = GrammarCorpus(train=3, validation=2, test=2, seed=0, cache_dir=str(tmp_path))
    corpus.open("train")
    path = corpus.folder("train") / "manifest.json"
    manifest = json.loads(path.read_text())
    assert manifest["identity"].pop("edition") == 2
    path.write_text(json.dumps(manifest))
    with pytest.raises(ValueError, match=r"made from something else:(?s:.*)wanted: .*'edition': 2"):
        corpus.open("train")


def test_splits_and_seeds_of_the_grammar_share_no_story(tmp_path):
    seen = set()
    for seed in (0, 1):
        corpus = GrammarCorpus(train=20, validation=20, test=20, seed=seed, cache_dir=str(tmp_path))
        for split in corpus.splits:
            packed = corpus.open(split)
            seen |= {packed.tokens[a:b].tobytes() for a, b in zip(packed.offsets, packed.offsets[1:], strict=False)}
    assert len(seen) == 120
