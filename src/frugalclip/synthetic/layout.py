"""Layouts of scenes: which objects, how large, of what colour, in what place, on what background.

A layout is a function of (seed, number of the scene) and the cut-outs; nothing is painted here.
"""

from dataclasses import dataclass, replace

import numpy as np

from frugalclip.synthetic.atlas import Atlas
from frugalclip.synthetic.colours import PALETTE, TINTS
from frugalclip.synthetic.cutouts import Pool
from frugalclip.synthetic.draws import Draws, block
from frugalclip.synthetic.english import COLOUR_WORDS, SIDE_WORDS
from frugalclip.synthetic.plan import MOST_OBJECTS, SIZES, ScenePlan

SIDES = {
    "tiny": (0.15,),
    "small": (0.22, 0.27),
    "medium": (0.34, 0.4),
    "large": (0.55,),
}  # longer side, as a share of the canvas
_ROOM = 0.6  # share of the canvas that boxes may take together, so that they can be told apart
_TRIES = 16
_APART, _TOUCHING = 0.02, (0.08, 0.35)  # overlap of two boxes, as a share of the smaller one
_VISIBLE = 0.4  # share of an object's pixels that must stand out from the background


@dataclass(frozen=True)
class SceneObject:
    """One object in its place; in a layout the later ones stand in front."""

    cutout: int  # position among the cut-outs
    size: str  # tiny, small, medium or large
    side: int  # pixels of the longer side
    top: int
    left: int
    height: int
    width: int
    mirrored: bool
    colour: str | None  # painted in this colour


@dataclass(frozen=True)
class Background:
    """What is behind the objects."""

    kind: str  # plain, gradient, speckled, striped or split
    colours: tuple[str, ...]  # of the palette; one or two
    direction: str  # vertical, horizontal or diagonal: the way in which it changes
    shade: int = 0  # added to every channel


@dataclass(frozen=True)
class Layout:
    """A scene before it is painted."""

    number: int
    split: str
    style: str | None  # None where objects are of several styles, or of none
    background: Background
    objects: tuple[SceneObject, ...]


def lay_out(plan: ScenePlan, pool: Pool, atlas: Atlas, *, split: str, number: int) -> Layout:
    """The layout of one scene.

    Args:
        plan: the settings.
        pool: objects by split, style and frequency.
        atlas: their shapes.
        split: of the scene.
        number: of the scene.
    """
    draws = Draws(plan.seed, "layout", number)
    styles = pool.styles(split)
    is_mixed = draws.chance(plan.mixed_styles)
    style = None if is_mixed or not styles else draws.choice(styles)
    chosen = _choose(plan, pool, draws, split, style)
    sized = _sizes(plan, draws, len(chosen))
    tries = block(plan.seed, "places", number, 0, 2 * _TRIES * MOST_OBJECTS).reshape(MOST_OBJECTS, _TRIES, 2)
    placed = _place(
        plan,
        atlas,
        draws,
        tries,
        [(cutout, colour, *size) for (cutout, colour), size in zip(chosen, sized, strict=True)],
    )
    placed = [
        replace(one, mirrored=one.mirrored and not _has_sides(pool.cutouts.items[one.cutout].name))
        for one in placed
    ]
    background = _background(plan, atlas, draws, placed)
    found = {pool.cutouts.items[one.cutout].style for one in placed}
    return Layout(number, split, found.pop() if len(found) == 1 else None, background, tuple(placed))


