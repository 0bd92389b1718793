"""The words and the templates of the story grammar: data only; `tti.data.grammar` gives it meaning.

Words. A section maps a category to entries separated by spaces. An entry is
`sense=form/form,form/form@feeling`: several comma-separated words are synonyms, the forms of one word are its
inflections, and `@feeling` names the feeling the word expresses. Without `sense=` the first word names the
sense. An entry of a single word is called by its sense in templates (`bat_toy` is written " bat" in a story),
a synonym by its own text. Nouns are singular/plural; verbs base/third person/past, the latter two left out
where regular.

Templates.
    word~h        the token refers to the hero (h), the other character (o), both (b) or the thing (t)
    {slot}        a macro below, or a word bound for the whole story (`{object}`); `{Slot}` with a capital
    (x|y z)       one of the alternatives, drawn anew at each occurrence
    [verb]        the narration's tense, agreeing with the hero or heroes; [v|w] draws a verb
    [verb:s]      the narration's tense, third person singular; [verb:p] plural
    [verb:now]    present, as after I, we, you, they; [verb:past] past: for speech
    {macro:s}     a verb macro in the third person
    <h ...>       speech of the hero, <o ...> of the other character
    a {slot}      "an" where the next word wants it, before a group too
    past: ...     a template for that tense only, present: ... likewise
Spaces are made by the grammar; a capital in a template is kept.
"""

from typing import Literal, NamedTuple

NOUNS = """
person: girl/girls boy/boys mother=mom,mother father=dad,father grandma=grandma,grandmother
  grandpa=grandpa,grandfather
  farmer man woman teacher friend/friends child=child,kid baby people
animal: dog/dogs cat/cats rabbit=rabbit/rabbits,bunny/bunnies bear/bears duck/ducks bat_animal=bat bird
  owl kitten puppy mouse
  frog cow horse fly_insect=fly
toy: ball kite balloon doll drum bat_toy=bat swing
object: ring watch_clock=watch hat book bell chair cart boat=boat,ship car=car,truck umbrella bag box
  money=money,coins
  gift=gift,present window hole bed bench
tool: saw_tool=saw hammer nails stick glue lamp=lamp,light blanket rope basket ladder
food: orange_fruit=orange/oranges apples soup bread berries water
plant: tree/trees bush flower/flowers leaf branch bark_tree=bark grass wood
place: park beach forest=forest,woods farm garden river bank_money=bank bank_river=bank home=home,house
  road=road,street shop=shop,store well_water=well hill barn roof
nature: sun sky rain snow wind clouds wave_sea=wave stone=rock,stone mud
body: leg arms eyes
time: day morning afternoon night time end
sound: noise=noise,sound
emotion: smile_face=smile@happy joy@happy tears@sad fun
other: kind_sort=kind piece idea way story thing/things name/names turn_chance=turn/turns front course
"""

# "rock", "saw", ... as nouns and as verbs are told apart by their senses: stone, rock_sway; saw_tool, see.
VERBS = """
move: go/goes/went come/comes/came run/runs/ran walk jump=jump,hop/hops/hopped climb swim
  fly/flies/flew fall/falls/fell duck_bend=duck wave rock_sway=rock turn leave/leaves/left
  dance
rest: sit/sits/sat stop/stops/stopped live sleep/sleeps/slept
speech: say/says/said ask shout=shout,yell answer=answer,reply thank sing/sings/sang
perceive: see/sees/saw hear/hears/heard watch look find/finds/found
mind: want love=love,like know/knows/knew learn feel/feels/felt
emotion: smile=smile,grin/grins/grinned@happy laugh=laugh,giggle@happy cry=cry,weep/weeps/wept@sad
  tremble=shiver,tremble@scared
give: give/gives/gave share bring/brings/brought take/takes/took buy/buys/bought lose/loses/lost carry
make: make/makes/made fix=fix,mend break/breaks/broke cut/cuts/cut paint read/reads/read
  start=start,begin/begins/began
  try play help work pick park_car=park put/puts/put
touch: hold/holds/held hug=hug/hugs/hugged,embrace throw/throws/threw hit/hits/hit
eat: eat/eats/ate
sound: bark ring_sound=ring
nature: shine/shines/shone blow/blows/blew
"""

