"""Tokenizers: GPT-2's from the Hub or a folder, or a byte-level BPE trained on the corpus."""

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Int
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, trainers

from tti.data.sources import END_OF_TEXT

BPE = "bpe:"
SPACE = "\u0120"  # how GPT-2's byte alphabet writes a space
UNKNOWN = "<|unk|>"


def load(spec: str) -> Tokenizer:
    """Load a tokenizer from a folder (transformers' files), a ``tokenizer.json``, or the Hub.

    Raises:
        ValueError: it is missing, unreachable or empty, is not byte-level, or lacks ``<|endoftext|>``.
    """
    path = Path(spec).expanduser()
    tokenizer = read(path) if path.is_file() else _from_transformers(str(path) if path.is_dir() else spec)
    if tokenizer.token_to_id(END_OF_TEXT) is None:
        raise ValueError(f"the tokenizer {spec!r} has no {END_OF_TEXT} token, which ends every story")
    if not isinstance(tokenizer.decoder, decoders.ByteLevel):
        raise ValueError(
            f"the tokenizer {spec!r} is not byte-level, so the bytes of its tokens, and with them bits per byte, are "
            "unknown; use gpt2, or train one on the corpus with data.corpus.tokenizer=bpe:4096"
        )
    return tokenizer


def _from_transformers(spec: str) -> Tokenizer:
    from transformers import AutoTokenizer  # takes seconds; needed once per corpus

    if not Path(spec).is_dir() and (spec.startswith(("/", ".", "~")) or spec.count("/") > 1 or spec.endswith(".json")):
        raise ValueError(f"no such tokenizer: {Path(spec).expanduser()} (from folder {Path.cwd()})")
    try:
        return _plain(AutoTokenizer.from_pretrained(spec).backend_tokenizer)
    except Exception as error:  # transformers and the Hub's client raise many unrelated types here
        raise ValueError(
            f"cannot load the tokenizer {spec!r} ({type(error).__name__}: {str(error).splitlines()[0]}).\n"
            "Without network: set data.corpus.tokenizer to a folder with its files, or train one on the corpus with "
            "data.corpus.tokenizer=bpe:4096."
        ) from error


def _plain(tokenizer: Tokenizer) -> Tokenizer:
    """The tokenizer without truncation, padding or randomness, so that stories are always encoded whole."""
    tokenizer.no_truncation()
    tokenizer.no_padding()
    if tokenizer.num_special_tokens_to_add(is_pair=False):  # added to every text
        tokenizer.post_processor = None
    if getattr(tokenizer.model, "dropout", None):  # randomly omitted merges
        tokenizer.model.dropout = None
    return tokenizer


def train_bpe(spec: str, stories: Iterator[str]) -> Tokenizer:
    """Train a GPT-2 style byte-level BPE of the size that ``bpe:SIZE`` names, including the end-of-text token.

    Raises:
        ValueError: the size is not a number from 257 (the bytes and the end-of-text token) to 65536.
    """
    size = spec.removeprefix(BPE)
    if not size.isdecimal() or not 257 <= int(size) <= 2**16:
        raise ValueError(f"{spec!r}: write bpe:SIZE with a size from 257 to 65536, such as bpe:4096")
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=int(size),
        special_tokens=[END_OF_TEXT],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(stories, trainer)
    return tokenizer


def of_words(vocabulary: Mapping[str, int], specials: Sequence[str] = ()) -> Tokenizer:
    """A lossless tokenizer with one token for each word including its leading space.

    Args:
        vocabulary: word -> id.
        specials: further tokens, with the next ids. After them come ``<|unk|>``, for all other words, and the
            end-of-text token.
    """
    ids = {text.replace(" ", SPACE): index for text, index in vocabulary.items()}
    added = (*specials, UNKNOWN, END_OF_TEXT)
    ids |= {special: len(ids) + place for place, special in enumerate(added)}
    tokenizer = Tokenizer(models.WordLevel(ids, unk_token=UNKNOWN))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([AddedToken(text, special=True) for text in added])
    return tokenizer


def altered(tokenizer: Tokenizer, texts: Sequence[str], encoded: Sequence[list[int]]) -> str:
    """The first place where a text differs from its decoded tokens (another case, lost characters); empty if none."""
    for text, again in zip(texts, tokenizer.decode_batch(encoded, skip_special_tokens=False), strict=True):
        if text != again:
            same = next((i for i, pair in enumerate(zip(text, again, strict=False)) if pair[0] != pair[1]), 0)
            there = slice(max(same - 10, 0), same + 20)
            return f"{text[there]!r} becomes {again[there]!r}"
    return ""


def fingerprint(tokenizer: Tokenizer) -> str:
    """A hash of everything that a tokenizer does."""
    return hashlib.sha256(tokenizer.to_str().encode()).hexdigest()


def read(path: Path) -> Tokenizer:
    """Load a tokenizer from its ``tokenizer.json``.

    Raises:
        ValueError: the file is damaged, or something else.
    """
    try:
        return _plain(Tokenizer.from_file(str(path)))
    except Exception as error:  # the library raises nothing narrower
        raise ValueError(f"{path} cannot be read as a tokenizer ({error}): is it a complete tokenizer.json?") from error


def token_ids(tokenizer: Tokenizer) -> Int[np.ndarray, "type"]:
    """The ids that stand for a token, ascending. A model may have more rows, for gaps between ids or as padding."""
    return np.unique(list(tokenizer.get_vocab(with_added_tokens=True).values()))


def vocabulary_size(tokenizer: Tokenizer) -> int:
    """The highest id + 1, the number of rows that an embedding needs; more than there are tokens if ids have gaps."""
    return int(token_ids(tokenizer)[-1]) + 1


def end_of_text(tokenizer: Tokenizer) -> int:
    """The id of the end-of-text token, which ends every story."""
    end = tokenizer.token_to_id(END_OF_TEXT)
    assert end is not None
    return end


def token_texts(tokenizer: Tokenizer) -> list[bytes]:
    """UTF-8 bytes of a byte-level tokenizer's tokens by id, possibly part of a character; empty for special tokens."""
    bytes_of = _bytes_of_letters()
    vocab = tokenizer.get_vocab(with_added_tokens=False)
    texts = {id_: b"".join(bytes_of.get(letter, b"?") for letter in token) for token, id_ in vocab.items()}
    for id_, token in tokenizer.get_added_tokens_decoder().items():  # their text is not in the byte alphabet
        texts[id_] = b"" if token.special else token.content.encode()
    return [texts.get(id_, b"") for id_ in range(vocabulary_size(tokenizer))]


def token_bytes(tokenizer: Tokenizer) -> Int[np.ndarray, "vocab"]:
    """Number of UTF-8 bytes of a byte-level tokenizer's tokens, by id; 0 for special tokens."""
    return np.array([len(text) for text in token_texts(tokenizer)], dtype=np.int64)


def _bytes_of_letters() -> dict[str, bytes]:
    """GPT-2's byte alphabet: printable bytes stand for themselves, the others are numbered from 256."""
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    themselves = [ord(letter) for letter in letters if ord(letter) < 256]
    others = sorted(set(range(256)) - set(themselves))
    return {letter: bytes([byte]) for letter, byte in zip(letters, themselves + others, strict=True)}