def nudged(layout: Layout, plan: ScenePlan, *, number: int) -> Layout:
    """The same scene with every object moved by a few pixels and another shade behind: a near duplicate.

    Args:
        layout: the scene it is made from.
        plan: seed and canvas.
        number: of the copy.
    """
    draws = Draws(plan.seed, "nudge", number)
    most = max(1, plan.canvas // 48)

    def moved(place: int, length: int) -> int:
        return int(np.clip(place + draws.integer(-most, most), 0, plan.canvas - length))

    objects = tuple(
        replace(one, top=moved(one.top, one.height), left=moved(one.left, one.width))
        for one in layout.objects
    )
    background = replace(layout.background, shade=draws.choice((-9, -6, -3, 3, 6, 9)))
    return replace(layout, number=number, objects=objects, background=background)


def _choose(
    plan: ScenePlan, pool: Pool, draws: Draws, split: str, style: str | None
) -> list[tuple[int, str | None]]:
    """(cut-out, colour) of every object; one concept looks the same within a scene, to be counted."""
    by_concept: dict[str, tuple[int, str | None]] = {}
    chosen: list[tuple[int, str | None]] = []
    for _ in range(draws.integer(*plan.objects)):
        if chosen and draws.chance(plan.repeat):
            chosen.append(chosen[-1])
            continue
        source = "train" if split != "train" and draws.chance(plan.splits.shared) else split
        cutout = pool.draw(draws, source, style if pool.has(source, style) else None)
        item = pool.cutouts.items[cutout]
        colour = draws.choice(list(TINTS)) if draws.chance(plan.tint) else None
        if COLOUR_WORDS & set(item.name.lower().replace("-", " ").split()):
            colour = None  # a green red heart
        chosen.append(by_concept.setdefault(item.concept, (cutout, colour)))
    return chosen


def _has_sides(name: str) -> bool:
    """Whether a name would be wrong of the mirrored picture, such as a left arrow's."""
    return not SIDE_WORDS.isdisjoint(name.lower().split())


def _sizes(plan: ScenePlan, draws: Draws, count: int) -> list[tuple[str, int]]:
    """(size, pixels of the longer side), made smaller where all of them would not find room."""
    left, result = _ROOM, list[tuple[str, int]]()
    for behind in range(count, 0, -1):
        size = draws.weighted(plan.sizes)
        share = draws.choice(SIDES[size])
        allowed = [name for name in SIZES if plan.sizes.get(name, 0) > 0]
        while share**2 > left / (1 + 0.3 * (behind - 1)) and allowed.index(size) > 0:
            size = allowed[allowed.index(size) - 1]
            share = SIDES[size][0]
        left -= share**2
        result.append((size, max(4, round(share * plan.canvas))))
    return result


def _place(
    plan: ScenePlan,
    atlas: Atlas,
    draws: Draws,
    tries: np.ndarray,
    wanted: list[tuple[int, str | None, str, int]],
) -> list[SceneObject]:
    """Find a place for every object, the largest first; who stands in front is drawn afterwards."""
    placed: list[SceneObject] = []
    for tried, (cutout, colour, size, side) in zip(
        tries, sorted(wanted, key=lambda one: -one[3]), strict=False
    ):
        height, width = atlas.shape(cutout, side)
        may_touch, mirrored = draws.chance(plan.overlap), draws.chance(plan.mirror)
        low, high = _TOUCHING if may_touch and placed else (0.0, _APART)
        least, best = 2.0, (0, 0)
        for down, right in tried.tolist():
            place = int(down * (plan.canvas - height + 1)), int(right * (plan.canvas - width + 1))
            overlap = max((_overlap(one, *place, height, width) for one in placed), default=0.0)
            if low <= overlap <= high:
                least, best = overlap, place
                break
            if overlap < least:
                least, best = overlap, place
        if least > _TOUCHING[1] and len(placed) >= plan.objects[0]:
            continue  # there is no room for it
        placed.append(SceneObject(cutout, size, side, *best, height, width, mirrored, colour))
    return draws.shuffled(placed)


def _overlap(one: SceneObject, top: int, left: int, height: int, width: int) -> float:
    """The share of the smaller of two boxes that they have in common."""
    common_height = min(one.top + one.height, top + height) - max(one.top, top)
    common_width = min(one.left + one.width, left + width) - max(one.left, left)
    if common_height <= 0 or common_width <= 0:
        return 0.0
    return common_height * common_width / min(one.height * one.width, height * width)


def _background(plan: ScenePlan, atlas: Atlas, draws: Draws, placed: list[SceneObject]) -> Background:
    """A background on which every object can be seen."""
    kind = draws.weighted(plan.backgrounds)
    direction = draws.choice(
        ("vertical", "horizontal", "diagonal")
        if kind in ("gradient", "striped")
        else ("vertical", "horizontal")
    )
    standing_out = np.min(
        [atlas.standing_out(one.cutout, one.colour) for one in placed], axis=0
    )  # (palette,)
    names = list(PALETTE)
    usable = [names[i] for i in np.flatnonzero(standing_out >= _VISIBLE)]
    if len(usable) < 2:
        usable = [names[i] for i in np.argsort(-standing_out, kind="stable")[:2]]
    first, second = draws.shuffled(usable)[:2]
    return Background(
        kind, (first, second) if kind in ("gradient", "striped", "split") else (first,), direction
    )
