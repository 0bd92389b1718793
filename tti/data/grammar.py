"""A story grammar: unlimited small stories whose every token carries the factors it was made from.

What a neuron means can be scored exactly on such stories: its best F1 over the values of a factor, and whether
it follows the word or the meaning, since one word has several meanings (`homonyms`) and one meaning several
words (`synonyms`). Words and templates are in `tti.data.lexicon`.

Factors of the story: every token carries the value, also before the story has shown it. A causal model cannot
know it there, so the best F1 that can be reached is below 1.

    hero       kind of the hero or heroes: girl, boy, dog, ...
    number     singular: one hero; plural: two of a kind
    tense      of the narration: past or present. Speech has a tense of its own
    place      where it happens: park, beach, ...
    weather    sunny, rainy, snowy, windy
    plot       lost, broken, stuck, wish, rescue, fright, share, care

Factors of the token: `none` where they do not apply.

    sense      the concept that a content word expresses. Inflections and synonyms share it, homonyms do not.
               Function words, names, auxiliaries and punctuation have none
    category   the kind of that concept: animal, tool, move, speech, emotion, color, ...
    feeling    the feeling that the word expresses, as adjective (glad), verb (grinned) or noun (joy), also
               where it is negated or is not the hero's: it is the meaning of the word
    referent   who or what the token refers to: the hero (also "girl", "she", "I" in the hero's speech), the
               other character of the plot, both, or the thing (the object of the plot). Possessives refer to
               the possessor
    role       word class with inflection: noun_singular, noun_plural, name, pronoun (possessives too),
               verb_base (infinitives and imperatives), verb_present, verb_past, adjective, adverb, determiner,
               preposition (infinitive "to" too), conjunction, interjection, punctuation
    voice      whose words these are: narration, hero, other; quotation marks belong to what they enclose

Repeats. Cast, setting, every beat and every group of alternatives are drawn independently. Two stories, of the
same seed or of two, are equal with a probability of about 1e-16 (the product of the collision probabilities of
the draws), so that a corpus of a million stories holds a repeat, or shares one with another seed's, once in 1e4.
"""

import random
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Final, NamedTuple, TypeVar

import numpy as np
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

from tti.data import lexicon
from tti.data.sources import END_OF_TEXT

UNKNOWN: Final = "<|unk|>"
SPACE: Final = "\u0120"  # the space in the byte alphabet of GPT-2


@dataclass(frozen=True)
class GrammarStory:
    """One story.

    tokens: uint16 [token], without end-of-text. factors: int16 [token, factor], the value's index, 0 = none.
    """

    tokens: np.ndarray
    factors: np.ndarray


class Word(NamedTuple):
    """A word form with what it expresses wherever it occurs."""

    text: str
    role: str
    sense: str = "none"
    category: str = "none"
    feeling: str = "none"


class Cell(NamedTuple):
    """A token in a context: its text and the values of the token factors, in the order of TOKEN_FACTORS."""

    text: str
    sense: str
    category: str
    feeling: str
    referent: str
    role: str
    voice: str


STORY_FACTORS: Final = ("hero", "number", "tense", "place", "weather", "plot")
TOKEN_FACTORS: Final = Cell._fields[1:]
REFERENTS: Final = {"h": "hero", "o": "other", "b": "both", "t": "thing"}
TENSES: Final = ("past", "present")
NUMBERS: Final = ("singular", "plural")


# --- lexicon


class Entry(NamedTuple):
    """One word of the lexicon: the key templates call it by, its forms, and what it expresses."""

    key: str
    forms: tuple[str, ...]
    sense: str
    category: str
    feeling: str


def entries(section: str) -> Iterator[Entry]:
    """The words of a section of the lexicon, in order, as the docstring of `tti.data.lexicon` describes."""
    category = ""
    for item in section.split():
        if item.endswith(":"):
            category = item[:-1]
            continue
        body, _, feeling = item.partition("@")
        sense, _, words = body.rpartition("=")
        lone = sense and "," not in words
        for word in words.split(","):
            forms = tuple(word.split("/"))
            meaning = "none" if category == "none" else sense or forms[0]
            yield Entry(sense if lone else forms[0], forms, meaning, category, feeling or "none")


