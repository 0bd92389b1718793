"""Edits of stories: what a network reads instead, and which of its predictions can be compared before and after."""

import re
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np
import torch
from jaxtyping import Float, Int
from tokenizers import Tokenizer
from torch import Tensor

from tti.data import tokenizers
from tti.data.truth import Truth
from tti.evaluation.base import Subject
from tti.evaluation.influence import Attached
from tti.evaluation.stories import SEED, Chunk, StorySet
from tti.models.network import Network
from tti.models.taps import Recorder

EMBED = "embed"  # the site of the token embeddings
ROWS = 512  # tokens whose estimates for every candidate are held at a time
SHORTEST = 3  # letters of a word that can have a typo
PIECE = re.compile(rb" [A-Za-z]*|[A-Za-z]+")  # a token of a word; the space before it may be one of its own
NEW = -1

Ids = Int[np.ndarray, "token"]
Span = tuple[int, int]


@dataclass(frozen=True)
class Edited:
    """A story after an edit. Row i of a story reads its tokens up to i, and predicts the next.

    Attributes:
        tokens: what the network reads instead of the story.
        before: the rows of the story whose targets are compared.
        after: for each of them, the row of ``tokens`` that predicts the same target.
        changed: number of tokens of the story that were replaced or removed.
    """

    tokens: Ids
    before: Int[np.ndarray, "compared"]
    after: Int[np.ndarray, "compared"]
    changed: int


def edited(tokens: Ids, origin: Int[np.ndarray, "token"], length: int, longest: int) -> Edited:
    """Compare the targets that the edit has left, where it has changed what precedes them.

    A target in front of the first change has the same context as before, and none is compared; of a story without any
    change, all are.

    Args:
        tokens: the story after the edit.
        origin: the place in the story of each of these tokens, rising; ``NEW`` if the story does not have it.
        length: number of tokens of the story.
        longest: number of tokens that can be read; further ones are cut off.
    """
    changed = length - int((origin != NEW).sum())
    target = np.append(origin[1:], length)[:longest]
    tokens, origin = tokens[:longest], origin[:longest]
    rows = np.arange(len(tokens))
    same = np.logical_and.accumulate(origin == rows) & (target == rows + 1)
    after = np.flatnonzero((target > 0) & (~same | same.all()))
    return Edited(tokens, target[after] - 1, after, changed)


class Edit(ABC):
    """A kind of edit. Draws depend on the story alone, so every network reads the same."""

    def inapplicable(self, subject: Subject) -> str:
        """Why these stories cannot be edited in this way; empty if they can."""
        return ""

    def attach(self, subject: Subject) -> None:  # noqa: B027
        """Prepare for the stories and the network of this subject."""

    @abstractmethod
    def __call__(self, chunk: Chunk) -> list[Edited]:
        """The stories of a chunk after the edit."""


class TextEdit(Edit):
    """An edit that looks at the stories only."""

    def attach(self, subject: Subject) -> None:
        self.stories, self.longest = subject.stories, subject.net.context

    def __call__(self, chunk: Chunk) -> list[Edited]:
        return [self.of(tokens, places, story) for tokens, places, story in _stories(chunk)]

    @abstractmethod
    def of(self, tokens: Ids, places: Int[np.ndarray, "token"], story: int) -> Edited:
        """The story with this index, whose tokens are at these places of the packed split, after the edit."""

    def replaced(self, tokens: Ids, spans: Sequence[Span], by: Sequence[Sequence[int]]) -> Edited:
        """The story with spans of tokens replaced."""
        pieces, origins, end = [], [], 0
        for (start, stop), new in zip([*spans, (len(tokens), len(tokens))], [*by, []], strict=True):
            pieces += [tokens[end:start], np.array(new, dtype=tokens.dtype)]
            origins += [np.arange(end, start), np.full(len(new), NEW)]
            end = stop
        return edited(np.concatenate(pieces), np.concatenate(origins), len(tokens), self.longest)


class Senses(TextEdit):
    """Words of the grammar, each replaced by another of the same sense, or of another sense.

    Both change the same words, so their difference is about meaning alone. Of a sense's words, only those that name
    nothing are replaced (adjectives): the grammar draws them anew at each mention, so a synonym is as probable, and
    leaves every factor of the story as it is. A word of another sense has the same category, and never the replaced
    sense as well, since words of the grammar have several.

    Args:
        same: whether the sense is kept.
        rate: share of these words that are replaced.
    """

    def __init__(self, same: bool, rate: float) -> None:
        self.same, self.rate = same, rate

    def inapplicable(self, subject: Subject) -> str:
        truth = subject.stories.truth
        return "" if truth is not None and truth.synonyms else "its words have no known senses (data=grammar)"

    def attach(self, subject: Subject) -> None:
        super().attach(subject)
        assert self.stories.truth is not None
        self.labels = self.stories.truth.labels(self.stories.packed)
        self.columns = [list(self.stories.truth.factors).index(name) for name in ("sense", "category", "referent")]
        self.others = senses(self.stories, self.stories.truth)

    def of(self, tokens: Ids, places: Int[np.ndarray, "token"], story: int) -> Edited:
        draw = np.random.default_rng([SEED, story])
        drawn = draw.random(len(tokens)) < self.rate
        known = self.labels[places][:, self.columns]
        spans, by = [], []
        for place in np.flatnonzero(drawn & (known[:, 2] == 0)):
            same, other = self.others.get((int(tokens[place]), int(known[place, 0])), ((), ()))
            if len(same) and len(other):
                spans.append((int(place), int(place) + 1))
                by.append([int(draw.choice(same if self.same else other))])
        return self.replaced(tokens, spans, by)