# Auxiliaries and light verbs: they inflect, but have no sense. "am" and "is" in speech are function words.
AUXILIARIES = """
none: be/is/was have/has/had do/does/did get/gets/got can/can/could let/lets/let
"""

ADJECTIVES = """
emotion: happy=happy,glad,cheerful@happy sad=sad,unhappy@sad scared=scared,afraid,frightened@scared
  angry=angry,mad@angry
  proud@proud tired=tired,sleepy@tired surprised=surprised,amazed@surprised lonely@lonely
  worried=worried,anxious@worried sorry@sad
size: big=big,large,huge small=small,little,tiny high=tall,high long low light_weight=light
color: red blue green yellow orange_color=orange
quality: nice=kind,nice clever=clever,smart brave young old new beautiful=beautiful,pretty,lovely shiny
  hard_firm=hard rough good bad gentle favorite own loud strange quiet stuck hurt=hurt,injured safe gone broken
  better right_correct=right fine shy poor alone
weather: sunny=sunny,bright warm rainy=rainy,wet snowy windy=windy,breezy cold dark
illness: cold_illness=cold
"""

# Nouns of one form that is plural; the others of one form are singular.
PLURAL_ONLY = frozenset(["people", "nails", "apples", "berries", "clouds", "arms", "eyes", "tears", "coins"])

ADVERBS = """
direction: left_side=left right_side=right away back down up
manner: hard_effort=hard well_good=well quickly=quickly,fast slowly softly together
time: soon suddenly then again always still now
place: everywhere there here outside
degree: very so_very=so too only enough much just
"""

# Words without a sense, by their word class.
FUNCTION_WORDS = {
    "pronoun": "I me mine my we us ours our you your he him his she her they them their it its who something none what",
    "determiner": "an the this that some no all one every both two",
    "preposition": "in at on by to with under behind near over for from of past around into through as"
    " like_as upon out",
    "conjunction": "and but so because when where that_conj than",
    "interjection": "yes please oh hooray",
    "adjective": "named",
    "adverb": "ago long_ago how why far not once anymore",
    "verb_present": "am is",
}

NAMES = {
    "female": "Lily Mia Anna Sue Lucy Emma Molly Daisy",
    "male": "Tom Ben Max Sam Tim Jack Leo Finn",
}

HEROES = {  # kind: (one, two)
    "girl": ("girl", "girls"), "boy": ("boy", "boys"), "dog": ("dog", "dogs"), "cat": ("cat", "cats"),
    "rabbit": ("rabbit|bunny", "rabbits|bunnies"), "bear": ("bear", "bears"), "duck": ("duck", "ducks"),
}  # fmt: skip

# --- templates

# Macros whose text depends on the number of heroes: (one hero, two heroes).
HERO_MACROS = {
    "hero": ("{name}", "{name} and {second_name}"),
    "intro": ("a {trait} {kind}", "two {trait} {kind}"),
    "he": ("{he_one}", "they~h"),
    "him": ("{him_one}", "them~h"),
    "his": ("{his_one}", "their~h"),
    "i": ("I~h", "we~h"),
    "me": ("me~h", "us~h"),
    "my": ("my~h", "our~h"),
    "i_am": ("I~h am", "we~h [be:now]"),
    "names": ("{his_one} name [be:s]", "their~h names [be:p]"),
    "mine": ("mine~h", "ours~h"),
}