def verb_forms(forms: tuple[str, ...]) -> tuple[str, str, str]:
    """(base, third person singular, past), regular where the lexicon gives the base only."""
    if len(forms) > 1:
        base, third, past = forms
        return base, third, past
    (base,) = forms
    if re.search("[^aeiou]y$", base):
        return base, base[:-1] + "ies", base[:-1] + "ied"
    third = base + ("es" if re.search("(s|sh|ch|x)$", base) else "s")
    return base, third, base + ("d" if base.endswith("e") else "ed")


class Lexicon:
    """Looks words up by the key templates call them by."""

    def __init__(self) -> None:
        self.words: dict[str, Word] = {}
        self.verbs: dict[str, dict[str, Word]] = {}
        self.entries: list[Entry] = []
        for role, texts in lexicon.FUNCTION_WORDS.items():
            for key in texts.split():
                self._add(key, Word(key.partition("_")[0], role))
        for names in lexicon.NAMES.values():
            for name in names.split():
                self._add(name, Word(name, "name"))
        for section, add in (
            (lexicon.NOUNS, self._add_noun),
            (lexicon.ADJECTIVES, partial(self._add_plain, "adjective")),
            (lexicon.ADVERBS, partial(self._add_plain, "adverb")),
            (lexicon.AUXILIARIES + lexicon.VERBS, self._add_verb),
        ):
            for entry in entries(section):
                self.entries.append(entry)
                add(entry)

    def word(self, key: str) -> tuple[Word, bool]:
        """The word a template calls by `key`, and whether the template writes it with a capital."""
        if key in self.words:
            return self.words[key], False
        lowered = key[0].lower() + key[1:]
        if lowered not in self.words:
            raise ValueError(f"the template word {key!r} is not in tti.data.lexicon")
        return self.words[lowered], True

    def _add(self, key: str, word: Word) -> None:
        assert key not in self.words, f"two words are called {key!r}"
        self.words[key] = word

    def _add_plain(self, role: str, entry: Entry) -> None:
        self._add(entry.key, Word(entry.forms[0], role, *entry[2:]))

    def _add_noun(self, entry: Entry) -> None:
        plural_only = len(entry.forms) == 1 and entry.forms[0] in lexicon.PLURAL_ONLY
        role = "noun_plural" if plural_only else "noun_singular"
        self._add(entry.key, Word(entry.forms[0], role, *entry[2:]))
        for plural in entry.forms[1:]:
            self._add(plural, Word(plural, "noun_plural", *entry[2:]))

    def _add_verb(self, entry: Entry) -> None:
        base, third, past = verb_forms(entry.forms)
        be = base == "be"
        meaning = entry[2:]
        self.verbs[entry.key] = {
            "plural": Word("are" if be else base, "verb_present", *meaning),
            "third": Word(third, "verb_present", *meaning),
            "past": Word(past, "verb_past", *meaning),
            "past_plural": Word("were" if be else past, "verb_past", *meaning),
        }
        self._add(entry.key, Word(base, "verb_base", *meaning))


# --- templates


class Variant(NamedTuple):
    """How words are written at one place: who speaks, no space before, a capital, after "a" (or "A")."""

    voice: str
    glued: bool
    capital: bool
    article: str


Cells = tuple[int, ...]  # indices into the table of cells


class Slot(NamedTuple):
    """A place for the words bound to `name` for the whole story, in the variant of that index."""

    name: str
    variant: int


class Choice(NamedTuple):
    """One of several sequences, drawn anew at each use."""

    options: "tuple[Pieces, ...]"


Pieces = tuple[Cells | Slot | Choice, ...]

PIECE: Final = re.compile(
    r"\s+|<(?P<open>[ho]) |(?P<close>[.,!?])>|(?P<stop>[.,!?])|\{(?P<slot>\w+)\}|\[(?P<verbs>[^]]+)\]"
    r"|(?P<group>\()|(?P<word>[A-Za-z_]+)(?:~(?P<referent>[hobt]))?"
)
MACRO: Final = re.compile(r"\{(\w+)(:s)?\}")


