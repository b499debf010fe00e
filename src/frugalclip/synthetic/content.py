"""The content of a painted scene: things, relations and places that captions describe."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from frugalclip.synthetic.cutouts import Cutouts
from frugalclip.synthetic.english import Noun, noun
from frugalclip.synthetic.layout import Background, Layout, SceneObject
from frugalclip.synthetic.rendering import Rendering

ROWS, COLUMNS = ("top", "middle", "bottom"), ("left", "middle", "right")
# of the canvas: a centre before the first is top or left, behind the second bottom or right
_BANDS = (0.39, 0.61)
# share of the canvas by which centres differ at least where one object is left of, or above, another
_BESIDE = 0.16
_STRAIGHT = 1.3  # how many times larger that difference is than the one across
_IN_FRONT = 0.06  # share of an object's pixels that another covers at least, to be called in front of it
_LARGER = 2.0  # ratio of box areas
_NEAR_EDGE = 0.03  # share of the canvas


@dataclass(frozen=True)
class Thing:
    """All objects of one concept in a scene."""

    members: tuple[int, ...]  # positions in the layout
    noun: Noun
    size: str  # tiny, small or large; empty where medium, or where members differ
    colour: str  # painted in; empty for its own colours
    style: str
    regions: tuple[tuple[str, str], ...]  # (row, column) of every member

    @property
    def is_one(self) -> bool:
        """Whether there is only one."""
        return len(self.members) == 1


@dataclass(frozen=True)
class Relation:
    """One thing seen from another; both are single objects."""

    first: int  # position among the things
    kind: str  # left, above, front or larger: `first` is left of `second`, and so on
    second: int


@dataclass(frozen=True)
class SceneContent:
    """What captions may describe of a scene."""

    things: tuple[Thing, ...]
    relations: tuple[Relation, ...]
    near_edges: tuple[tuple[int, str], ...]  # (thing, edge)
    spans: tuple[tuple[int, str], ...]  # (thing, its width in words)
    empty: tuple[tuple[str, str], ...]  # regions in which no object has a pixel
    background: Background
    style: str | None

    @property
    def objects(self) -> int:
        """How many objects there are."""
        return sum(len(thing.members) for thing in self.things)


_SPANS = ((0.1, "a tenth"), (0.2, "a fifth"), (0.25, "a quarter"), (1 / 3, "a third"), (0.5, "half"))


def content_of(layout: Layout, painted: Rendering, cutouts: Cutouts) -> SceneContent:
    """The content of a scene."""
    canvas = painted.labels.shape[0]
    groups: dict[str, list[int]] = {}
    for place, one in enumerate(layout.objects):
        groups.setdefault(cutouts.items[one.cutout].concept, []).append(place)
    things = tuple(_thing(layout, members, cutouts, canvas) for members in groups.values())
    singles = [(i, thing.members[0]) for i, thing in enumerate(things) if thing.is_one]
    boxes = {i: layout.objects[place] for i, place in singles}
    near = [
        (i, edge)
        for i, box in boxes.items()
        for edge, gap in _gaps(box, canvas)
        if gap <= _NEAR_EDGE * canvas
    ]
    spans = [
        (i, words)
        for i, box in boxes.items()
        for share, words in _SPANS
        if abs(box.width / canvas - share) <= 0.08 * share
    ]
    return SceneContent(
        things=things,
        relations=tuple(_relations(layout, painted, singles)),
        near_edges=tuple(near),
        spans=tuple(spans),
        empty=tuple(_empty(painted.labels)),
        background=layout.background,
        style=layout.style,
    )


def renamed(content: SceneContent, thing: int, name: str) -> SceneContent:
    """The content with another name for one thing, for a wrong caption."""
    things = [replace(one, noun=noun(name)) if i == thing else one for i, one in enumerate(content.things)]
    return replace(content, things=tuple(things))


def region_of(top: float, left: float, *, height: float, width: float, canvas: int) -> tuple[str, str]:
    """(row, column) of a box by its centre: top, middle or bottom; left, middle or right."""
    down, right = (top + height / 2) / canvas, (left + width / 2) / canvas
    return ROWS[(down > _BANDS[0]) + (down > _BANDS[1])], COLUMNS[(right > _BANDS[0]) + (right > _BANDS[1])]


def _thing(layout: Layout, members: Sequence[int], cutouts: Cutouts, canvas: int) -> Thing:
    boxes = [layout.objects[place] for place in members]
    sizes = {box.size for box in boxes}
    size = sizes.pop() if len(sizes) == 1 else "medium"
    return Thing(
        members=tuple(members),
        noun=cutouts.nouns[boxes[0].cutout],
        size="" if size == "medium" else size,
        colour=boxes[0].colour or "",
        style=cutouts.items[boxes[0].cutout].style or "",
        regions=tuple(
            region_of(box.top, box.left, height=box.height, width=box.width, canvas=canvas) for box in boxes
        ),
    )


def _gaps(box: SceneObject, canvas: int) -> list[tuple[str, int]]:
    return [
        ("top", box.top),
        ("bottom", canvas - box.top - box.height),
        ("left", box.left),
        ("right", canvas - box.left - box.width),
    ]


def _relations(layout: Layout, painted: Rendering, singles: Sequence[tuple[int, int]]) -> list[Relation]:
    canvas = painted.labels.shape[0]
    found: list[Relation] = []
    for i, a in singles:
        for j, b in singles:
            if i == j:
                continue
            first, second = layout.objects[a], layout.objects[b]
            down = (second.top + second.height / 2 - first.top - first.height / 2) / canvas
            right = (second.left + second.width / 2 - first.left - first.width / 2) / canvas
            if right >= _BESIDE and right >= _STRAIGHT * abs(down):
                found.append(Relation(i, "left", j))
            if down >= _BESIDE and down >= _STRAIGHT * abs(right):
                found.append(Relation(i, "above", j))
            if painted.hidden_by[b, a] >= _IN_FRONT:
                found.append(Relation(i, "front", j))
            if (
                first.height * first.width >= _LARGER * second.height * second.width
                and first.size != second.size
            ):
                found.append(Relation(i, "larger", j))
    return found


def _empty(labels: np.ndarray) -> list[tuple[str, str]]:
    ends = [round(labels.shape[0] * share) for share in (0, 1 / 3, 2 / 3, 1)]
    cells = [(row, column) for row in range(3) for column in range(3)]
    found = [(r, c) for r, c in cells if not labels[ends[r] : ends[r + 1], ends[c] : ends[c + 1]].any()]
    return [(ROWS[r], COLUMNS[c]) for r, c in found]
