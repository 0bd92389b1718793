"""Parts of speech from spaCy, transferred from its words to the tokens of a byte-level tokenizer."""

import io
from collections.abc import Iterator, Sequence
from functools import cached_property
from hashlib import sha256
from importlib import metadata
from pathlib import Path

import numpy as np
from filelock import FileLock
from jaxtyping import Int
from rich.console import Console

from tti.data import tokenizers
from tti.durable import write_atomically
from tti.evaluation.labels import NO_LABEL, Labelled, Labels
from tti.evaluation.stories import StorySet

# The universal parts of speech (universaldependencies.org/u/pos) in alphabetical order, without spaCy's SPACE.
TAGS = ("ADJ", "ADP", "ADV", "AUX", "CCONJ", "DET", "INTJ", "NOUN", "NUM", "PART", "PRON", "PROPN", "PUNCT", "SCONJ",
        "SYM", "VERB", "X")  # fmt: skip
NOT_READ = ("ner", "lemmatizer")  # the parser is needed: the rules that separate AUX from VERB read its output

Words = Sequence[tuple[int, int, str]]
"""First character, one past the last, tag."""


class PartsOfSpeech(Labels):
    """The universal part of speech of the word that a token belongs to, given its whole sentence.

    A tag may therefore depend on later words, which a causal model has not seen. Every piece of a word has the word's
    tag; a token that spans several words has the tag of the one with most of its bytes, the first among equals; white
    space has none. The tagger errs on a few words in a hundred, and probes learn its errors.

    Tags are stored with the packed tokens, in a file named after everything they depend on (tokens, tokenizer, stories,
    versions of spaCy and its model), so that runs on the same data share them.

    Args:
        models: spaCy's pipelines; the first one installed is used.
    """

    def __init__(self, models: Sequence[str]) -> None:
        self.models = tuple(models)

    @cached_property
    def installed(self) -> dict[str, str]:
        """Versions of spaCy and of the model, by name; empty if either is missing."""
        versions = {name: found for name in ("spacy", *self.models) if (found := _version(name))}
        model = next((name for name in self.models if name in versions), None)
        return {name: versions[name] for name in ("spacy", model)} if model and "spacy" in versions else {}

    def inapplicable(self, stories: StorySet) -> str:
        if self.installed:
            return ""
        return (
            "parts of speech need spaCy and its English model: "
            "pip install 'training-time-interpretability[probes]', "
            f"then python -m spacy download {self.models[0]}"
        )

    def of(self, stories: StorySet, places: Int[np.ndarray, "token"]) -> Labelled:
        path = self._path(stories)
        with FileLock(path.with_suffix(".lock")):
            if not path.exists():
                buffer = io.BytesIO()
                np.save(buffer, np.concatenate(list(self._tagged(stories))))
                write_atomically(path, buffer.getvalue())
        everywhere = np.full(len(stories.packed.tokens), NO_LABEL, np.int8)
        everywhere[np.concatenate(list(_spans(stories)))] = np.load(path)
        versions = ", ".join(f"{name} {version}" for name, version in self.installed.items())
        return Labelled({"pos": TAGS}, everywhere[places, None].astype(np.int64), {"tags": f"by {versions}"})

    def _path(self, stories: StorySet) -> Path:
        manifest = stories.packed.manifest
        parts = (manifest["arrays"]["tokens"]["sha256"], manifest["tokenizer_sha256"], stories.members.tolist())
        digest = sha256(repr((parts, self.installed)).encode()).hexdigest()[:12]
        return stories.packed.folder / f"pos-{digest}.npy"

    def _tagged(self, stories: StorySet) -> Iterator[Int[np.ndarray, "token"]]:
        """The tags of each story by token, including its end-of-text token."""
        import spacy  # takes seconds; needed once per corpus

        _, model = self.installed
        count = sum(map(len, _spans(stories)))
        Console(stderr=True).print(f"  tagging {len(stories.members):,} stories, {count:,} tokens, with {model}")
        texts = tokenizers.token_texts(stories.packed.tokenizer())
        pieces = [[texts[token] for token in stories.packed.tokens[span]] for span in _spans(stories)]
        tagger = spacy.load(model, exclude=NOT_READ)
        for story, document in zip(pieces, tagger.pipe(decoded(b"".join(story))[0] for story in pieces), strict=True):
            yield tags(story, [(word.idx, word.idx + len(word), word.pos_) for word in document])


def tags(pieces: Sequence[bytes], words: Words) -> Int[np.ndarray, "token"]:
    """Index in ``TAGS`` for each token, ``NO_LABEL`` if it has none.

    Args:
        pieces: the bytes of each token.
        words: words of the text that :func:`decoded` makes of them.
    """
    text, width = decoded(b"".join(pieces))
    word_of = np.full(len(text), -1)
    for number, (start, end, tag) in enumerate(words):
        if tag in TAGS:
            word_of[start:end] = number
    word_of[[character.isspace() for character in text]] = -1
    token = np.repeat(np.arange(len(pieces)), [len(piece) for piece in pieces])
    word = np.repeat(word_of, width)
    pairs, sizes = np.unique(np.stack([token, word])[:, word >= 0], axis=1, return_counts=True)
    order = np.lexsort((pairs[1], -sizes, pairs[0]))
    tokens, first = np.unique(pairs[0, order], return_index=True)
    found = np.full(len(pieces), NO_LABEL, np.int8)
    numbers = {tag: number for number, tag in enumerate(TAGS)}
    found[tokens] = [numbers[words[best][2]] for best in pairs[1, order][first]]
    return found


def decoded(data: bytes) -> tuple[str, Int[np.ndarray, "character"]]:
    """UTF-8 bytes as text, with each invalid byte as U+FFFD, and the number of bytes of each character."""
    escaped = data.decode("utf-8", "surrogateescape")
    codes = np.frombuffer(escaped.encode("utf-32-le", "surrogatepass"), np.uint32)
    invalid = (codes >= 0xD800) & (codes < 0xE000)
    width = 1 + (codes > 0x7F).astype(int) + (codes > 0x7FF) + (codes > 0xFFFF)
    width[invalid] = 1
    text = "".join("\ufffd" if bad else character for bad, character in zip(invalid, escaped, strict=True))
    return text, width


def _spans(stories: StorySet) -> Iterator[Int[np.ndarray, "token"]]:
    offsets = stories.packed.offsets
    return (np.arange(offsets[story], offsets[story + 1]) for story in stories.members)


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None