def expand(text: str, macros: Mapping[str, str]) -> str:
    """`text` with its macros replaced, those within macros too; slots stay."""

    def replacement(match: re.Match[str]) -> str:
        name, third_person = match.groups()
        key = name[0].lower() + name[1:]
        if key not in macros:
            return match.group()
        body = macros[key]
        if third_person:
            body = re.sub(r"(?=[|\]])", ":s", body)
        if name[0].isupper():
            body = re.sub("[A-Za-z]", lambda letter: letter.group().upper(), body, count=1)
        return expand(body, macros)

    return MACRO.sub(replacement, text)


def split_group(text: str, start: int) -> tuple[list[str], int]:
    """The alternatives of the group whose parenthesis is at `start`, and where the group ends."""
    depth, in_verbs, options, last = 0, False, [], start + 1
    for position in range(start, len(text)):
        character = text[position]
        in_verbs = character == "[" or (in_verbs and character != "]")
        depth += (character == "(") - (character == ")")
        if depth == 0 or (depth == 1 and character == "|" and not in_verbs):
            options.append(text[last:position])
            last = position + 1
        if depth == 0:
            return options, position + 1
    raise ValueError(f"a group is not closed in {text!r}")


class Compiler:
    """Turns templates into pieces, and gives every cell and every variant of a slot that occurs an index."""

    def __init__(self) -> None:
        self.lexicon = Lexicon()
        self.cells: dict[Cell, int] = {}
        self.variants: dict[Variant, int] = {}
        self.slots: dict[str, set[int]] = {}

    def template(self, text: str, tense: str, number: str, start: bool) -> Pieces:
        """`text` as it is told in that tense of that many heroes; `start`: at the beginning of the story."""
        heroes = {name: forms[NUMBERS.index(number)] for name, forms in lexicon.HERO_MACROS.items()}
        expanded = expand(text, lexicon.MACROS | heroes)
        return self._pieces(expanded, Variant("narration", start, False, ""), tense, number)

    def filler(self, text: str, variant: Variant) -> Cells:
        """Words that are bound to a slot, written as `variant` says: neither verbs nor alternatives."""
        pieces = self._pieces(text, variant, "past", "singular")
        return tuple(cell for piece in pieces for cell in piece if isinstance(cell, int))

    def _pieces(self, text: str, state: Variant, tense: str, number: str) -> Pieces:
        pieces: list[Cells | Slot | Choice] = []
        position = 0
        while position < len(text):
            match = PIECE.match(text, position)
            if match is None:
                raise ValueError(f"cannot read {text[position:]!r} in the template {text!r}")
            position = match.end()
            state, piece = self._piece(match, state, tense, number)
            if match["group"]:
                options, position = split_group(text, match.start())
                piece = Choice(tuple(self._pieces(option, state, tense, number) for option in options))
                assert not state.article or all(option.strip() for option in options), f"an article alone: {text!r}"
                state = state._replace(glued=False, article="")
            if piece:
                pieces.append(piece)
        return merged(pieces)

    def _piece(
        self, match: re.Match[str], state: Variant, tense: str, number: str
    ) -> tuple[Variant, Cells | Slot | Choice]:
        """The state after the matched piece, and what it became: () for what is not said by itself."""
        after = state._replace(glued=False, capital=False, article="")
        if match["open"]:
            speech = after._replace(voice=REFERENTS[match["open"]], glued=True)
            return speech, self._mark(' "', speech.voice)
        if match["close"]:
            return after._replace(voice="narration"), self._mark(match["close"] + '"', state.voice)
        if match["stop"]:
            return after, self._mark(match["stop"], state.voice)
        if match["slot"]:
            return after, self._slot(match["slot"], state)
        if match["verbs"]:
            options = (self._verb(verb, state, tense, number) for verb in match["verbs"].split("|"))
            return after, Choice(tuple((cells,) for cells in options))
        if match["word"] in ("a", "A"):
            return state._replace(article=match["word"]), ()
        if match["word"]:
            word, capital = self.lexicon.word(match["word"])
            referent = REFERENTS.get(match["referent"], "none")
            return after, self._word(word, referent, state._replace(capital=capital or state.capital))
        return state, ()

    def _mark(self, text: str, voice: str) -> Cells:
        return (self._cell(Cell(text, "none", "none", "none", "none", "punctuation", voice)),)

    def _slot(self, name: str, state: Variant) -> Slot:
        variant = state._replace(capital=name[0].isupper())
        index = self.variants.setdefault(variant, len(self.variants))
        key = name[0].lower() + name[1:]
        self.slots.setdefault(key, set()).add(index)
        return Slot(key, index)

    def _verb(self, verb: str, state: Variant, tense: str, number: str) -> Cells:
        key, _, suffix = verb.partition(":")
        person = {"": "third" if number == "singular" else "plural", "s": "third", "p": "plural", "now": "plural"}
        if suffix == "past" or (tense == "past" and suffix != "now"):
            form = "past_plural" if person.get(suffix) == "plural" else "past"
        else:
            form = person[suffix]
        word = self.lexicon.verbs[key[0].lower() + key[1:]][form]
        return self._word(word, "none", state._replace(capital=key[0].isupper()))

    def _word(self, word: Word, referent: str, state: Variant) -> Cells:
        """The cells of a word, with the article before it that the state asks for."""
        text = word.text[0].upper() + word.text[1:] if state.capital else word.text
        cell = Cell(text, word.sense, word.category, word.feeling, referent, word.role, state.voice)
        if not state.article:
            return (self._cell(cell if state.glued else cell._replace(text=" " + text)),)
        article = state.article + ("n" if word.text[0] in "aeiou" else "")
        determiner = Cell(
            article if state.glued else " " + article, "none", "none", "none", "none", "determiner", state.voice
        )
        return self._cell(determiner), self._cell(cell._replace(text=" " + text))

    def _cell(self, cell: Cell) -> int:
        return self.cells.setdefault(cell, len(self.cells))


