"""Words and rules of the story grammar: data only, interpreted by `tti.data.grammar`.

Words and senses are many to many: every sense has at least three words, every word with a sense at least two senses.
Which sense is meant follows from the topic of the sentence or from the plot, seldom from the previous word.

Rules. A rule is a list of alternatives; one is drawn each time the rule is used.
    weather=sunny  at the start of an alternative or group: open if the weather is sunny or not yet drawn, and draws it
    {rule}         the expansion of a rule; {Rule} capitalized; {bright}, {animal}, ...: any word of that sense
    (x|y z)        a group: one of the alternatives
    [verb]         in the narration's tense, agreeing with the hero or heroes; [v|w] draws a verb
    [verb:s]       in the narration's tense, third person singular; [verb:now] present, as after I, we, you, they
    <h ...>        speech of the hero, <o ...> of the other character
    word@sense     the word in that sense
    word~h         the token refers to the hero (h), the other character (o), the passer-by (p) or the thing (t)
The grammar inserts spaces; a capital in a template is kept.
"""

SENSES = {  # category -> sense -> its words
    "trait": {
        "kind": "sweet warm soft tender",
        "clever": "bright sharp quick",
        "strong": "strong tough hard",
        "lively": "wild quick strong",
    },
    "feeling": {
        "happy": "bright light sunny",
        "sad": "blue low heavy",
        "angry": "hot sour bitter",
        "afraid": "cold white small",
    },
    "weather": {
        "sunny": "sunny bright clear warm fine",
        "rainy": "wet grey damp",
        "snowy": "white cold icy",
        "windy": "wild rough fresh",
    },
    "quality": {
        "taste": "sweet sour bitter sharp strong fresh",
        "touch": "soft tough tender hard wet damp icy rough",
        "size": "small low heavy light",
        "shine": "bright clear light",
        "heat": "hot cold warm cool",
        "good": "fine cool sweet",
        "color": "blue white grey",
    },
    "thing": {
        "animal": "duck lamb fish chicken",
        "meat": "duck lamb fish chicken",
        "toy": "duck lamb fish chicken",
        "fruit": "orange peach plum cherry",
        "juice": "orange peach plum cherry",
        "paint": "orange peach plum cherry",
    },
}

KINDS = {  # hero -> words for one, for two
    "girl": ("girl lass princess", "girls lasses princesses"),
    "boy": ("boy lad prince", "boys lads princes"),
    "dog": ("dog puppy hound", "dogs puppies hounds"),
    "cat": ("cat kitten kitty", "cats kittens kitties"),
    "rabbit": ("rabbit bunny hare", "rabbits bunnies hares"),
    "bear": ("bear cub panda", "bears cubs pandas"),
    "duck": ("duck duckling drake", "ducks ducklings drakes"),
}
GENDERED = {"girl": "female", "boy": "male"}
NAMES = {
    "female": "Lily Mia Anna Sue Lucy Emma Molly Daisy",
    "male": "Tom Ben Max Sam Tim Jack Leo Finn",
}
SECOND_NAMES = {"female": "Ella Nora Ruby Zoe Kate Ivy", "male": "Bob Joe Dan Nick Paul Hugo"}
PASSERS = {"girl": "Amy Jane Rosa Tina", "boy": "Bill Carl Fred Luke"}
ADULTS = {"woman": "mom aunt grandma sister", "man": "dad uncle grandpa brother"}

