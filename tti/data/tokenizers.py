"""Tokenizers: GPT-2's from the Hub or a folder, or a byte-level BPE trained on the corpus."""

import hashlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from jaxtyping import Int
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

from tti.data.sources import END_OF_TEXT

BPE = "bpe:"


def load(spec: str) -> Tokenizer:
    """A tokenizer from a folder (transformers' files) or the Hub.

    Raises:
        ValueError: it is not there, cannot be reached, is empty, or lacks ``<|endoftext|>``.
    """
    from transformers import AutoTokenizer  # seconds of imports, needed once a corpus

    try:
        tokenizer = AutoTokenizer.from_pretrained(spec).backend_tokenizer
    except Exception as error:  # transformers and the Hub's client raise many unrelated types here
        raise ValueError(
            f"cannot load the tokenizer {spec!r} ({type(error).__name__}: {str(error).splitlines()[0]}).\n"
            "Without network: give data.corpus.tokenizer a folder with its files, or train one on the corpus with "
            "data.corpus.tokenizer=bpe:4096."
        ) from error
    if tokenizer.token_to_id(END_OF_TEXT) is None:
        raise ValueError(f"the tokenizer {spec!r} has no {END_OF_TEXT} token, which ends every story")
    if not isinstance(tokenizer.decoder, decoders.ByteLevel):
        raise ValueError(
            f"the tokenizer {spec!r} is not byte-level, so that the bytes of its tokens, and with them bits per byte, "
            "are unknown; take gpt2, or train one on the corpus with data.corpus.tokenizer=bpe:4096"
        )
    return tokenizer


def train_bpe(spec: str, stories: Iterator[str]) -> Tokenizer:
    """A GPT-2 style byte-level BPE of the size that ``bpe:SIZE`` names, end of text included.

    Raises:
        ValueError: the size is not a number from 257 (the bytes and the end of text) to 65536.
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


def fingerprint(tokenizer: Tokenizer) -> str:
    """A hash of everything that a tokenizer does."""
    return hashlib.sha256(tokenizer.to_str().encode()).hexdigest()


def read(path: Path) -> Tokenizer:
    """A tokenizer from its ``tokenizer.json``."""
    return Tokenizer.from_file(str(path))


def end_of_text(tokenizer: Tokenizer) -> int:
    """The id of the token that ends every story."""
    end = tokenizer.token_to_id(END_OF_TEXT)
    assert end is not None
    return end


def token_texts(tokenizer: Tokenizer) -> list[bytes]:
    """The UTF-8 bytes of each token of a byte-level tokenizer, maybe a part of a character; none for specials."""
    bytes_of = _bytes_of_letters()
    vocab = tokenizer.get_vocab(with_added_tokens=False)
    texts = {id_: b"".join(bytes_of.get(letter, b"?") for letter in token) for token, id_ in vocab.items()}
    for id_, token in tokenizer.get_added_tokens_decoder().items():  # their text stands outside the byte alphabet
        texts[id_] = b"" if token.special else token.content.encode()
    return [texts.get(id_, b"") for id_ in range(tokenizer.get_vocab_size())]


def token_bytes(tokenizer: Tokenizer) -> Int[np.ndarray, "vocab"]:
    """UTF-8 bytes of each token of a byte-level tokenizer; 0 for specials."""
    return np.array([len(text) for text in token_texts(tokenizer)], dtype=np.int64)


def _bytes_of_letters() -> dict[str, bytes]:
    """The byte alphabet of GPT-2: printable bytes stand for themselves, the others follow behind the first 256."""
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    themselves = [ord(letter) for letter in letters if ord(letter) < 256]
    others = sorted(set(range(256)) - set(themselves))
    return {letter: bytes([byte]) for letter, byte in zip(letters, themselves + others, strict=True)}