def merged(pieces: Iterable[Cells | Slot | Choice]) -> Pieces:
    """The same sequence with neighbouring cells joined, and choices of one option opened: fewer steps per story."""
    joined: list[Cells | Slot | Choice] = []
    for piece in pieces:
        parts = piece.options[0] if isinstance(piece, Choice) and len(piece.options) == 1 else (piece,)
        for part in parts:
            last = joined[-1] if joined else None
            if last is not None and not isinstance(part, Slot | Choice) and not isinstance(last, Slot | Choice):
                joined[-1] = last + part
            else:
                joined.append(part)
    return tuple(joined)


# --- stories

HEROES: Final = tuple(lexicon.HEROES)
PLACES: Final = tuple(lexicon.PLACES)
WEATHERS: Final = tuple(lexicon.SCENES)
PLOTS: Final = tuple(lexicon.PLOTS)
GENDERS: Final = tuple(lexicon.NAMES)
NAMES: Final = {gender: tuple(names.split()) for gender, names in lexicon.NAMES.items()}
ADULTS: Final = tuple(lexicon.ADULTS)
KIN: Final = tuple(adult for adult, (_, belongs) in lexicon.ADULTS.items() if belongs)
ANIMALS: Final = {"pet": lexicon.PETS, "prowler": lexicon.PROWLERS}
TENSE_MARK: Final = re.compile(r"(?:(?P<tense>past|present): )?(?P<text>.*)")
ASIDE_PROBABILITY: Final = 0.5
PRONOUNS: Final = {"female": ("she", "her", "her"), "male": ("he", "him", "his")}  # subject, object, possessive
T = TypeVar("T")
Draw = Callable[[], float]
Bound = dict[str, dict[int, Cells]]


class Script(NamedTuple):
    """All templates, compiled for one tense and number."""

    openings: tuple[Pieces, ...]
    scenes: dict[str, tuple[Pieces, ...]]
    asides: dict[str, tuple[Pieces, ...]]
    plots: dict[str, tuple[tuple[Pieces, ...], ...]]
    farewells: tuple[Pieces, ...]


