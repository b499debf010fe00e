"""Scenes by number: the encoded image and its row of the manifest."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

from frugalclip.synthetic.atlas import Atlas
from frugalclip.synthetic.captions import Caption, SceneCaptions, tell
from frugalclip.synthetic.content import SceneContent, content_of, region_of, renamed
from frugalclip.synthetic.cutouts import Cutouts, Pool
from frugalclip.synthetic.draws import Draws
from frugalclip.synthetic.layout import Layout, lay_out, nudged
from frugalclip.synthetic.plan import ScenePlan
from frugalclip.synthetic.planting import Assignment
from frugalclip.synthetic.rendering import Rendering, encode, paint
from frugalclip.synthetic.truth import pack_labels


@dataclass(frozen=True)
class Scene:
    """One finished scene: the picture's file, and its row of the manifest without the picture's place."""

    image: bytes
    row: dict[str, Any]


@dataclass(frozen=True)
class _Draft:
    layout: Layout
    painted: Rendering
    content: SceneContent
    told: SceneCaptions


class Composer:
    """Makes scenes by number.

    Args:
        plan: the settings.
        cutouts: objects with their pixels.
        assignment: splits and faults of all scenes.
    """

    def __init__(self, plan: ScenePlan, cutouts: Cutouts, assignment: Assignment) -> None:
        self.plan, self.cutouts, self.assignment = plan, cutouts, assignment
        self.pool, self.atlas = Pool(cutouts, plan), Atlas(cutouts.pixels)

    def scene(self, number: int) -> Scene:
        """One scene with its planted fault, if it has one."""
        fault, source = str(self.assignment.planted[number]), int(self.assignment.sources[number])
        made = (
            self._copy(number, source, near=fault == "near-duplicate")
            if fault in ("duplicate", "near-duplicate", "leak")
            else self._drafted(number)
        )
        told, detail = made.told, ""
        if fault == "swapped":
            told = _without_truth(self._drafted(source).told)
        elif fault == "dropped-words":
            told, detail = self._with_words_dropped(number, told)
        elif fault == "wrong-object":
            told, detail = self._with_a_wrong_object(number, made)
        row = self._row(number, made, told)
        row |= {
            "planted": fault or None,
            "planted_from": scene_id(source) if source >= 0 else None,
            "planted_detail": detail or None,
        }
        return Scene(encode(made.painted.pixels, self.plan), row)

    def _drafted(self, number: int) -> _Draft:
        layout = lay_out(
            self.plan, self.pool, self.atlas, split=str(self.assignment.splits[number]), number=number
        )
        return self._painted(layout, Draws(self.plan.seed, "captions", number))

    def _painted(self, layout: Layout, draws: Draws) -> _Draft:
        painted = paint(layout, self.plan, self.atlas)
        content = content_of(layout, painted, self.cutouts)
        return _Draft(
            layout,
            painted,
            content,
            tell(content, self.plan.captions, draws, count_tokens=self._count_tokens),
        )

    def _copy(self, number: int, source: int, *, near: bool) -> _Draft:
        """The source's scene: as it is, or nudged and told in other words."""
        made = self._drafted(source)
        return (
            self._painted(
                nudged(made.layout, self.plan, number=number), Draws(self.plan.seed, "captions", number)
            )
            if near
            else made
        )

    def _with_words_dropped(self, number: int, told: SceneCaptions) -> tuple[SceneCaptions, str]:
        """Every caption without some of its words; mentions stay, even where their words are lost."""
        draws = Draws(self.plan.seed, "dropped words", number)
        captions: list[Caption] = []
        lost = 0
        for one in told.captions:
            words = one.text.split()
            kept = [word for word in words if not draws.chance(self.plan.planted.dropped_share)] or words[:1]
            lost += len(words) - len(kept)
            captions.append(replace(one, text=" ".join(kept)))
        return SceneCaptions(tuple(captions)), f"{lost} words"

    def _with_a_wrong_object(self, number: int, made: _Draft) -> tuple[SceneCaptions, str]:
        """Captions told of a scene in which one thing is another one, of the same split."""
        draws = Draws(self.plan.seed, "wrong object", number)
        thing = draws.integer(0, len(made.content.things) - 1)
        there = {self.cutouts.items[one.cutout].concept for one in made.layout.objects}
        items, right = (
            self.cutouts.items,
            self.cutouts.items[made.layout.objects[made.content.things[thing].members[0]].cutout],
        )
        for _ in range(50):
            wrong = items[self.pool.draw(draws, made.layout.split, None)]
            if wrong.concept not in there:
                break
        else:
            return made.told, ""  # every concept of the split is in the picture
        content = renamed(made.content, thing, wrong.name)
        told = tell(
            content,
            self.plan.captions,
            Draws(self.plan.seed, "captions", number),
            count_tokens=self._count_tokens,
        )
        members = set(content.things[thing].members)
        captions = [
            replace(one, mentions=tuple(m for m in one.mentions if m not in members)) for one in told.captions
        ]
        return SceneCaptions(tuple(captions), told.key), f"{right.name} -> {wrong.name}"

    def _row(self, number: int, made: _Draft, told: SceneCaptions) -> dict[str, Any]:
        layout, painted, items = made.layout, made.painted, self.cutouts.items
        objects = [
            {
                "concept": items[one.cutout].concept,
                "name": items[one.cutout].name,
                "cutout": items[one.cutout].id,
                "style": items[one.cutout].style,
                "top": one.top,
                "left": one.left,
                "height": one.height,
                "width": one.width,
                "visible": round(float(painted.visible[place]), 4),
                "size": one.size,
                "region": _region(one, self.plan.canvas),
                "colour": one.colour,
                "mirrored": one.mirrored,
            }
            for place, one in enumerate(layout.objects)
        ]
        return {
            "id": scene_id(number),
            "captions": [one.text for one in told.captions],
            "scene": number,
            "split": str(self.assignment.splits[number]),
            "levels": [one.level for one in told.captions],
            "mentions": [list(one.mentions) for one in told.captions],
            "concepts": list(dict.fromkeys(one["concept"] for one in objects)),
            "names": list(dict.fromkeys(one["name"] for one in objects)),
            "style": layout.style,
            "objects": objects,
            "background": layout.background.kind,
            "background_colours": list(layout.background.colours),
            "background_direction": layout.background.direction
            if len(layout.background.colours) > 1
            else None,
            "key_object": told.key.object if told.key else None,
            "key_word": told.key.word if told.key else None,
            "key_token": told.key.token if told.key else None,
            "mask": pack_labels(painted.labels),
        }

    @cached_property
    def _count_tokens(self) -> Callable[[str], int] | None:
        """CLIP's count of a text's tokens; the tokenizer is only built for key words."""
        if not self.plan.captions.key_word:
            return None
        from frugalclip.data.tokens import clip_tokenizer

        tokenizer = clip_tokenizer(context=100_000)
        return lambda text: int(tokenizer.table([text]).offsets[-1]) - 2


def scene_id(number: int) -> str:
    """Id of a scene."""
    return f"scene-{number:08d}"


def _without_truth(told: SceneCaptions) -> SceneCaptions:
    """Captions of another scene mention nothing that is in this one."""
    return SceneCaptions(tuple(replace(one, mentions=()) for one in told.captions))


def _region(one: Any, canvas: int) -> str:
    row, column = region_of(one.top, one.left, height=one.height, width=one.width, canvas=canvas)
    return (
        "centre"
        if row == column == "middle"
        else " ".join(word for word in (row, column) if word != "middle")
    )
