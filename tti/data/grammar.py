"""A story grammar: unlimited short stories in which every token carries the factors that generated it.

On such stories, what a neuron represents can be scored exactly. In this second edition, a token's meaning follows
neither from the token nor from the last two tokens. Words have several senses, and senses several words (`homonyms`,
`synonyms`). Some factors decide a word 8 or more tokens later, with a distractor in between: the adult's gender decides
a pronoun (after a passer-by of either gender), the weather the farewell, the number of heroes a verb far from its
subject; place, plot, trait, feeling and kind of hero have such effects too. Words and rules are in `tti.data.lexicon`.

Factors of the story: `none` before the token that reveals them, their value from that token on.

    hero       kind of the hero or heroes: girl, boy, dog, ...
    number     singular: one hero; plural: two of a kind
    tense      of the narration: past or present. Speech is in the present
    trait      of the hero: kind, clever, strong
    place      where the story happens: park, beach, ...
    weather    sunny, rainy, snowy, windy
    plot       what the hero wants: pet, meal, toy, fruit, drink, paint
    partner    the adult that the hero meets: woman or man
    feeling    of the adult: sad, angry, afraid

Factors of the token: `none` where they do not apply.

    sense      the concept that the word expresses, for words with several (`lexicon.SENSES`)
    category   the kind of that concept: trait, feeling, weather, quality, thing
    referent   who or what the token refers to: the hero (also "girl", "she", "I" in the hero's speech), the other
               character (the adult), the passer-by, or the thing. Possessives refer to the possessor
    role       word class with inflection: noun_singular, noun_plural, name, pronoun (possessives too), verb_base,
               verb_present, verb_past, adjective, adverb, determiner, preposition, conjunction, punctuation
    voice      whose words these are: narration, hero, other; quotation marks belong to what they enclose

Some pairs of hero and place never occur in training (`HELD_OUT`); elsewhere they are as frequent as the others.

Every text has an exactly computable probability (`StoryGrammar.reader`), which gives the entropy of the stories: the
floor of every model's loss (`tti.data.floor`).
"""

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from jaxtyping import Bool, Float, Int
from rich.console import Console
from rich.progress import track
from tokenizers import Tokenizer

from tti.data import lexicon, tokenizers
from tti.data.cache import PackedStories
from tti.data.features import FeatureGrammar
from tti.data.floor import floor
from tti.data.likelihood import Reader, Reading
from tti.data.templates import NONE, Cell, Compiler, Verb, Words
from tti.data.truth import Ideal

EDITION: Final = 2  # of the stories: caches of other editions are refused
STORY_FACTORS: Final = ("hero", "number", "tense", "trait", "place", "weather", "plot", "partner", "feeling")
TOKEN_FACTORS: Final = Cell._fields[1:]
HELD_OUT: Final = (
    ("girl", "river"), ("boy", "farm"), ("dog", "beach"), ("cat", "forest"), ("rabbit", "park"), ("bear", "garden"),
)  # fmt: skip


@dataclass(frozen=True)
class GrammarStory:
    """One story.

    Attributes:
        tokens: uint16 [token], without the end-of-text token.
        factors: int16 [token, factor], the index of the value; 0 = none.
    """

    tokens: np.ndarray
    factors: np.ndarray