def slot_texts() -> dict[str, list[str]]:
    """Everything that can be bound to each slot."""
    names = [name for section in NAMES.values() for name in section]
    subjects, objects, possessives = zip(*PRONOUNS.values(), strict=True)
    plots = lexicon.PLOTS.values()
    places = lexicon.PLACES.values()
    return {
        "name": [f"{name}~h" for name in names],
        "second_name": [f"{name}~h" for name in names],
        "kind": [kind for forms in lexicon.HEROES.values() for kinds in forms for kind in hero_texts(kinds)],
        "he_one": [f"{word}~h" for word in subjects],
        "him_one": [f"{word}~h" for word in objects],
        "his_one": [f"{word}~h" for word in possessives],
        "he_other": [f"{word}~o" for word in subjects],
        "him_other": [f"{word}~o" for word in objects],
        "to_place": [text for to, _ in places for text in to.split("|")],
        "at_place": [text for _, at in places for text in at.split("|")],
        "object": sorted({f"{thing}~t" for plot in plots for thing in plot.objects}),
        "other": [f"{name}~o" for name in names]
        + [
            adult_phrase(adult, whose)
            for adult, (_, kin) in lexicon.ADULTS.items()
            for whose in ((*possessives, "their") if kin else ("the",))
        ],
        "child": ["girl~o", "boy~o"],
        "pet": [f"{animal}~o" for animal in lexicon.PETS],
        "prowler": [f"{animal}~o" for animal in lexicon.PROWLERS],
    }


def hero_texts(kinds: str) -> list[str]:
    """The words for a kind of hero, referring to the hero."""
    return [f"{kind}~h" for kind in kinds.split("|")]


def adult_phrase(adult: str, whose: str) -> str:
    """ "her mom", "the old man", with the referents of both words."""
    *adjectives, noun = adult.split()
    return " ".join([whose if whose == "the" else f"{whose}~h", *adjectives, f"{noun}~o"])


def pick(draw: Draw, options: Sequence[T]) -> T:
    """Uniform. By `random()` alone, the only method of random.Random whose stream Python promises to keep."""
    return options[int(draw() * len(options))]


def emit(pieces: Pieces, bound: Bound, draw: Draw, out: list[int]) -> None:
    """Append the cells of `pieces` to `out`."""
    for piece in pieces:
        if isinstance(piece, Slot):
            out += bound[piece.name][piece.variant]
        elif isinstance(piece, Choice):
            emit(pick(draw, piece.options), bound, draw, out)
        else:
            out += piece