MACROS = {
    "trait": "({small}|young|{nice}|{clever}|brave|cheerful|shy)",
    "small": "(small|little|tiny)",
    "big": "(big|large|huge)",
    "nice": "(kind|nice)",
    "clever": "(clever|smart)",
    "beautiful": "(beautiful|pretty|lovely)",
    "color": "(red|blue|green|yellow|orange_color)",
    "happy": "(happy|glad|cheerful)",
    "sad": "(sad|unhappy)",
    "scared": "(scared|afraid|frightened)",
    "angry": "(angry|mad)",
    "tired": "(tired|sleepy)",
    "surprised": "(surprised|amazed)",
    "worried": "(worried|anxious)",
    "very": "(very|so_very)",
    "rock": "(rock|stone)",
    "road": "(road|street)",
    "shop": "(shop|store)",
    "home": "(home|house)",
    "gift": "(gift|present)",
    "noise": "(noise|sound)",
    "quickly": "(quickly|fast)",
    "start": "[start|begin]",
    "smile": "[smile|grin]",
    "hug": "[hug|embrace]",
    "shout": "[shout|yell]",
    "cry": "[cry|weep]",
    "answer": "[answer|reply]",
    "hobby": "(play|sing|run|swim|dance|climb|read|paint|play outside|sing and dance)",
    "kid": "(child|kid)",
    "money": "(money|coins)",
    "hiding_place": "(under a bush|in the grass|near a {big} {rock}|behind a tree|under some wood|in the mud)",
}

# Words bound once per story. Places: (to the place, at the place).
PLACES = {
    "park": ("to the park", "in the park"),
    "beach": ("to the beach", "at the beach"),
    "forest": ("to the forest|to the woods", "in the forest|in the woods"),
    "farm": ("to the farm", "on the farm"),
    "garden": ("to the garden", "in the garden"),
    "river": ("to the river", "by the river"),
}

ADULTS = {  # the text after "the" or the hero's possessive, its gender, whether it belongs to the hero
    "mom": ("female", True), "mother": ("female", True), "dad": ("male", True), "father": ("male", True),
    "grandma": ("female", True), "grandmother": ("female", True), "grandpa": ("male", True),
    "grandfather": ("male", True), "farmer": ("male", False), "teacher": ("female", False),
    "old man": ("male", False), "old woman": ("female", False),
}  # fmt: skip
PETS = ("bird", "puppy", "kitten", "duck", "mouse", "frog", "bat_animal", "rabbit", "bunny")
PROWLERS = ("bat_animal", "owl", "dog", "cat", "cow", "frog", "bird", "horse", "mouse")

# A template may be kept for one tense: "past: ...", "present: ...".
OPENINGS = (
    "past: Once upon a time, there [be] {intro} named {Hero}.",
    "past: Once upon a time, there [be] {intro} named {Hero} who [love|like] to {hobby}.",
    "past: Once there [be] {intro} named {Hero}.",
    "past: Long_ago ago, {intro} named {Hero} [live] in a {small} {home} near a hill.",
    "past: There once [be] {intro}. {Names} {Hero}.",
    "present: Here [be] {Hero}, {intro}.",
    "present: Here [be] {Hero}, {intro} who [love|like] to {hobby}.",
    "present: There [be] {intro} named {Hero}. {He} [love|like] to {hobby}.",
    "present: This is a story of {intro} named {Hero}.",
    "present: In a {small} {home} near a hill [live] {intro} named {Hero}.",
)

SCENES = {
    "sunny": (
        "One (sunny|bright|warm|) (day|morning|afternoon), when the sun [shine:s], {he} [go|walk] {to_place}.",
        "It [be:s] a (sunny|bright) (day|morning|afternoon), and {Hero} [go|run] {to_place}.",
        "The sun [be:s] warm and the sky [be:s] blue, so {he} [go|run] {to_place}.",
        "One (sunny|bright) (day|morning|afternoon), {Hero} [be] {at_place}.",
    ),
    "rainy": (
        "One (rainy|wet) (day|morning|afternoon), {he} [go|walk] {to_place} with a {big} umbrella.",
        "It [be:s] a (rainy|wet) (day|morning|afternoon), but {Hero} still [go|run] {to_place}.",
        "When the rain [stop:s], {Hero} [go|run] {to_place} to play in the mud.",
        "One (rainy|wet) (day|morning|afternoon), {Hero} [be] {at_place} under a {big} umbrella.",
    ),
    "snowy": (
        "One snowy (day|morning|afternoon), {he} [go|walk] {to_place} to play in the snow.",
        "It [be:s] a (cold|snowy) (day|morning|afternoon), and {Hero} [walk] through the snow {to_place}.",
        "There [be:s] snow on all the trees when {Hero} [go|walk] {to_place}.",
        "One cold (day|morning|afternoon), {Hero} [play] in the snow {at_place}.",
    ),
    "windy": (
        "One (windy|breezy) (day|morning|afternoon), {he} [go|walk] {to_place}.",
        "It [be:s] a (windy|breezy) (day|morning|afternoon), and {Hero} [go|run] {to_place}.",
        "The wind [blow:s] and the clouds [fly:p] by when {Hero} [come] {to_place}.",
        "One (windy|breezy) (day|morning|afternoon), {Hero} [be] {at_place} to feel the wind.",
    ),
}