PLACES = {  # place -> its names, landmarks, landmarks in the plural
    "park": ("park playground meadow", "swing slide bench", "swings slides benches"),
    "beach": ("beach shore seaside", "dune pier boat", "dunes piers boats"),
    "forest": ("forest woods grove", "log fern stump", "logs ferns stumps"),
    "farm": ("farm ranch farmyard", "fence tractor haystack", "fences tractors haystacks"),
    "garden": ("garden orchard yard", "hedge shed gate", "hedges sheds gates"),
    "river": ("river stream brook", "bridge dam mill", "bridges dams mills"),
}
PLOTS = {  # plot -> what is empty at home, the sense of the thing that fills it, the senses of its two qualities
    "pet": ("cage stable kennel", "animal", "lively", "size"),
    "meal": ("pot oven pan", "meat", "heat", "taste"),
    "toy": ("cradle playroom nursery", "toy", "color", "size"),
    "fruit": ("basket bowl tray", "fruit", "touch", "taste"),
    "drink": ("jug mug bottle", "juice", "heat", "good"),
    "paint": ("canvas easel frame", "paint", "shine", "good"),
}
WEATHER_NOUNS = {
    "sunny": "sun sunshine sunlight",
    "rainy": "rain drizzle shower",
    "snowy": "snow frost ice",
    "windy": "wind breeze gale",
}

VERBS = """
be/is/was go/goes/went walk run/runs/ran live look see/sees/saw find/finds/found meet/meets/met
say/says/said ask know/knows/knew think/thinks/thought want seem feel/feels/felt hold/holds/held have/has/had
keep/keeps/kept give/gives/gave show share leave/leaves/left wave come/comes/came need stay
"""

# The word class of every other word; "that_conj" is written "that".
WORD_CLASSES = {
    "pronoun": "I me my we us our you he him his she her they them their it who what everyone something",
    "determiner": "a an the this that one two no",
    "preposition": "in at on by to with near past for from of through after close far",
    "conjunction": "and so where that_conj",
    "adverb": "once upon ago long then soon now there still here not anymore too very so_adverb quite rather home just"
    " by_adverb no_adverb longer last",
    "verb_base": "fill hold_base have_base keep_base need_base",
    "verb_present": "is are am do",
    "noun_singular": "time hill story day morning afternoon evening way end thank bag book hat help_noun home_noun",
    "adjective": "named empty",
}