class StoryGrammar:
    """Stories of simple words with known factors; see the module's docstring for what each factor means.

    `factors` maps each factor to its values, of which the first is "none"; the columns of
    `GrammarStory.factors` are in its order, those of the story (`STORY_FACTORS`) first. `homonyms` maps a token's
    text, with its leading space, to the senses it occurs in, two or more. `synonyms` maps a sense for which
    there is more than one word to all the token texts that express it, inflected ones too. Token ids are those
    of `tokenizer()`.
    """

    factors: dict[str, tuple[str, ...]]
    homonyms: dict[str, tuple[str, ...]]
    synonyms: dict[str, tuple[str, ...]]

    def __init__(self) -> None:
        compiler = Compiler()
        self._scripts = {
            (tense, number): compile_script(compiler, tense, number) for tense in TENSES for number in NUMBERS
        }
        self._fillers = compile_fillers(compiler)
        self._rivals = other_animals(compiler.lexicon)
        cells = list(compiler.cells)
        self._vocabulary = {text: index for index, text in enumerate(sorted({cell.text for cell in cells}))}
        self.factors = factor_values(cells)
        self.homonyms = homonyms(cells)
        self.synonyms = synonyms(cells, compiler.lexicon)
        self._cell_tokens = np.array([self._vocabulary[cell.text] for cell in cells], dtype=np.uint16)
        self._cell_factors = np.zeros((len(cells), len(self.factors)), dtype=np.int16)
        for column, name in enumerate(TOKEN_FACTORS, start=len(STORY_FACTORS)):
            index = {value: number for number, value in enumerate(self.factors[name])}
            self._cell_factors[:, column] = [index[getattr(cell, name)] for cell in cells]
        self._story_index = {
            name: {value: number for number, value in enumerate(self.factors[name])} for name in STORY_FACTORS
        }

    def story(self, index: int, seed: int) -> GrammarStory:
        """The story of that index in the stream of that seed, always the same. ValueError for a negative index."""
        if index < 0:
            raise ValueError(f"a story's index is 0 or more, not {index}")
        draw = random.Random(f"{seed}/{index}").random  # a text seed is hashed with SHA-512: streams are unrelated
        cells, values = self._tell(draw)
        factors = self._cell_factors[cells]
        factors[:, : len(STORY_FACTORS)] = [
            self._story_index[name][value] for name, value in zip(STORY_FACTORS, values, strict=True)
        ]
        return GrammarStory(self._cell_tokens[cells], factors)

    def tokenizer(self) -> Tokenizer:
        """One token per word with its leading space; decodes what it encodes. End-of-text has the last id."""
        vocabulary = {text.replace(" ", SPACE): index for text, index in self._vocabulary.items()}
        for special in (UNKNOWN, END_OF_TEXT):
            vocabulary[special] = len(vocabulary)
        tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token=UNKNOWN))
        tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)
        tokenizer.decoder = decoders.ByteLevel()
        tokenizer.add_special_tokens([AddedToken(text, special=True) for text in (UNKNOWN, END_OF_TEXT)])
        return tokenizer

    def _tell(self, draw: Draw) -> tuple[list[int], tuple[str, ...]]:
        """The cells of a story and the values of its story factors, in the order of STORY_FACTORS."""
        hero, number, tense = pick(draw, HEROES), pick(draw, NUMBERS), pick(draw, TENSES)
        place, weather, plot = pick(draw, PLACES), pick(draw, WEATHERS), pick(draw, PLOTS)
        bound = self._bind(draw, hero, number, place, lexicon.PLOTS[plot])
        script = self._scripts[tense, number]
        cells: list[int] = []
        emit(pick(draw, script.openings), bound, draw, cells)
        emit(pick(draw, script.scenes[weather]), bound, draw, cells)
        if draw() < ASIDE_PROBABILITY:
            emit(pick(draw, script.asides[place]), bound, draw, cells)
        for beat in script.plots[plot]:
            emit(pick(draw, beat), bound, draw, cells)
        emit(pick(draw, script.farewells), bound, draw, cells)
        return cells, (hero, number, tense, place, weather, plot)

    def _bind(self, draw: Draw, hero: str, number: str, place: str, plot: lexicon.Plot) -> Bound:
        gender = {"girl": "female", "boy": "male"}.get(hero) or pick(draw, GENDERS)
        subject, object_, possessive = PRONOUNS[gender]
        names = NAMES[gender]
        first, step = int(draw() * len(names)), 1 + int(draw() * (len(names) - 1))
        to_place, at_place = lexicon.PLACES[place]
        cast = {
            "name": f"{names[first]}~h",
            "second_name": f"{names[(first + step) % len(names)]}~h",
            "kind": f"{pick(draw, lexicon.HEROES[hero][number == 'plural'].split('|'))}~h",
            "he_one": f"{subject}~h",
            "him_one": f"{object_}~h",
            "his_one": f"{possessive}~h",
            "to_place": pick(draw, to_place.split("|")),
            "at_place": pick(draw, at_place.split("|")),
            "object": f"{pick(draw, plot.objects)}~t",
        }
        whose = possessive if number == "singular" else "their"
        cast |= self._bind_other(draw, plot.other, hero, whose, taken=(cast["name"], cast["second_name"]))
        return {slot: self._fillers[slot][text] for slot, text in cast.items()}

    def _bind_other(self, draw: Draw, kind: str, hero: str, whose: str, taken: tuple[str, str]) -> dict[str, str]:
        """The words for the other character: an animal unlike the hero, a child of another name, or an adult."""
        if kind in ANIMALS:
            return {kind: f"{pick(draw, self._rivals[kind, hero])}~o"}
        if kind == "child":
            gender = pick(draw, GENDERS)
            phrase = f"{pick(draw, [name for name in NAMES[gender] if f'{name}~h' not in taken])}~o"
        else:
            adult = pick(draw, KIN if kind == "kin" else ADULTS)
            gender, belongs = lexicon.ADULTS[adult]
            phrase = adult_phrase(adult, whose if belongs else "the")
        subject, object_, _ = PRONOUNS[gender]
        child = "girl~o" if gender == "female" else "boy~o"
        return {"other": phrase, "he_other": f"{subject}~o", "him_other": f"{object_}~o", "child": child}