# Small things on the way: most homonyms live here, each sense in a context that tells it apart.
ASIDES = (
    "There {he} [hear] a dog bark and a bell ring_sound.",
    "Far away, a bell {start:s} to ring_sound and a dog {start:s} to bark.",
    "Then {he} [have] to duck_bend under a low branch.",
    "{He} [stop] to watch a bird fly over the trees.",
    "A {small} fly_insect [sit:s] on {his} bag, and {he} [laugh|giggle].",
    "{He} [see] the rough bark_tree of an old tree.",
    "{He} [see] a fly_insect on the bark_tree of a tree.",
    "{He} [watch] a man park_car a {big} {color} (car|truck) near the {road}.",
    "A teacher [stop:s] to park_car, and {Hero} [wave].",
    "{He} [stop] to wave at an old woman.",
    "{He} [turn] left_side at the {big} {rock} and then right_side at the {road}.",
    "{He} [sit] under a tree and [eat] an orange_fruit.",
    "{He} [find] a {small} {rock}. It [be:s] hard_firm and cold.",
    "{He} [take] some cold water from the well_water.",
    "{He} [see] a new kind_sort of flower there. It [be:s] {small} and orange_color.",
    "{He} [walk] past the bank_money, where people [get:p] their money.",
    "{He} [hold] up a {small} leaf. It [be:s] so_very light_weight that the wind [take:s] it.",
    "An old man with a saw_tool [cut:s] wood there, and {Hero} [watch].",
    "A woman [rock_sway:s] a baby in her arms.",
    "A woman {start:s} to rock_sway a baby in her arms, and soon the baby [sleep:s] well_good.",
    "A kid with a ball and a bat_toy [wave:s] at {him}.",
    "A bat_animal [sleep:s] in an old barn near the {road}.",
)

PLACE_ASIDES = {
    "park": (
        "A (child|kid) [play:s] with a ball and a bat_toy there.",
        "{He} [sit] on a bench and [watch] the clouds.",
    ),
    "beach": (
        "A {big} wave_sea [come:s] in with a loud {noise}.",
        "{He} [watch] a {big} wave_sea rock_sway a {small} (boat|ship).",
    ),
    "forest": (
        "A {small} bat_animal [sleep:s] under a branch there.",
        "{He} [see] an owl in a (tall|high) tree. The bark_tree of the tree [be:s] wet.",
    ),
    "farm": (
        "A cow [eat:s] grass, and a dog {start:s} to bark.",
        "{He} [look] down into a well_water.",
    ),
    "garden": (
        "{He} [pick] an orange_fruit and [share] it with a bird.",
        "A bird [sing:s] on a branch, and {he} [stop] to hear it.",
    ),
    "river": (
        "{He} [sit] on the bank_river and [watch] the water.",
        "A duck [come:s] to the bank_river and [look:s] at {him}.",
    ),
}


class Plot(NamedTuple):
    """What the object may be, who the other character is, and the beats: each a choice of templates,"
    " "" says nothing."""

    objects: tuple[str, ...]
    other: Literal["adult", "kin", "child", "pet", "prowler"]
    beats: tuple[tuple[str, ...], ...]