def senses(stories: StorySet, truth: Truth) -> dict[tuple[int, int], tuple[Sequence[int], Sequence[int]]]:
    """For a token with a sense: the other tokens of that sense, and those of other senses of its category."""
    ids = {text.decode(): id_ for id_, text in enumerate(tokenizers.token_texts(stories.packed.tokenizer()))}
    names = list(truth.factors["sense"])
    words = {names.index(sense): {ids[text] for text in texts} for sense, texts in truth.synonyms.items()}
    columns = [list(truth.factors).index(name) for name in ("sense", "category")]
    category = {int(s): int(c) for s, c in np.unique(np.asarray(truth.labels(stories.packed))[:, columns], axis=0)}

    def elsewhere(sense: int) -> set[int]:
        return {word for other in words if category.get(other) == category.get(sense) for word in words[other]}

    return {
        (token, sense): (sorted(known - {token}), sorted(elsewhere(sense) - known))
        for sense, known in words.items()
        for token in known
    }


class Words(TextEdit):
    """An edit of randomly drawn words: runs of letters with the space before them. A story's first word is left.

    Args:
        rate: share of the words that are edited.
    """

    shortest = 1
    """Letters of a word that can be edited."""

    def __init__(self, rate: float) -> None:
        self.rate = rate

    def attach(self, subject: Subject) -> None:
        super().attach(subject)
        self.tokenizer = self.stories.packed.tokenizer()
        self.texts = tokenizers.token_texts(self.tokenizer)
        self.in_word = np.array([PIECE.fullmatch(text) is not None for text in self.texts])
        self.spaced = np.array([text.startswith(b" ") for text in self.texts])

    def of(self, tokens: Ids, places: Int[np.ndarray, "token"], story: int) -> Edited:
        draw = np.random.default_rng([SEED, story])
        words = [(span, self.text(tokens, span)) for span in self.words(tokens)]
        words = [(span, text) for span, text in words if len(text.lstrip()) >= self.shortest]
        drawn = [word for word, at in zip(words, draw.random(len(words)), strict=True) if at < self.rate]
        by = [self.instead(text, draw) for _, text in drawn]
        return self.replaced(tokens, [span for span, _ in drawn], by)

    def words(self, tokens: Ids) -> list[Span]:
        """The words after the first token, as spans of tokens."""
        inside, spaced = self.in_word[tokens], self.spaced[tokens]
        begins = inside & (spaced | ~np.append(False, inside[:-1]))
        goes_on = np.append(inside & ~begins, False)
        starts = np.flatnonzero(begins)
        return [(start, start + 1 + int(np.argmin(goes_on[start + 1 :]))) for start in starts.tolist() if start > 0]

    def text(self, tokens: Ids, span: Span) -> str:
        """The text of a word."""
        return b"".join(self.texts[token] for token in tokens[slice(*span)]).decode()

    @abstractmethod
    def instead(self, word: str, draw: np.random.Generator) -> list[int]:
        """The tokens that replace a word."""


class Typos(Words):
    """Words in which two adjacent letters are swapped, or one is missing, with equal odds; encoded anew."""

    shortest = SHORTEST

    def inapplicable(self, subject: Subject) -> str:
        known = subject.stories.packed.tokenizer().token_to_id(tokenizers.UNKNOWN)
        return "" if known is None else "its tokenizer knows whole words only"

    def instead(self, word: str, draw: np.random.Generator) -> list[int]:
        return encoded(self.tokenizer, misspelt(word, draw))


def misspelt(word: str, draw: np.random.Generator) -> str:
    """The word with two adjacent letters swapped, or, with equal odds and if they are equal, without the first."""
    at = int(draw.integers(len(word) - len(word.lstrip()), len(word) - 1))
    first, second = word[at], word[at + 1]
    swap = draw.random() < 0.5 and first != second
    return word[:at] + (second + first if swap else second) + word[at + 2 :]


def encoded(tokenizer: Tokenizer, text: str) -> list[int]:
    """The tokens of a text, and nothing around them."""
    return tokenizer.encode(text, add_special_tokens=False).ids


class Drops(Words):
    """Words left out."""

    def instead(self, word: str, draw: np.random.Generator) -> list[int]:
        return []


