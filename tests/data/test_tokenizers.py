import json

import pytest
from tokenizers import AddedToken, processors

from tti.data import tokenizers

TEXTS = ["Once upon a time.", "Él comió una piña 🍍.", "tabs\tand\nlines  and   spaces", "日本語"]


@pytest.fixture(scope="module")
def bpe():
    return tokenizers.train_bpe("bpe:300", iter(TEXTS * 3))


@pytest.mark.parametrize("spec", ["bpe:", "bpe:256", "bpe:65537", "bpe:-300", "bpe:4k", "bpe:1e3"])
def test_a_size_out_of_range_is_an_error_with_an_example(spec):
    with pytest.raises(ValueError, match="from 257 to 65536, such as bpe:4096"):
        tokenizers.train_bpe(spec, iter(TEXTS))


def test_bpe_has_the_size_asked_for_ends_stories_and_decodes_what_it_encodes(bpe):
    assert bpe.get_vocab_size() == 300
    assert bpe.id_to_token(tokenizers.end_of_text(bpe)) == "<|endoftext|>"
    for text in [*TEXTS, "characters never seen: ß Ω"]:
        assert bpe.decode(bpe.encode(text).ids) == text
    assert tokenizers.end_of_text(bpe) not in bpe.encode("any text").ids


def test_bpe_is_the_same_every_time(bpe):
    assert tokenizers.fingerprint(tokenizers.train_bpe("bpe:300", iter(TEXTS * 3))) == tokenizers.fingerprint(bpe)


def test_a_tokenizer_survives_its_file(bpe, tmp_path):
    bpe.save(str(tmp_path / "tokenizer.json"))
    assert tokenizers.fingerprint(tokenizers.read(tmp_path / "tokenizer.json")) == tokenizers.fingerprint(bpe)


def check_bytes(tokenizer):
    sizes = tokenizers.token_bytes(tokenizer)
    assert len(sizes) == tokenizer.get_vocab_size()
    assert sizes[tokenizers.end_of_text(tokenizer)] == 0
    for text in TEXTS:
        assert sizes[tokenizer.encode(text).ids].sum() == len(text.encode())


def test_the_bytes_of_tokens_add_up_to_those_of_the_text(bpe):
    check_bytes(bpe)


def test_added_tokens_count_the_bytes_of_their_text(bpe):
    tokenizer = type(bpe).from_str(bpe.to_str())
    tokenizer.add_tokens([AddedToken("piña")])
    assert tokenizers.token_bytes(tokenizer)[300] == 5
    assert tokenizers.token_bytes(tokenizer)[tokenizer.encode("una piña").ids].sum() == 9


CASES = ["truncation", "padding", "ends", "dropout"]


@pytest.fixture(params=CASES)
def meddling(request, bpe):
    """A tokenizer whose file has a setting that changes texts."""
    tokenizer = type(bpe).from_str(bpe.to_str())
    if request.param == "truncation":
        tokenizer.enable_truncation(5)
    elif request.param == "padding":
        tokenizer.enable_padding(length=100)
    elif request.param == "ends":
        end = tokenizers.end_of_text(bpe)
        special = [("<|endoftext|>", end)]
        tokenizer.post_processor = processors.TemplateProcessing(
            "<|endoftext|> $A <|endoftext|>", special_tokens=special
        )
    else:
        tokenizer.model.dropout = 0.9
    return tokenizer


@pytest.mark.parametrize("where", ["folder", "file", "run"])
def test_what_a_file_brings_beside_its_vocabulary_changes_no_text(meddling, bpe, tmp_path, where):
    path = tmp_path / "tokenizer.json"
    meddling.save(str(path))
    loaded = tokenizers.read(path) if where == "run" else tokenizers.load(str(tmp_path if where == "folder" else path))
    assert [each.ids for each in loaded.encode_batch(TEXTS)] == [each.ids for each in bpe.encode_batch(TEXTS)]


def test_ids_with_a_gap_are_counted_to_the_highest(bpe):
    content = json.loads(bpe.to_str())
    content["model"]["vocab"]["<|endoftext|>"] = content["added_tokens"][0]["id"] = 350
    tokenizer = type(bpe).from_str(json.dumps(content))
    assert tokenizer.get_vocab_size() == 300
    assert tokenizers.vocabulary_size(tokenizer) == 351
    assert tokenizers.token_ids(tokenizer).tolist() == [*range(1, 300), 350]
    sizes = tokenizers.token_bytes(tokenizer)
    assert len(sizes) == 351
    assert sizes[300:].sum() == 0
    assert sizes[tokenizer.encode(TEXTS[1]).ids].sum() == len(TEXTS[1].encode())


@pytest.mark.parametrize("name", ["./no", "/no/where", "~/no", "a/b/c", "no/tokenizer.json"])
def test_a_path_that_is_not_there_is_not_looked_for_on_the_hub(name):
    with pytest.raises(ValueError, match=r"no such tokenizer: .* \(from folder /"):
        tokenizers.load(name)


def test_the_home_is_known(bpe, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    bpe.save(str(tmp_path / "tokenizer.json"))
    assert tokenizers.fingerprint(tokenizers.load("~/tokenizer.json")) == tokenizers.fingerprint(bpe)
    assert tokenizers.load("~/").encode("Tim").ids == bpe.encode("Tim").ids


def test_gpt2_from_a_folder(real_data):
    gpt2 = tokenizers.load(str(real_data / "gpt2"))
    assert gpt2.get_vocab_size() == 50257
    assert tokenizers.end_of_text(gpt2) == 50256
    assert gpt2.encode("Once upon a time").ids == [7454, 2402, 257, 640]
    check_bytes(gpt2)


def test_a_tokenizer_that_is_not_there_is_an_error_that_names_alternatives(tmp_path, monkeypatch):
    import huggingface_hub

    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    for spec in ("nobody/nothing", str(tmp_path)):
        with pytest.raises(ValueError, match="cannot load the tokenizer") as error:
            tokenizers.load(spec)
        assert "bpe:4096" in str(error.value)


def test_a_tokenizer_without_end_of_text_is_an_error(tmp_path):
    from tokenizers import Tokenizer, models
    from transformers import PreTrainedTokenizerFast

    PreTrainedTokenizerFast(tokenizer_object=Tokenizer(models.BPE())).save_pretrained(tmp_path)
    with pytest.raises(ValueError, match=r"has no <\|endoftext\|> token|cannot load the tokenizer"):
        tokenizers.load(str(tmp_path))