class StoryGrammar:
    """Stories of simple words with known factors; the module's docstring says what each factor means.

    Attributes:
        factors: factor -> its values, the first of which is "none". Columns of `GrammarStory.factors` are in this
            order, factors of the story (`STORY_FACTORS`) first.
        homonyms: token text, with its leading space -> its senses, two or more.
        synonyms: sense -> all token texts that express it.
        of_text, pair: see :class:`tti.data.truth.Truth`.

    Token ids are those of `tokenizer()`.
    """

    factors: dict[str, tuple[str, ...]]
    homonyms: dict[str, tuple[str, ...]]
    synonyms: dict[str, tuple[str, ...]]
    of_text: Sequence[str] = STORY_FACTORS
    pair: Sequence[str] = ("hero", "place")

    def __init__(self, given: Mapping[str, Sequence[str]] | None = None, known: Words | None = None) -> None:
        compiler = Compiler(given or rules(), known or words(), "story")
        cells = list(compiler.cells)
        self._vocabulary = {text: index for index, text in enumerate(sorted({cell.text for cell in cells}))}
        self.factors = {name: (NONE, *compiler.features.get(name, ())) for name in STORY_FACTORS}
        self.factors |= {
            name: (NONE, *sorted({getattr(cell, name) for cell in cells} - {NONE})) for name in TOKEN_FACTORS
        }
        self.homonyms, self.synonyms = homonyms(cells), synonyms(cells)
        self._cell_tokens = np.array([self._vocabulary[cell.text] for cell in cells], dtype=np.uint16)
        self._cell_factors = np.zeros((len(cells), len(self.factors)), dtype=np.int16)
        for column, name in enumerate(TOKEN_FACTORS, start=len(STORY_FACTORS)):
            self._cell_factors[:, column] = [self.factors[name].index(getattr(cell, name)) for cell in cells]
        columns = [STORY_FACTORS.index(name) if name in STORY_FACTORS else -1 for name in compiler.features]
        self._column = np.array(columns)  # of every feature; -1 if it is not a factor
        held_out = frozenset((compiler.ask("hero", hero), compiler.ask("place", place)) for hero, place in HELD_OUT)
        everything = compiler.symbols, len(compiler.features)
        self._ask = compiler.ask
        self._grammars = {True: FeatureGrammar(*everything, held_out), False: FeatureGrammar(*everything)}

    def story(
        self, index: int, seed: int, training: bool = False, given: Mapping[str, str] | None = None
    ) -> GrammarStory:
        """The story with this index in the stream of this seed; always the same.

        Args:
            index: number of the story, from 0.
            seed: seed of the stream.
            training: leave out the held-out pairs of hero and place.
            given: values of features that are fixed beforehand.

        Raises:
            ValueError: ``index`` is negative.
        """
        if index < 0:
            raise ValueError(f"a story's index is 0 or more, not {index}")
        draw = random.Random(f"{seed}/{index}").random  # a text seed is hashed with SHA-512: streams are unrelated
        fixed = [self._ask(name, value) for name, value in (given or {}).items()]
        cells, bound = self._grammars[training].say(draw, fixed)
        factors = self._cell_factors[cells]
        for place, feature, value in bound:
            if self._column[feature] >= 0:
                factors[place:, self._column[feature]] = value
        return GrammarStory(self._cell_tokens[cells], factors)

    def reader(self, training: bool = False) -> Reader:
        """An ideal reader of these stories: it knows the exact probability of every token given the previous ones."""
        return Reader(self._grammars[training], self._cell_tokens.tolist())

    def labels(self, packed: PackedStories) -> Int[np.ndarray, "packed factor"]:
        """The array of the factors."""
        return packed.extra("factors")

    def read(self, packed: PackedStories) -> Ideal:
        """What the ideal reader knows of each token, given all tokens of the story up to it; exact.

        Raises:
            ValueError: the grammar cannot generate the stories.
        """
        reader, factors = self.reader(), np.asarray(self.labels(packed))
        spans = list(zip(packed.offsets[:-1].tolist(), (packed.offsets[1:] - 1).tolist(), strict=True))
        guess, surprisal = np.zeros_like(factors), np.zeros(factors.shape[1])
        readings: list[Reading] = []
        title = f"reading {packed.folder.name}"
        for start, end in track(spans, title, console=Console(stderr=True), transient=True):
            reading = reader.read(packed.tokens[start:end].tolist())
            readings.append(reading)
            for column, belief in enumerate(self.beliefs(reading).values()):
                guess[start:end, column] = belief.argmax(1)
                known = belief[np.arange(end - start), factors[start:end, column]]
                surprisal[column] -= np.log(known.clip(1e-300)).sum()
        return Ideal(guess, surprisal / sum(end - start for start, end in spans), floor(readings))

    def beliefs(self, reading: Reading) -> dict[str, Float[np.ndarray, "token value"]]:
        """Factor -> the exact probability of each of its values at every token, given the tokens up to it."""
        tokens = int(reading.place.max()) + 1
        values = self._values(reading.terminal, reading.state)
        found = {name: np.zeros((tokens, len(known))) for name, known in self.factors.items()}
        for column, belief in enumerate(found.values()):
            np.add.at(belief, (reading.place, values[:, column]), reading.weight)
        return found

    def _values(
        self, terminals: Int[np.ndarray, "hypothesis"], states: Int[np.ndarray, "hypothesis feature"]
    ) -> Int[np.ndarray, "hypothesis factor"]:
        """The value of every factor for a terminal in a state."""
        values = self._cell_factors[terminals]
        values[:, self._column[self._column >= 0]] = states[:, self._column >= 0]
        return values

    def held_out(self, factors: Int[np.ndarray, "token factor"]) -> Bool[np.ndarray, "token"]:
        """Tokens at which the story has revealed a pair of hero and place that never occurs in training."""
        columns = [STORY_FACTORS.index(name) for name in self.pair]
        pairs = [[self.factors["hero"].index(hero), self.factors["place"].index(place)] for hero, place in HELD_OUT]
        return (factors[:, None, columns] == np.array(pairs)).all(2).any(1)

    def tokenizer(self) -> Tokenizer:
        """A tokenizer with one token per word including its leading space; lossless. End-of-text has the last id."""
        return tokenizers.of_words(self._vocabulary)


# --- from the lexicon


