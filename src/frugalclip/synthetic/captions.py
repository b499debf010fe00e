"""Sentences about a scene, from one phrase to a description of many sentences.

A narrator draws how each thing is described: order, voice, details, by name or by reference. Every sentence
is true of the image, and the objects that a caption mentions are kept beside it.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from frugalclip.synthetic.content import Relation, SceneContent, Thing
from frugalclip.synthetic.draws import Draws
from frugalclip.synthetic.english import NUMBERS, article, counted, listed, sentence
from frugalclip.synthetic.layout import Background
from frugalclip.synthetic.plan import CaptionConfig

CONTEXT = 77  # tokens that CLIP reads
_PLACES = {
    ("top", "left"): ("in the top left corner", "at the top left", "in the upper left"),
    ("top", "middle"): ("at the top", "near the top", "in the upper part"),
    ("top", "right"): ("in the top right corner", "at the top right", "in the upper right"),
    ("middle", "left"): ("on the left", "on the left side", "at the left"),
    ("middle", "middle"): ("in the middle", "in the centre"),
    ("middle", "right"): ("on the right", "on the right side", "at the right"),
    ("bottom", "left"): ("in the bottom left corner", "at the bottom left", "in the lower left"),
    ("bottom", "middle"): ("at the bottom", "near the bottom", "in the lower part"),
    ("bottom", "right"): ("in the bottom right corner", "at the bottom right", "in the lower right"),
}
_AREAS = {  # of regions that hold nothing
    ("top", "left"): "the top left corner",
    ("top", "middle"): "the middle of the top",
    ("top", "right"): "the top right corner",
    ("middle", "left"): "the middle of the left side",
    ("middle", "middle"): "the centre",
    ("middle", "right"): "the middle of the right side",
    ("bottom", "left"): "the bottom left corner",
    ("bottom", "middle"): "the middle of the bottom",
    ("bottom", "right"): "the bottom right corner",
}
_RELATIONS = {  # kind -> (how the first lies to the second, how the second lies to the first)
    "left": (
        ("to the left of", "left of", "on the left of"),
        ("to the right of", "right of", "on the right of"),
    ),
    "above": (("above", "higher than"), ("below", "under", "lower than")),
    "front": (("in front of", "partly in front of"), ("behind", "partly hidden behind", "partly behind")),
    "larger": (("larger than", "bigger than", "much larger than"), ("smaller than", "much smaller than")),
}
_PICTURES = ("a picture of", "an image of", "a drawing of", "a scene with", "an illustration of")


@dataclass(frozen=True)
class Caption:
    """One caption and what it speaks of."""

    level: str
    text: str
    mentions: tuple[int, ...]  # objects, by their position in the scene


@dataclass(frozen=True)
class KeyWord:
    """An object that a long caption names only after CLIP has stopped reading."""

    object: int
    word: str  # the noun phrase
    token: int  # place of its first token in the caption, the start token being 0


@dataclass(frozen=True)
class SceneCaptions:
    """The captions of a scene, shortest first."""

    captions: tuple[Caption, ...]
    key: KeyWord | None = None


CountTokens = Callable[[str], int]


def tell(
    content: SceneContent, config: CaptionConfig, draws: Draws, *, count_tokens: CountTokens | None = None
) -> SceneCaptions:
    """The captions of one scene.

    Args:
        content: what is true of it.
        config: shares of the levels and lengths.
        draws: where every choice comes from.
        count_tokens: CLIP tokens of a text, without start and end; needed for key words.
    """
    wanted = {
        level: draws.chance(share)
        for level, share in (("short", config.short), ("medium", config.medium), ("long", config.long))
    }
    wants_key = draws.chance(config.key_word / config.long if config.long else 0.0)
    if not any(wanted.values()):
        wanted[max(wanted, key=lambda level: getattr(config, level))] = True
    captions: list[Caption] = []
    key: KeyWord | None = None
    if wanted["short"]:
        captions.append(Narrator(content, draws).short())
    if wanted["medium"]:
        captions.append(Narrator(content, draws).medium())
    if wanted["long"]:
        least, most = config.long_words
        words = round(least * (most / least) ** draws.number())
        found = _with_key(content, draws, words, count_tokens) if wants_key and count_tokens else None
        if found is not None:
            caption, key = found
        else:
            caption = Narrator(content, draws).long(words)
        captions.append(caption)
    return SceneCaptions(tuple(captions), key)


def _with_key(
    content: SceneContent, draws: Draws, words: int, count_tokens: CountTokens
) -> tuple[Caption, KeyWord] | None:
    """A long caption that names one thing only after CLIP's context; None where it would be too short."""
    for place in draws.shuffled([i for i, thing in enumerate(content.things) if thing.is_one]):
        thing = content.things[place]
        narrator = Narrator(content, draws, hidden=place)
        before = narrator.description(words)
        while count_tokens(before) < CONTEXT - 1:  # tokens 0 (start) to 76 are read
            more = narrator.more()
            if more is None:
                break
            before = f"{before} {more}"
        if count_tokens(before) < CONTEXT - 1 or thing.noun.phrase().lower() in before.lower():
            continue
        last = narrator.last(place)
        phrase = thing.noun.phrase(colour=thing.colour)
        start = f"{before} {last}".lower().index(phrase.lower(), len(before))
        token = 1 + count_tokens(f"{before} {last}"[:start])
        caption = Caption("long", f"{before} {last}", narrator.mentioned())
        return caption, KeyWord(thing.members[0], phrase, token)
    return None