class OtherStory(TextEdit):
    """The ceiling: every target is predicted from as many tokens of the next story of the split."""

    def of(self, tokens: Ids, places: Int[np.ndarray, "token"], story: int) -> Edited:
        packed, rows = self.stories.packed, np.arange(len(tokens))
        other = (story + 1) % len(packed)
        begin, end = packed.offsets[other], packed.offsets[other + 1] - 1
        return Edited(np.resize(packed.tokens[begin:end], len(tokens)).astype(tokens.dtype), rows, rows, len(tokens))


class Substitutions(Edit):
    """A few tokens of each story, replaced by any others that occur in the split.

    Args:
        count: tokens replaced per story.
    """

    def __init__(self, count: int) -> None:
        self.count = count

    def attach(self, subject: Subject) -> None:
        self.subject = subject
        end = tokenizers.end_of_text(subject.stories.packed.tokenizer())
        self.ids = subject.stories.types
        self.excluded = torch.from_numpy(self.ids == end).to(subject.device)  # it ends a story

    def __call__(self, chunk: Chunk) -> list[Edited]:
        gain, by = (each.cpu() for each in self.best(chunk))
        found = []
        lengths = list(chunk.batch.stories.lengths)
        for (tokens, _, _), gains, types in zip(_stories(chunk), gain.split(lengths), by.split(lengths), strict=True):
            at = gains.topk(min(self.count, len(gains))).indices.numpy()
            new, origin = tokens.copy(), np.arange(len(tokens))
            new[at], origin[at] = self.ids[types.numpy()[at]], NEW
            found.append(edited(new, origin, len(tokens), len(tokens)))
        return found

    @abstractmethod
    def best(self, chunk: Chunk) -> tuple[Float[Tensor, "token"], Int[Tensor, "token"]]:
        """How much it pays to replace each token, and by which type."""


class Random(Substitutions):
    """The null of :class:`Gradient`: places and tokens drawn at random."""

    def best(self, chunk: Chunk) -> tuple[Tensor, Tensor]:
        draws = [torch.Generator().manual_seed(SEED + story) for story in chunk.stories.tolist()]
        lengths = chunk.batch.stories.lengths
        pays = [torch.rand(n, generator=draw) for n, draw in zip(lengths, draws, strict=True)]
        odds = (~self.excluded.cpu()).double()
        by = [odds.multinomial(n, replacement=True, generator=draw) for n, draw in zip(lengths, draws, strict=True)]
        return torch.cat(pays), torch.cat(by)


class Gradient(Substitutions):
    """HotFlip: the substitutions that raise the loss most, to first order (Ebrahimi et al. 2018, equation 10).

    Replacing token i by v changes the story's loss by about ``(e_v - e_i) . grad``, with the gradient at the embedding
    of token i. One backward pass gives the estimate for all tokens and all v; the best are taken at once, without the
    beam search of the paper.
    """

    def inapplicable(self, subject: Subject) -> str:
        return "" if EMBED in subject.net.sites else "its network does not show its embeddings"

    def attach(self, subject: Subject) -> None:
        super().attach(subject)
        self.embeddings = embeddings(subject.net, torch.from_numpy(self.ids).to(subject.device), subject.stories)

    def best(self, chunk: Chunk) -> tuple[Tensor, Tensor]:
        net, batch, tap = self.subject.net, chunk.batch, Attached([EMBED])
        with torch.enable_grad():
            loss, _ = net.loss(net(batch.tokens, batch.stories, tap), batch.targets)
        (slope,) = torch.autograd.grad(loss, tap.activations[EMBED])
        found = []
        for along, types in zip(slope.split(ROWS), batch.types.split(ROWS), strict=True):
            value = along @ self.embeddings.T
            gain = value - value.gather(1, types[:, None])
            gain[:, self.excluded] = -torch.inf
            found.append(gain.scatter(1, types[:, None], -torch.inf).max(1))
        gains, by = zip(*found, strict=True)
        return torch.cat(gains), torch.cat(by)


@torch.no_grad()
def embeddings(net: Network, ids: Int[Tensor, "type"], stories: StorySet) -> Float[Tensor, "type d"]:
    """The embedding of each token type, read off where the network hands it out."""
    rows = []
    for some in ids.split(net.context):
        recorder = Recorder([EMBED])
        layout = replace(stories.layout([len(some)]), group=some.new_zeros(1))
        net(some, layout.to(net.device), recorder)
        rows.append(recorder.activations[EMBED])
    return torch.cat(rows)


def _stories(chunk: Chunk) -> Iterator[tuple[Ids, Int[np.ndarray, "token"], int]]:
    """Tokens, places in the packed split and index of each story."""
    tokens, places = chunk.batch.tokens.cpu().numpy(), chunk.places.cpu().numpy()
    bounds = np.cumsum([0, *chunk.batch.stories.lengths])
    for (start, end), story in zip(pairwise(bounds.tolist()), chunk.stories.tolist(), strict=True):
        yield tokens[start:end], places[start:end], story