def rules() -> dict[str, Sequence[str]]:
    """The rules of the lexicon, and those generated from its tables."""
    return {
        **lexicon.RULES,
        **{
            sense: tuple(f"{word}@{sense}" for word in known.split())
            for senses in lexicon.SENSES.values()
            for sense, known in senses.items()
        },
        "name": named("name", lexicon.NAMES),
        "second_name": named("second", lexicon.SECOND_NAMES),
        **{
            f"passing_{passer}": tuple(f"{name}~p" for name in names.split())
            for passer, names in lexicon.PASSERS.items()
        },
        "adult": tuple(
            f"partner={partner} adult={adult} {adult}~o"
            for partner, adults in lexicon.ADULTS.items()
            for adult in adults.split()
        ),
        "hero_kind": tuple(
            f"hero={hero} {gender_of(hero)}(number=singular ({kinds(one)})|number=plural ({kinds(two)}))"
            for hero, (one, two) in lexicon.KINDS.items()
        ),
        "place": chosen_by("place", {place: names for place, (names, _, _) in lexicon.PLACES.items()}),
        "landmark": chosen_by("place", {place: one for place, (_, one, _) in lexicon.PLACES.items()}),
        "landmarks": chosen_by("place", {place: f"{one} {two}" for place, (_, one, two) in lexicon.PLACES.items()}),
        "goal": chosen_by("plot", {plot: goals for plot, (goals, *_) in lexicon.PLOTS.items()}),
        "weather_noun": chosen_by("weather", lexicon.WEATHER_NOUNS),
        "first_quality": tuple(f"plot={plot} {{{first}}}" for plot, (_, _, first, _) in lexicon.PLOTS.items()),
        "later_quality": tuple(f"plot={plot} {{{later}}}" for plot, (_, _, _, later) in lexicon.PLOTS.items()),
        "item": tuple(
            f"plot={plot} item={word} {word}@{sense}~t"
            for plot, (_, sense, *_) in lexicon.PLOTS.items()
            for word in lexicon.SENSES["thing"][sense].split()
        ),
    }


def chosen_by(feature: str, table: dict[str, str]) -> tuple[str, ...]:
    """One of the words that belong to the feature's value."""
    return tuple(f"{feature}={value} ({'|'.join(known.split())})" for value, known in table.items())


def named(feature: str, table: dict[str, str]) -> tuple[str, ...]:
    """A name of the heroes' gender, the same throughout the story."""
    return tuple(
        f"gender={gender} {feature}={name} {name}~h" for gender, names in table.items() for name in names.split()
    )


def kinds(known: str) -> str:
    """Words for the hero, as alternatives."""
    return "|".join(f"{word}~h" for word in known.split())


def gender_of(hero: str) -> str:
    """The gender that a kind of hero requires; none for animals."""
    return f"gender={lexicon.GENDERED[hero]} " if hero in lexicon.GENDERED else ""


def words() -> Words:
    """Every word of the lexicon, by key."""
    roles = {word: role for role, known in lexicon.WORD_CLASSES.items() for word in known.split()}
    for names in (lexicon.NAMES, lexicon.SECOND_NAMES, lexicon.PASSERS):
        roles |= dict.fromkeys(" ".join(names.values()).split(), "name")
    tables = [*lexicon.KINDS.values(), *(landmarks for _, *landmarks in lexicon.PLACES.values())]
    singular = [one for one, _ in tables] + [names for names, _, _ in lexicon.PLACES.values()]
    singular += [goals for goals, *_ in lexicon.PLOTS.values()]
    singular += [*lexicon.WEATHER_NOUNS.values(), *lexicon.ADULTS.values(), *lexicon.PASSERS]
    roles |= dict.fromkeys(" ".join(singular).split(), "noun_singular")
    roles |= dict.fromkeys(" ".join(two for _, two in tables).split(), "noun_plural")
    verbs = {forms.partition("/")[0]: verb(forms) for forms in lexicon.VERBS.split()}
    for forms in verbs.values():
        roles |= {forms.base: "verb_present", forms.third: "verb_present"}
        roles |= {forms.past: "verb_past", forms.past_plural: "verb_past"}
    categories = {sense: category for category, senses in lexicon.SENSES.items() for sense in senses}
    return Words(roles, verbs, categories)


def verb(forms: str) -> Verb:
    """Parse "go/goes/went", or a regular base."""
    base, *irregular = forms.split("/")
    third, past = irregular or (base + "s", base + ("d" if base.endswith("e") else "ed"))
    return Verb("are", third, past, "were") if base == "be" else Verb(base, third, past, past)


# --- from the cells


def homonyms(cells: Sequence[Cell]) -> dict[str, tuple[str, ...]]:
    """Token text -> its senses, for texts with at least two."""
    return {text: found for text, found in grouped(cells, "text", "sense").items() if len(found) > 1}


def synonyms(cells: Sequence[Cell]) -> dict[str, tuple[str, ...]]:
    """Sense -> the token texts that express it, for senses with at least two."""
    return {sense: found for sense, found in grouped(cells, "sense", "text").items() if len(found) > 1}


def grouped(cells: Sequence[Cell], by: str, what: str) -> dict[str, tuple[str, ...]]:
    """For cells with a sense: the distinct `what` of every `by`, sorted."""
    found: dict[str, set[str]] = {}
    for cell in cells:
        if cell.sense != NONE:
            found.setdefault(getattr(cell, by), set()).add(getattr(cell, what))
    return {key: tuple(sorted(known)) for key, known in sorted(found.items())}