def background_phrase(background: Background, *, form: int = 0) -> str:
    """A background in words, without article.

    Args:
        background: of the scene.
        form: which of several ways to say it.
    """
    first, last = background.colours[0], background.colours[-1]
    if background.kind == "plain":
        return (f"{first} background", f"plain {first} background")[form % 2]
    if background.kind == "speckled":
        return (f"speckled {first} background", f"{first} background with noise")[form % 2]
    if background.kind == "striped":
        lie = {"vertical": "horizontal", "horizontal": "vertical"}.get(
            background.direction, "diagonal"
        )  # stripes lie across the change
        return f"background with {lie} stripes in {first} and {last}"
    ends = {
        "vertical": ("top", "bottom"),
        "horizontal": ("left", "right"),
        "diagonal": ("top left", "bottom right"),
    }[background.direction]
    if background.kind == "gradient":
        return (
            f"background that fades from {first} to {last}",
            f"gradient from {first} at the {ends[0]} to {last} at the {ends[1]}",
        )[form % 2]
    return (
        f"background that is half {first} and half {last}",
        f"background that is {first} at the {ends[0]} and {last} at the {ends[1]}",
    )[form % 2]


@dataclass
class Narrator:
    """Describes one scene, and remembers what it has mentioned.

    Args:
        content: of the scene.
        draws: where every choice comes from.
        hidden: a thing not to speak of.
    """

    content: SceneContent
    draws: Draws
    hidden: int | None = None
    introduced: set[int] = field(default_factory=set)
    _told: set[tuple[int, str]] = field(
        default_factory=set
    )  # attributes already mentioned, as (thing, size) and (thing, colour)
    _ground_told: bool = False
    _extras: list[Callable[[], str | None]] | None = None

    def mentioned(self) -> tuple[int, ...]:
        """Objects spoken of so far, ascending."""
        return tuple(sorted(place for i in self.introduced for place in self.content.things[i].members))

    def short(self) -> Caption:
        """One phrase."""
        order = self._order()
        relations = [one for one in self.content.relations if one.kind != "larger"]
        kind = self.draws.weighted({"all": 4, "some": 2, "relation": 3 if relations else 0, "place": 2})
        if kind == "relation":
            text = self._related_phrase(self.draws.choice(relations))
        elif kind == "place":
            text = f"{self._name(order[0])} {self._place(self.content.things[order[0]])}"
        else:
            names = [self._name(i) for i in (order if kind == "all" else order[: max(1, len(order) - 1)])]
            text = listed(names)
        form = self.draws.integer(0, 5)
        if form == 0 and kind != "place":
            text = f"{text} on {self._background()}"
        elif form == 1:
            text = f"{self.draws.choice(_PICTURES)} {text}"
        elif form == 2 and kind in ("all", "some"):
            text = f"there {self._be(order[0])} {text}"
        elif form == 3 and self.content.style and kind != "place":
            text = f"{text} in the {self.content.style} style"
        if text.count(" ") < 2:  # 'two cats' is shorter than anyone's caption
            text = f"{self.draws.choice(_PICTURES)} {text}"
        return Caption("short", text, self.mentioned())

    def medium(self) -> Caption:
        """One to three sentences."""
        order = self._order()
        kind = self.draws.weighted({"list": 3, "places": 3, "ground": 2})
        if kind == "list":
            names = [self._name(i) for i in order]
            opening = self.draws.choice(
                ("there {be} {names}", "the picture shows {names}", "we see {names}", "{names} can be seen")
            )
            parts = [sentence(opening.format(be=self._be(order[0]), names=listed(names)))]
        elif kind == "ground":
            names = [self._name(i) for i in order]
            ground = self._background()
            parts = [
                sentence(
                    self.draws.choice(
                        (
                            f"on {ground}, there {self._be(order[0])} {listed(names)}",
                            f"{listed(names)} on {ground}",
                        )
                    )
                )
            ]
        else:
            clauses = [self._located(i) for i in order]
            parts = [
                sentence(f"{self.draws.choice((', and ', '; '))}".join(clauses[start : start + 2]))
                for start in range(0, len(clauses), 2)
            ]
        for _ in range(self.draws.integer(0, 2)):
            if (more := self.more()) is not None:
                parts.append(more)
        return Caption("medium", " ".join(parts), self.mentioned())

    def long(self, words: int) -> Caption:
        """A description of about so many words, as far as there is enough to say."""
        return Caption("long", self.description(words), self.mentioned())

    def description(self, words: int) -> str:
        """The text of a long caption."""
        parts = [self._opening()] if self.draws.chance(0.7) else []
        for i in self._order():
            parts.append(sentence(self._located(i)))
            if self.draws.chance(0.3) and (more := self.more()) is not None:
                parts.append(more)
        while sum(part.count(" ") + 1 for part in parts) < words and (more := self.more()) is not None:
            parts.append(more)
        return " ".join(parts)

    def more(self) -> str | None:
        """One more sentence about what was introduced, or None when nothing is left."""
        if self._extras is None:
            self._extras = self._all_extras()
        for place, extra in enumerate(self._extras):
            if (text := extra()) is not None:
                del self._extras[place]
                return sentence(text)
        return None

    def last(self, place: int) -> str:
        """The sentence that brings in the thing held back."""
        self.hidden = None
        opening = self.draws.choice(("Finally, {}.", "Last of all, {}.", "Besides all this, {}.", "And {}."))
        thing = self.content.things[place]
        name = self._name(place, size="", colour=thing.colour)
        return opening.format(f"there {self._be(place)} {name} {self._place(thing)}")

    def _order(self) -> list[int]:
        return self.draws.shuffled([i for i in range(len(self.content.things)) if i != self.hidden])

    def _name(self, place: int, *, size: str | None = None, colour: str | None = None) -> str:
        """A thing by name: with an indefinite article at first, with `the` when it comes up again."""
        thing = self.content.things[place]
        count = len(thing.members)
        if place in self.introduced:
            number = f"{NUMBERS[count]} " if count > 1 and self.draws.chance(0.5) else ""
            return f"the {number}{thing.noun.phrase(count)}"
        self.introduced.add(place)
        size = (thing.size if self.draws.chance(0.6) else "") if size is None else size
        colour = (thing.colour if self.draws.chance(0.8) else "") if colour is None else colour
        self._told |= {(place, kind) for kind, output in (("size", size), ("colour", colour)) if output}
        return counted(thing.noun, count, before=size, colour=colour)

    def _be(self, place: int) -> str:
        return "is" if self.content.things[place].is_one else "are"

    def _place(self, thing: Thing) -> str:
        """Where a thing is; several in several places are told apart."""
        regions = list(thing.regions)
        if len(set(regions)) == 1:
            return self.draws.choice(_PLACES[regions[0]])
        return "with " + listed([f"one {self.draws.choice(_PLACES[region])}" for region in regions])

    def _located(self, place: int) -> str:
        """A clause that tells where a thing is."""
        thing, form = self.content.things[place], self.draws.integer(0, 3)
        be, where, name = self._be(place), self._place(thing), self._name(place)
        if where.startswith("with "):
            spots = where.removeprefix("with ")
            return self.draws.choice((f"there {be} {name}: {spots}", f"{name} can be seen, {spots}"))
        if form == 0:
            return f"{where} there {be} {name}" if name[:4] != "the " else f"{name} {be} {where}"
        if form == 1 and name[:4] != "the ":
            return f"there {be} {name} {where}"
        return f"{name} {be} {where}" if form == 2 else f"{name} can be seen {where}"

    def _background(self) -> str:
        self._ground_told = True
        phrase = background_phrase(self.content.background, form=self.draws.integer(0, 1))
        return f"{article(phrase)} {phrase}"

    def _opening(self) -> str:
        """How a description begins."""
        things = f"{NUMBERS[self.content.objects]} thing{'s' if self.content.objects > 1 else ''}"
        forms = [f"this is a scene on {self._background()}", f"the scene has {self._background()}"]
        if self.hidden is None:
            forms += [
                f"the picture shows {things} on {self._background()}",
                f"there {'is' if self.content.objects == 1 else 'are'} {things} here",
            ]
        return sentence(self.draws.choice(forms))

    def _related_phrase(self, relation: Relation) -> str:
        ways = _RELATIONS[relation.kind]
        if self.draws.chance(0.5):
            return f"{self._name(relation.first)} {self.draws.choice(ways[0])} {self._name(relation.second)}"
        return f"{self._name(relation.second)} {self.draws.choice(ways[1])} {self._name(relation.first)}"

    def _all_extras(self) -> list[Callable[[], str | None]]:
        """Sentences that may be added, in a drawn order; None while their subject is not introduced."""
        relations = _fresh_first(self.content.relations, self.draws)
        some, rest = relations[: len(self.content.things)], relations[len(self.content.things) :]
        extras: list[Callable[[], str | None]] = [lambda one=one: self._relation(one) for one in some]
        extras += [lambda i=i: self._attributes(i) for i in range(len(self.content.things))]
        extras += [lambda i=i, edge=edge: self._edge(i, edge) for i, edge in self.content.near_edges]
        extras += [lambda i=i, words=words: self._span(i, words) for i, words in self.content.spans]
        extras += [self._ground, self._style]
        late = [lambda region=region: self._nothing(region) for region in self.content.empty]
        late = self.draws.shuffled(late)[:3] + [lambda one=one: self._relation(one) for one in rest]
        return [*self.draws.shuffled(extras), *late]  # what is not there, and more comparisons, come last

    def _relation(self, relation: Relation) -> str | None:
        if not {relation.first, relation.second} <= self.introduced:
            return None
        ways = _RELATIONS[relation.kind]
        first, second, way = relation.first, relation.second, ways[0]
        if self.draws.chance(0.5):
            first, second, way = second, first, ways[1]
        return f"{self._name(first)} is {self.draws.choice(way)} {self._name(second)}"

    def _attributes(self, place: int) -> str | None:
        thing = self.content.things[place]
        left = [
            value
            for kind, value in (("size", thing.size), ("colour", thing.colour))
            if value and (place, kind) not in self._told
        ]
        if place not in self.introduced or not left:
            return None
        self._told |= {(place, "size"), (place, "colour")}
        return f"{self._name(place)} {self._be(place)} {listed(left)}"

    def _edge(self, place: int, edge: str) -> str | None:
        if place not in self.introduced:
            return None
        name = self._name(place)
        verb = self.draws.choice(("is close to", "nearly touches", "is right beside"))
        return f"{name} {verb} the {edge} edge"

    def _span(self, place: int, words: str) -> str | None:
        if place not in self.introduced:
            return None
        name = self._name(place)
        measure = self.draws.choice(("as wide as the image", "of the image in width"))
        return f"{name} is about {words} {measure}"

    def _ground(self) -> str | None:
        return None if self._ground_told else f"the background is {_bare(self._background())}"

    def _style(self) -> str | None:
        if self.content.style is None:
            return None
        form = self.draws.choice(
            (
                "everything is drawn in the {} style",
                "the drawing style is {}",
                "the picture is in the style of {}",
            )
        )
        return form.format(self.content.style)

    def _nothing(self, region: tuple[str, str]) -> str:
        area = _AREAS[region]
        return self.draws.choice(
            (f"{area} is empty", f"there is nothing in {area}", f"{area} shows only the background")
        )


def _bare(phrase: str) -> str:
    """`a plain white background` as what follows `the background is`."""
    words = phrase.split()[1:]
    if words[0] == "background":
        rest = " ".join(words[1:])
        return rest.removeprefix("that is ") if rest.startswith("that is ") else f"one {rest}"
    return " ".join(word for word in words if word != "background") if "background" in words else phrase


def _fresh_first(relations: Sequence[Relation], draws: Draws) -> list[Relation]:
    """A drawn order that begins with new pairs, so that few sentences in a row are about one pair."""
    met: set[frozenset[int]] = set()
    fresh: list[Relation] = []
    again: list[Relation] = []
    for one in draws.shuffled(relations):
        pair = frozenset((one.first, one.second))
        (again if pair in met else fresh).append(one)
        met.add(pair)
    return fresh + again
