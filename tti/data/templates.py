"""Templates: the rules of `tti.data.lexicon` compiled into a feature grammar with labelled tokens as terminals."""

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Final, NamedTuple

from tti.data.features import Alternative

NONE: Final = "none"
REFERENTS: Final = {"h": "hero", "o": "other", "p": "passer", "t": "thing"}
PIECE: Final = re.compile(
    r"\s+|<(?P<open>[ho]) |(?P<close>[.,!?])>|(?P<stop>[.,!?])|\{(?P<rule>\w+)\}|\[(?P<verbs>[^]]+)\]|(?P<group>\()"
    r"|(?P<word>[A-Za-z_]+)(?:@(?P<sense>\w+))?(?:~(?P<referent>[hopt]))?"
)
ASK: Final = re.compile(r"\s*(\w+)=(\w+)")


class Cell(NamedTuple):
    """A labelled token: its text, including the space before it, and the values of the token factors."""

    text: str
    sense: str
    category: str
    referent: str
    role: str
    voice: str


class Style(NamedTuple):
    """How words are written at one place: the speaker, whether a space is omitted, whether to capitalize."""

    voice: str = "narration"
    glued: bool = False
    capital: bool = False


class Verb(NamedTuple):
    """Base, third person singular, past; for "be" the base is "are", and the past plural differs."""

    base: str
    third: str
    past: str
    past_plural: str


class Words(NamedTuple):
    """Everything that templates may name: word classes by key, verbs by base, categories by sense."""

    roles: Mapping[str, str]
    verbs: Mapping[str, Verb]
    categories: Mapping[str, str]


class Compiler:
    """Assigns a symbol to every rule in every style in which it is used, and a terminal to every cell.

    Args:
        rules: see `tti.data.lexicon`.
        words: the words that they name.
        start: the rule of the whole text.
    """

    def __init__(self, rules: Mapping[str, Sequence[str]], words: Words, start: str) -> None:
        self.rules, self.words = rules, words
        self.symbols: list[tuple[Alternative, ...]] = []
        self.cells: dict[Cell, int] = {}
        self.features: dict[str, dict[str, int]] = {}  # feature -> value -> its number, from 1
        self._numbers: dict[tuple[tuple[str, ...], Style], int] = {}
        self._symbol(tuple(rules[start]), Style(glued=True))

    def ask(self, feature: str, value: str) -> tuple[int, int]:
        """The numbers of a feature and of its value."""
        values = self.features.setdefault(feature, {})
        number = values.setdefault(value, len(values) + 1)
        return list(self.features).index(feature), number

    def _symbol(self, alternatives: tuple[str, ...], style: Style) -> int:
        """The item that stands for these alternatives."""
        key = alternatives, style
        if key not in self._numbers:
            self._numbers[key] = len(self.symbols)
            self.symbols.append(())
            self.symbols[self._numbers[key]] = tuple(self._alternative(text, style) for text in alternatives)
        return ~self._numbers[key]

    def _alternative(self, text: str, style: Style) -> Alternative:
        asks, position = [], 0
        while match := ASK.match(text, position):
            asks.append(self.ask(*match.groups()))
            position = match.end()
        return Alternative(tuple(asks), tuple(self._items(text, position, style)))

    def _items(self, text: str, position: int, style: Style) -> Iterator[int]:
        while position < len(text):
            match = PIECE.match(text, position)
            if match is None:
                raise ValueError(f"cannot read {text[position:]!r} in the template {text!r}")
            position = match.end()
            if not match.group().strip():
                continue
            if match["group"]:
                options, position = split_group(text, match.start())
                yield self._symbol(options, style)
            else:
                yield self._item(match, style)
            style = Style(voice_after(match, style.voice), glued=bool(match["open"]))

    def _item(self, match: re.Match[str], style: Style) -> int:
        if match["open"]:
            return self._mark(' "', REFERENTS[match["open"]])
        if match["close"]:
            return self._mark(match["close"] + '"', style.voice)
        if match["stop"]:
            return self._mark(match["stop"], style.voice)
        if match["rule"]:
            return self._rule(match["rule"], style)
        if match["verbs"]:
            verbs = [self._verb(verb) for verb in match["verbs"].split("|")]
            return self._symbol(verbs[0] if len(verbs) == 1 else tuple(f"({'|'.join(verb)})" for verb in verbs), style)
        return self._word(match["word"], match["sense"] or NONE, REFERENTS.get(match["referent"], NONE), style)

    def _rule(self, name: str, style: Style) -> int:
        lowered = name[0].lower() + name[1:]
        if lowered not in self.rules:
            raise ValueError(f"there is no rule {lowered!r}")
        return self._symbol(tuple(self.rules[lowered]), style._replace(capital=style.capital or name != lowered))

    def _verb(self, verb: str) -> tuple[str, ...]:
        """The forms of a verb, as alternatives."""
        key, _, suffix = verb.partition(":")
        forms = self.words.verbs[key]
        if suffix == "now":
            return (forms.base,)
        if suffix == "s":
            return f"tense=past {forms.past}", f"tense=present {forms.third}"
        past: tuple[str, ...] = (f"tense=past {forms.past}",)
        if forms.past != forms.past_plural:
            past = f"tense=past number=singular {forms.past}", f"tense=past number=plural {forms.past_plural}"
        present = f"tense=present number=singular {forms.third}", f"tense=present number=plural {forms.base}"
        return past + present

    def _mark(self, text: str, voice: str) -> int:
        return self._cell(Cell(text, NONE, NONE, NONE, "punctuation", voice))

    def _word(self, key: str, sense: str, referent: str, style: Style) -> int:
        category = self.words.categories.get(sense, NONE)
        roles = self.words.roles
        plain = roles.get(key) or roles.get(key[0].lower() + key[1:])
        role = {NONE: plain, "thing": "noun_singular"}.get(category, "adjective")
        if role is None:
            raise ValueError(f"the template word {key!r} is not in tti.data.lexicon")
        text = key.partition("_")[0]
        text = text[0].upper() + text[1:] if style.capital else text
        return self._cell(Cell(text if style.glued else " " + text, sense, category, referent, role, style.voice))

    def _cell(self, cell: Cell) -> int:
        return self.cells.setdefault(cell, len(self.cells))


def voice_after(match: re.Match[str], voice: str) -> str:
    """The speaker after a piece."""
    if match["open"]:
        return REFERENTS[match["open"]]
    return "narration" if match["close"] else voice


def split_group(text: str, start: int) -> tuple[tuple[str, ...], int]:
    """The alternatives of the group whose parenthesis is at `start`, and the end of the group."""
    depth, in_verbs, options, last = 0, False, [], start + 1
    for position in range(start, len(text)):
        character = text[position]
        in_verbs = character == "[" or (in_verbs and character != "]")
        depth += (character == "(") - (character == ")")
        if depth == 0 or (depth == 1 and character == "|" and not in_verbs):
            options.append(text[last:position])
            last = position + 1
        if depth == 0:
            return tuple(options), position + 1
    raise ValueError(f"a group is not closed in {text!r}")