RULES = {
    "story": ("{opening} {scene} {wish} {meeting} {passing} {asking} {middle} {giving} {relief} {farewell}",),
    "middle": ("{finding} {describing} {standing}", "{finding} {describing}"),
    "opening": (
        "tense=past Once upon a time, there [be] {intro} named {hero}.",
        "tense=past Long ago, there [live] {intro} named {hero}.",
        "tense=past On a hill [live] {intro} named {hero}.",
        "tense=present Here [be] {intro} named {hero}.",
        "tense=present This is a story of {intro} named {hero}.",
        "tense=present Near a hill [live] {intro} named {hero}.",
    ),
    "intro": ("number=singular a {rather} {trait} {hero_kind}", "number=plural two {rather} {trait} {hero_kind}"),
    "trait": ("trait=kind {kind}", "trait=clever {clever}", "trait=strong {strong}"),
    "scene": (
        "One {rather} {weather} {hour}, {he} [go|walk|run] to the {place}.",
        "It [be:s] {rather} {weather} that {hour}, and {he} [go|walk|run] to the {place}.",
        "One {hour}, {he} [be] at the {place}. It [be:s] {rather} {weather}.",
        "{He} [go|walk|run] to the {place} one {rather} {weather} {hour}.",
    ),
    "hour": ("morning", "afternoon", "evening", "day"),
    "weather": ("weather=sunny {sunny}", "weather=rainy {rainy}", "weather=snowy {snowy}", "weather=windy {windy}"),
    "wish": (
        "{He} [want] something for the empty {goal} at home_noun.",
        "{He} [think] of the empty {goal} at home_noun.",
        "The {goal} at home_noun [be:s] empty, and {he} [want] to fill it.",
    ),
    "meeting": (
        "There {he} [meet] {his} {adult}, who [be:s] {very} {feeling}.",
        "{His} {adult} [be:s] there too, and {he_other} [look:s] {very} {feeling}.",
        "On the way, {he} [see] {his} {adult}. {He_other} [look:s|seem:s] {very} {feeling}.",
    ),
    "very": ("so_adverb", "{rather}"),
    "rather": ("very", "quite", "rather"),
    "so": ("so_adverb", "very"),
    "feeling": ("feeling=sad {sad}", "feeling=angry {angry}", "feeling=afraid {afraid}"),
    "passing": (
        "A {passer} [walk:s] by_adverb. {He_passer} [look:s|seem:s] {very} {mood}.",
        "Then a {passer} [come:s] by_adverb with {his_passer} {any_adult}, {very} {mood}.",
        "A {passer} [run:s] past with {his_passer} (bag|book|hat), {very} {mood}.",
    ),
    "passer": ("passer=girl girl~p named {passing_girl}", "passer=boy boy~p named {passing_boy}"),
    "mood": ("{happy}", "{sad}", "{angry}", "{afraid}", "{kind}", "{clever}", "{strong}"),
    "asking": (
        "Then {he_other} [say:s], <o The {item} is near the {landmark}.>",
        "Soon {he_other} [see:s] {him}. <o Do you~h need_base the {item}?>",
        "Soon {he} [ask] {him_other} for the {item}.",
        "Then {he} [say], <h {I} [need:now] the {item}.>",
    ),
    "finding": (
        "Near the {landmark}, {he} [find|see] the {rather} {first_quality} {item}.",
        "{He} [go|walk|run] to the {landmark} and [find|see] the {rather} {first_quality} {item}.",
    ),
    "describing": (
        "The {item} by the {landmark} [be:s] {very} {later_quality}.",
        "{He_other} [say:s], <o The {item} is {very} {later_quality}.>",
        "{He} [say], <h The {item} is {very} {later_quality}.>",
        "It~t [look:s] {very} {later_quality}, and {he} [want] to (hold_base|have_base|keep_base) it~t.",
    ),
    "standing": (
        "{Hero}, still (close to|far from|near) the {landmarks} at the {place}, [be] {very} {happy}.",
        "{Hero}, with the {item} from the {landmarks} by the {place}, [feel|be] {very} {happy}.",
        "Now {hero}, still there with the {item} at the {place}, [be] {very} {happy}.",
    ),
    "giving": (
        "{He} [be] {very} {trait}, so {he} [show] the {item} to {him_other}.",
        "Everyone [know:s] that_conj {hero} [be] {very} {trait}, so {he} [share] the {item} with {him_other}.",
        "<o You~h are {very} {trait},> {he_other} [say:s], and {he} [give] {him_other} the {item}.",
    ),
    "relief": (
        "Now {he_other} [be:s] not {so} {feeling} anymore.",
        "After that, {he_other} [be:s] no_adverb longer {so} {feeling}.",
        "<o Now I~o am not {so} {feeling} anymore,> {he_other} [say:s].",
        "{His} {adult} [be:s] not {so} {feeling} anymore.",
    ),
    "farewell": ("{leaving}", "{full} {leaving}", "{leaving} {praise}", "{leaving} {still}"),
    "still": ("It [be:s] still {very} {weather}.",),
    "leaving": (
        "At last, {he} [leave] the {place} and [go|walk|run] home (in|through) the {weather_noun}.",
        "Then {he} [go|walk|run] home (in|through) the {weather_noun}.",
        "Soon {he} [leave] the {place} in the {weather_noun}.",
    ),
    "full": ("Now the {goal} at home_noun [be:s] not empty anymore.",),
    "praise": ("What a day for the {hero_kind}!",),
    "hero": ("number=singular {name}", "number=plural {name} and {second_name}"),
    "he": ("number=plural they~h", "number=singular gender=female she~h", "number=singular gender=male he~h"),
    "him": ("number=plural them~h", "number=singular gender=female her~h", "number=singular gender=male him~h"),
    "his": ("number=plural their~h", "number=singular gender=female her~h", "number=singular gender=male his~h"),
    "i": ("number=singular I~h", "number=plural we~h"),
    "he_other": ("partner=woman she~o", "partner=man he~o"),
    "him_other": ("partner=woman her~o", "partner=man him~o"),
    "he_passer": ("passer=girl she~p", "passer=boy he~p"),
    "his_passer": ("passer=girl her~p", "passer=boy his~p"),
    "any_adult": ("mom~p", "dad~p", "aunt~p", "uncle~p"),
}