PLOTS = {
    "lost": Plot(
        objects=("ball", "ring", "watch_clock", "hat", "book", "doll", "bell", "bat_toy"),
        other="adult",
        beats=(
            (
                "{Hero} [play] with a {color} {object} there, but soon {he} [lose] it~t.",
                "{He} [look] in {his} bag, but {his} favorite {object} [be:s] not there.",
                "{Hero} [play] there with a new {object}. Suddenly it~t [be:s] gone.",
                "{Hero} [bring] {his} {beautiful} {object} and [leave] it~t on a bench. Soon it~t [be:s] gone.",
            ),
            (
                "{He} [feel] {very} {sad} and {start} to (cry|weep).",
                "{He} [be] {very} {sad}.",
                "{He} [be] {very} {worried}, and there [be:p] tears in {his} eyes.",
                "",
            ),
            (
                "{He} [look] under a bush and behind a {big} {rock}, but {he} [can] not find it~t.",
                "{He} [look] left_side and right_side, but the {object} [be:s] not there.",
                "{He} [look] everywhere, but the {object} [be:s] still gone.",
                "",
            ),
            (
                "{Other} [see:s] {him} and [ask:s], <o Why [be:now] you~h so_very {sad}?> <h {I}"
                " [can:now] not find"
                " {my} {object},> {Hero} {answer}.",
                "<h Please help {me}! {I} [lose:past] {my} {object},> {he} [say] to {other}.",
                "{Other} [hear:s] {him}. <o Do not (cry|weep),> {he_other} [say:s]. <o Let us~b look"
                " for your~h"
                " {object} together.>",
            ),
            (
                "They~b [look:p] together, and {other} [find:s] the {object} {hiding_place}.",
                "Then {other} [see:s] something shiny {hiding_place}. It~t [be:s] the {object}!",
                "{Other} [walk:s] slowly around and [find:s] it~t {hiding_place}.",
            ),
            (
                "From that day on, {Hero} always [have] {his} {object} in a box.",
                "{Hero} [be] {happy} to have {his} {object} back and {hug} {other}.",
                "<h Thank you~o!> {Hero} {shout}, and {he} {smile} with joy.",
                "{Hero} {smile} and [hold] the {object}, {happy} again.",
            ),
        ),
    ),
    "broken": Plot(
        objects=("kite", "boat", "drum", "chair", "cart", "bat_toy", "swing"),
        other="adult",
        beats=(
            (
                "{Hero} [play] with {his} {color} {object} there, but it~t [fall:s] on a hard_firm {rock} and"
                " [break:s].",
                "Suddenly {he} [hear] a loud {noise}. {His} favorite {object} [be:s] broken!",
                "{Hero} [have] a (old|new|{color}) {object} there, but suddenly it~t [break:s].",
            ),
            (
                "{Hero} [be] {very} {angry} and [throw] a {rock} into the mud.",
                "This [make:s] {Hero} {very} {sad}.",
                "{He} [feel] {angry} and {sad}.",
                "",
                "{He} {start} to (cry|weep).",
            ),
            (
                "{He} [try] hard_effort to (fix|mend) it~t with (glue|a rope), but it~t [break:s] again.",
                "{He} [try] some glue, but it~t [be:s] not enough.",
                "",
            ),
            (
                "<h [Can:now] you~o (fix|mend) {my} {object}?> {he} [ask] {other}. <o Yes, but you~h"
                " [have:now] to help"
                " me~o,> {he_other} {answer:s}.",
                "<h {My} {object} is broken,> {he} [say] to {other}. <o Do not be {sad},> {he_other}"
                " [say:s]. <o I~o"
                " [know:now] what to do.>",
                "{Other} [see:s] the broken {object} and [say:s], <o I~o [can:now] (fix|mend) it~t, I~o"
                " [have:now] a"
                " (saw_tool|hammer).>",
            ),
            (
                "{Other} [take:s] a saw_tool, a hammer and some nails, and soon the {object} [be:s] (as"
                " good as"
                " new|fine again).",
                "{Other} [cut:s] a piece of wood with a saw_tool and [fix:s|mend:s] the {object} with it.",
                "They~b [work:p] hard_effort together with a hammer and nails, and {other} [fix:s|mend:s] the"
                " {object}.",
            ),
            (
                "{Hero} [be] {very} {happy} and {hug} {other}.",
                "{Hero} [be] proud that_conj {he} [help].",
                "<h Now it~t is (better than new|fine)!> {Hero} {shout} with joy.",
                "{Hero} {smile}. Now {he} [know] how to (fix|mend) things.",
            ),
        ),
    ),
    "stuck": Plot(
        objects=("kite", "ball", "balloon", "hat"),
        other="adult",
        beats=(
            (
                "{Hero} [run] with a {color} {object} there, but the wind [take:s] it~t and it~t"
                " [get:s] stuck in a"
                " (tall|high) tree.",
                "{Hero} [throw] {his} {object} up, up, up. It~t [fall:s] on a high roof.",
                "The wind [blow:s] {his} {color} {object} away, and it~t [fall:s] on the roof of a barn.",
            ),
            (
                "{He} [jump|hop] and [jump|hop], but {he} [can] not get it~t down.",
                "{He} [try] to hit it~t with a {rock}, but it~t [be:s] too high.",
                "{He} [try] hard_effort to climb up, but {he} [be] too {small}.",
                "{He} [throw] a {small} {rock} at it~t, but it~t [be:s] still stuck.",
            ),
            (
                "{He} [be] {sad} and {tired}.",
                "This [make:s] {Hero} {very} {angry}.",
                "{Hero} [be] {very} {worried}.",
                "",
            ),
            (
                "<h {My} {object} is stuck!> {he} {shout}. <o I~o [can:now] help you~h,> {other} [say:s].",
                "{Other} [hear:s] {him} and [come:s] {quickly}. <o Let me~o try,> {he_other} [say:s].",
                "<h [Can:now] you~o get {my} {object} down, please?> {he} [ask] {other}. <o Yes, of"
                " course I~o"
                " [can:now],> {other} {answer:s}.",
            ),
            (
                "{Other} [bring:s] a long ladder and [climb:s] up to get the {object}.",
                "{Other} [hit:s] it~t with a bat_toy, and down [come:s] the {object}!",
                "The {object} [be:s] light_weight, so {other} [get:s] it~t down with a long stick.",
                "{Other} [throw:s] a rope, and soon the {object} [fall:s] down.",
            ),
            (
                "{Hero} [jump|hop] with joy and {hug} {other}.",
                "{Hero} [be] {happy} to hold the {object} again.",
                "<h Hooray!> {Hero} {shout} with a {big} smile_face.",
                "{Hero} {hug} {other} and [laugh|giggle].",
            ),
        ),
    ),
    "wish": Plot(
        objects=("drum", "bat_toy", "kite", "boat", "watch_clock", "ring", "doll", "lamp", "light"),
        other="adult",
        beats=(
            (
                "In the window of a {shop}, {he} [see] a {beautiful} {object} and [want] it~t very much.",
                "There {Hero} [see] a {kid} with a {color} {object}. {He} [want] one just like_as it~t.",
                "{He} [walk] past a {shop} and [see] a {color} {object} there. <h {I} [want:now] that"
                " {object}!> {he}"
                " [say].",
            ),
            (
                "But {he} [do] not have enough {money}, and {he} [feel] {sad}.",
                "But the {object} [be:s] for people with money, and {he} [have] none.",
                "{He} [have] no {money}, but {he} [have] an idea.",
            ),
            (
                "So {he} [work] hard_effort for {other} all day.",
                "So {he} [help] {other} all day and [pick] (oranges|apples|berries).",
                "{He} [go] to {other} and [ask], <h [Can:now] {i} help you~o?> Then {he} [carry] wood all day.",
            ),
            (
                "{He} [be] {tired}, but {he} [do] not stop.",
                "{Other} [be:s] {surprised}.",
                "",
            ),
            (
                "<o You~h [work:now] so_very well_good,> {other} [say:s]. <o Here is some money from the bank_money.>",
                "Then {other} [go:s] to the bank_money and [give:s] {him} some {money}.",
                "In the end, {other} [give:s] {him} a box of coins.",
            ),
            (
                "{Hero} [run] {quickly} to the {shop} and [buy] the {object}. {He} [be] {very} proud.",
                "{Hero} [buy] the {object}, and {he} [play] with it~t every day. {He} [be] {happy}.",
                "Now {Hero} [have] {his} own {object}, and {he} [feel] {happy} and proud.",
            ),
        ),
    ),
    "rescue": Plot(
        objects=("blanket", "basket", "box", "hat"),
        other="pet",
        beats=(
            (
                "Then {he} [find] a {small} {pet} under a bush. It~o [have:s] a (hurt|injured) leg.",
                "Suddenly {he} [hear] a quiet {noise}. A {small} {pet} [be:s] stuck in a hole!",
                "There {he} [see] a {small} {pet} all alone, far from its~o home.",
            ),
            (
                "The {pet} [shiver:s|tremble:s], {very} {scared}.",
                "The {pet} [be:s] {scared} and lonely.",
                "{Hero} [be] {worried}.",
                "The {pet} [be:s] {very} {tired}.",
                "",
            ),
            (
                "<h Do not be {scared},> {Hero} [say]. <h {I} [can:now] help you~o.>",
                "<h Oh, poor little friend~o!> {Hero} [say] softly. <h Let {me} help.>",
                "<o Please help me~o,> the {pet} [say:s]. <h Of course,> {Hero} {answer}.",
            ),
            (
                "{Hero} [take] {his} {object} and [carry] the {pet} home in it~t.",
                "{Hero} [give] the {pet} some water and [make] a warm bed in {his} {object}.",
                "{Hero} [hold] the {pet} in a gentle way and [put] it~o in {his} {object}.",
            ),
            (
                "Soon the {pet} [feel:s] better and [be:s] not {scared} anymore.",
                "The {pet} [eat:s] some bread and [sleep:s] well_good.",
                "The {pet} [sleep:s] all night and [feel:s] safe.",
            ),
            (
                "<o Thank you~h,> the {pet} [say:s], and from then on they~b [be:p] good friends~b.",
                "{Hero} [be] {happy} and proud that_conj {he} [can] help.",
                "{Hero} {smile}. {He} [have] a new friend~o now.",
                "{Hero} [learn] that_conj it [be:s] good to help.",
            ),
        ),
    ),
    "fright": Plot(
        objects=("lamp", "light", "umbrella", "stick"),
        other="prowler",
        beats=(
            (
                "Suddenly {he} [hear] a (loud|strange) {noise} behind a {big} (bush|tree|{rock}).",
                "It [get:s] dark, and a (loud|strange) {noise} [come:s] from an old barn.",
                "Then something [jump:s|come:s|run:s] out from behind a {big} {rock}.",
            ),
            (
                "{He} [be] {very} {scared} and {start} to (shiver|tremble).",
                "{He} [cry] and [run] behind a tree, {scared}.",
                "{Hero} [feel] {scared} and [want] to run home.",
            ),
            (
                "<h Who is there?> {he} [ask]. <h {I_am} not {scared}!>",
                "<h Go away!> {he} {shout}.",
                "<h What is that {noise}?> {he} [ask].",
                "",
            ),
            (
                "{He} [hold] up {his} {object} and [look] slowly around.",
                "But {he} [be] brave. {He} [take] {his} {object} and [walk] {quickly} to the {noise}.",
                "{He} [hold] {his} {object} in front of {him} and [walk] slowly on.",
            ),
            (
                "It~o [be:s] only a {prowler}! <o I~o am {scared} of you~h,> it~o [say:s].",
                "{He} [be] {surprised}. It~o [be:s] just an old {prowler}!",
                "There {he} [see] a {prowler}. It~o [be:s] {scared} too!",
            ),
            (
                "{Hero} [laugh|giggle]. {He} [be] not {scared} anymore.",
                "{Hero} {smile} and [share] some bread with the {prowler}. Now they~b [be:p] friends~b.",
                "{Hero} [laugh|giggle] with joy and [wave], and the {prowler} [go:s] home.",
            ),
        ),
    ),
    "share": Plot(
        objects=("ball", "kite", "doll", "drum", "swing", "book", "boat", "bat_toy"),
        other="child",
        beats=(
            (
                "{Hero} [play] with {his} new {object} when a {child} named {other} [come:s] by.",
                "There {he} [see] a (lonely|shy) {child} named {other}, who [look:s] at {his} {color} {object}.",
                "A {child} named {other} [come:s] to play too, but there [be:s] only one {object}.",
            ),
            (
                "<o [Can:now] I~o play with your~h {object}?> {other} [ask:s]. <h No, it~t is {mine}!> {Hero}"
                " {answer}.",
                "{Other} [want:s] the {object}, but {Hero} [do] not want to share it~t.",
                "<o Please share with me~o,> {other} [say:s], but {Hero} [hold] the {object} and [turn] away.",
            ),
            (
                "{Other} [feel:s] {sad} and {start:s} to (cry|weep).",
                "{Other} [be:s] {very} {sad} and [sit:s] down on a {big} {rock}.",
                "{Other} [be:s] {angry} and [go:s] away.",
            ),
            (
                "{Hero} [see] that_conj it [be:s] not {nice} to turn away.",
                "Then {Hero} [feel] lonely.",
                "It [be:s] no fun to play alone, and {Hero} [feel] bad.",
            ),
            (
                "<h {I_am} sorry,> {he} [say]. <h Let us~b play together!>",
                "{He} [run] {quickly} to {other} and [give] {him_other} the {object}. <h You~o"
                " [can:now] have a"
                " turn_chance,> {he} [say].",
                "<h Come back!> {he} {shout}. <h {I} [want:now] to share {my} {object} with you~o.>",
            ),
            (
                "{Other} {smile:s}, and they~b [play:p] together all day, {happy} and {tired} when night [come:s].",
                "They~b [take:p] turns and [laugh:p|giggle:p]. Now they~b [be:p] {happy} friends~b.",
                "It [be:s] the right_correct thing to do, and they~b [be:p] both {happy}.",
                "They~b [play:p] together, and {Hero} [learn] that_conj it [be:s] good to share.",
            ),
        ),
    ),
    "care": Plot(
        objects=("basket", "book", "blanket"),
        other="kin",
        beats=(
            (
                "{Hero} [want] to find a {gift} for {other}, who [have:s] a bad cold_illness.",
                "{He} [be] {worried}, because {other} [have:s] a cold_illness and [be:s] in bed.",
                "{Hero} [be] {sad}, because {other} [be:s] at home with a cold_illness.",
            ),
            (
                "<h What [can:now] {i} do?> {he} [ask]. Then {he} [have] an idea.",
                "<h {I} [want:now] to help,> {he} [say].",
                "",
            ),
            (
                "{He} [work] hard_effort and [pick] some (oranges|apples|berries|{beautiful} flowers).",
                "{He} [find] some orange_color flowers and [pick] them.",
                "{He} [look] for the right_correct kind_sort of flower and [find] one near a well_water.",
            ),
            (
                "{He} [run] home and [make] warm soup and bread for {other}.",
                "At home, {he} [give] {other} a {color} (blanket|book|box) and some water.",
                "Then {he} [go] home {quickly} and [sing] softly to {other}.",
            ),
            (
                "{Other} [be:s] {surprised}. <o How {nice} you~h [be:now]!> {he_other} [say:s].",
                "<o Thank you~h, I~o [feel:now] better now,> {other} [say:s].",
                "{Other} {smile:s} and [sleep:s] well_good.",
            ),
            (
                "{Hero} {hug} {other}, {happy} again.",
                "{Hero} [be] {very} proud and {happy}.",
                "{Hero} [be] {tired} but {happy}.",
                "{Hero} [learn] that_conj it [be:s] good to help.",
            ),
        ),
    ),
}

FAREWELLS = (
    "",
    "",
    "",
    "",
    "",
    "It [be:s] a very good day.",
    "That night, {Hero} [sleep] well_good.",
    "Then {Hero} [sing] and [dance].",
    "The end.",
)