# --- what is prepared


def compile_script(compiler: Compiler, tense: str, number: str) -> Script:
    """The templates that can be told in that tense."""

    def compiled(templates: Sequence[str], start: bool = False) -> tuple[Pieces, ...]:
        told = (TENSE_MARK.fullmatch(template) for template in templates)
        return tuple(
            compiler.template(match["text"], tense, number, start)
            for match in told
            if match and match["tense"] in (None, tense)
        )

    return Script(
        openings=compiled(lexicon.OPENINGS, start=True),
        scenes={weather: compiled(templates) for weather, templates in lexicon.SCENES.items()},
        asides={place: compiled(lexicon.ASIDES + own) for place, own in lexicon.PLACE_ASIDES.items()},
        plots={name: tuple(compiled(beat) for beat in plot.beats) for name, plot in lexicon.PLOTS.items()},
        farewells=compiled(lexicon.FAREWELLS),
    )


def compile_fillers(compiler: Compiler) -> dict[str, dict[str, dict[int, Cells]]]:
    """slot -> text -> variant -> cells, for the variants in which the compiled templates use the slot."""
    variants, texts = list(compiler.variants), slot_texts()
    if unknown := compiler.slots.keys() - texts.keys():
        raise ValueError(f"neither macros nor slots: {sorted(unknown)}")
    return {
        slot: {text: {index: compiler.filler(text, variants[index]) for index in sorted(used)} for text in texts[slot]}
        for slot, used in compiler.slots.items()
    }


def other_animals(words: Lexicon) -> dict[tuple[str, str], tuple[str, ...]]:
    """(pet or prowler, hero) -> the animals that are not of the hero's kind."""
    return {
        (kind, hero): tuple(animal for animal in animals if words.words[animal].sense != hero)
        for kind, animals in ANIMALS.items()
        for hero in lexicon.HEROES
    }


def factor_values(cells: Sequence[Cell]) -> dict[str, tuple[str, ...]]:
    """The values of every factor, "none" first, those of the token factors sorted."""
    values: dict[str, Iterable[str]] = {
        "hero": lexicon.HEROES, "number": NUMBERS, "tense": TENSES, "place": lexicon.PLACES,
        "weather": lexicon.SCENES, "plot": lexicon.PLOTS,
    }  # fmt: skip
    for name in TOKEN_FACTORS:
        values[name] = sorted({getattr(cell, name) for cell in cells} - {"none"})
    return {name: ("none", *known) for name, known in values.items()}


def homonyms(cells: Sequence[Cell]) -> dict[str, tuple[str, ...]]:
    """Token text -> its senses, for texts of two senses or more."""
    senses: dict[str, set[str]] = {}
    for cell in cells:
        senses.setdefault(cell.text, set()).add(cell.sense)
    known = {text: tuple(sorted(found - {"none"})) for text, found in sorted(senses.items())}
    return {text: found for text, found in known.items() if len(found) > 1}


def synonyms(cells: Sequence[Cell], words: Lexicon) -> dict[str, tuple[str, ...]]:
    """Sense -> the token texts that express it, for senses that more than one word of the cells has."""
    texts: dict[str, set[str]] = {}
    for cell in cells:
        texts.setdefault(cell.sense, set()).add(cell.text)
    lemmas: dict[str, set[str]] = {}
    for entry in words.entries:
        if texts.get(entry.sense, set()) & {shape for form in entry.forms for shape in token_shapes(form)}:
            lemmas.setdefault(entry.sense, set()).add(entry.key)
    return {sense: tuple(sorted(texts[sense])) for sense, keys in lemmas.items() if len(keys) > 1 and sense != "none"}


def token_shapes(text: str) -> tuple[str, str, str, str]:
    """A word as it may stand in a story: after a space or not, with a capital or not."""
    capital = text[0].upper() + text[1:]
    return text, capital, " " + text, " " + capital
