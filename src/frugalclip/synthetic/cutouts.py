"""The objects that scenes are made of: named, divided into splits, and drawn by known frequencies.

Division comes before composing: a family, and so a concept, is in one split only.
"""

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, final

import numpy as np

from frugalclip.core.errors import DataError, known_names
from frugalclip.core.executors import Crash, Executor, InlineExecutor
from frugalclip.core.random import stream_seed
from frugalclip.data.image_faults import BadImage
from frugalclip.data.image_reader import ImageReader
from frugalclip.data.manifest import Manifest
from frugalclip.synthetic.cutting import NotACutout, cut_out
from frugalclip.synthetic.draws import Draws
from frugalclip.synthetic.english import Noun, clean_name, noun
from frugalclip.synthetic.plan import ScenePlan

_THEME = 20  # images of one name without a concept field: more share a theme, not a thing
_CHUNK = 64


@dataclass(frozen=True)
class Cutout:
    """One object, without its pixels."""

    id: str
    row: int  # in the data set it came from
    concept: str
    name: str
    family: str
    style: str | None
    split: str


@dataclass(frozen=True)
class Rejection:
    """A picture that no scene uses, and why."""

    id: str
    reason: str
    detail: str


@dataclass(frozen=True)
class Cutouts:
    """Objects with their pixels, and the tables from which scenes draw them."""

    items: list[Cutout]
    pixels: list[np.ndarray]  # (height, width, 4) uint8 each, colours multiplied by opacity
    left_out: list[Rejection] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.items)

    @cached_property
    def nouns(self) -> list[Noun]:
        """The noun of every object."""
        return [noun(item.name) for item in self.items]

    @property
    def styles(self) -> list[str]:
        """Drawing styles, sorted."""
        return sorted({item.style for item in self.items if item.style is not None})


def choose_cutouts(manifest: Manifest, plan: ScenePlan) -> Cutouts:
    """Name and divide what could be cut out; pixels come later.

    Args:
        manifest: pictures of single objects.
        plan: names the fields.

    Raises:
        DataError: when a field is not there, nothing is left, or a split has no cut-outs.
    """
    manifest = manifest.where(plan.where)
    left_out: list[Rejection] = []
    names = _names(manifest, plan)
    concepts = _column(manifest, plan.concept_field, ("concept",), names)
    families = _column(manifest, plan.family_field, ("family", "component"), concepts)
    styles = _column(manifest, plan.style_field, ("style",), [None] * len(manifest))
    has_concepts = concepts is not names
    shared = Counter(names)
    items: list[Cutout] = []
    for row, id in enumerate(manifest.ids):
        name = clean_name(names[row] or "")
        if concepts[row] is None and has_concepts:
            left_out.append(
                Rejection(
                    id, "no-concept", "other pictures have one; set concept_field to another field to use it"
                )
            )
        elif name is None:
            left_out.append(
                Rejection(
                    id, "no-name", f"'{(names[row] or '')[:80]}' does not name one thing in a few words"
                )
            )
        elif not has_concepts and shared[names[row]] > _THEME:
            left_out.append(
                Rejection(id, "theme-name", f"{shared[names[row]]:,} pictures are called '{name}'")
            )
        else:
            concept = str(concepts[row]) if has_concepts else name.lower()
            items.append(
                Cutout(id, row, concept, name, str(families[row] or concept), _text(styles[row]), "")
            )
    if not items:
        raise DataError(
            f"{manifest.name} names no object ({left_out[0].detail if left_out else 'it is empty'}); "
            "set name_field to a field of names."
        )
    items, notes = _divided(_one_name_each(items), manifest, plan)
    _check_splits(items, plan)
    return Cutouts(items, [], left_out, notes)


def with_pixels(
    chosen: Cutouts, manifest: Manifest, plan: ScenePlan, executor: Executor | None = None
) -> Cutouts:
    """Cut the chosen objects out of their pictures.

    Args:
        chosen: by `choose_cutouts`.
        manifest: the same data set.
        plan: its canvas is their largest size, its `where` selects the rows.
        executor: where they are cut out; by default in this process.

    Raises:
        DataError: when nothing can be cut out, a split is left without objects, or a worker process dies.
    """
    work = _Cutting(ImageReader(manifest.where(plan.where)), plan.canvas)
    rows = [item.row for item in chosen.items]
    pieces = [rows[start : start + _CHUNK] for start in range(0, len(rows), _CHUNK)]
    found: list[np.ndarray | tuple[str, str]] = []
    for _, result in (executor or InlineExecutor()).run(work, pieces):
        if isinstance(result, Crash):
            raise DataError("a worker process died, usually for lack of memory; call again with --workers 1.")
        found += result
    kept = [(item, one) for item, one in zip(chosen.items, found, strict=True) if isinstance(one, np.ndarray)]
    faults = [
        Rejection(item.id, *one)
        for item, one in zip(chosen.items, found, strict=True)
        if not isinstance(one, np.ndarray)
    ]
    if not kept:
        raise DataError(
            f"none of {len(found):,} pictures is an object on white ({faults[0].detail}); give cut-outs, "
            "such as the word sample."
        )
    result = Cutouts(
        [item for item, _ in kept], [one for _, one in kept], [*chosen.left_out, *faults], chosen.notes
    )
    _check_splits(result.items, plan)
    return result


@final
@dataclass(frozen=True)
class _Cutting:
    """Cuts objects out of rows; travels to worker processes."""

    reader: ImageReader
    side: int

    def __call__(self, rows: list[int]) -> list[np.ndarray | tuple[str, str]]:
        """The object of every row, or the reason and detail where there is none."""
        result: list[np.ndarray | tuple[str, str]] = []
        for row in rows:
            try:
                result.append(cut_out(self.reader.bytes(row), side=self.side))
            except BadImage as error:
                result.append((error.cause, str(error)))
            except NotACutout as error:
                result.append(("not-a-cutout", str(error)))
        return result


def _names(manifest: Manifest, plan: ScenePlan) -> list[str | None]:
    captions = [texts[0] if texts else None for texts in manifest.captions()]
    return [_text(value) for value in _column(manifest, plan.name_field, ("name", "label"), captions)]


def _column(manifest: Manifest, wanted: str, usual: Sequence[str], otherwise: list[Any]) -> list[Any]:
    """A field by name; for `auto` the first usual one that holds anything, else the values given."""
    if wanted == "none":
        return otherwise
    if wanted != "auto":
        return manifest.field(wanted)
    for name in usual:
        if name in manifest.field_names and manifest.table[name].null_count < len(manifest):
            return manifest.field(name)
    return otherwise


def _text(value: Any) -> str | None:
    return None if value is None else str(value)


def _one_name_each(items: list[Cutout]) -> list[Cutout]:
    """Join concepts of one name, which no caption could tell apart, and their families."""
    concept_of: dict[str, str] = {}
    family_of: dict[str, str] = {}
    for item in items:
        concept_of.setdefault(item.name.lower(), item.concept)
    parents: dict[str, str] = {}

    def root(family: str) -> str:
        while (above := parents.get(family, family)) != family:
            family = above
        return family

    for item in items:
        concept = concept_of[item.name.lower()]
        first, second = sorted((root(family_of.setdefault(concept, item.family)), root(item.family)))
        parents[second] = first
    return [replace(item, concept=concept_of[item.name.lower()], family=root(item.family)) for item in items]


def _divided(items: list[Cutout], manifest: Manifest, plan: ScenePlan) -> tuple[list[Cutout], list[str]]:
    """Give every object its split: of the field if it keeps families whole, else by a hash of the family."""
    wanted = plan.splits.field
    name = "split" if wanted == "auto" else wanted
    if wanted == "none" or (wanted == "auto" and "split" not in manifest.field_names):
        return [replace(item, split=_hashed_split(item.family, plan)) for item in items], []
    values = manifest.field(name)
    divided = [replace(item, split=str(values[item.row])) for item in items]
    found: defaultdict[str, set[str]] = defaultdict(set)
    for item in divided:
        found[item.family].add(item.split)
    torn = next((family for family, splits in found.items() if len(splits) > 1), None)
    if torn is None and set().union(*found.values()) >= set(plan.splits.scenes):
        return divided, []
    why = (
        f"the field '{name}' puts '{torn}' into {' and '.join(sorted(found[torn]))}"
        if torn is not None
        else f"the field '{name}' knows {', '.join(sorted(set().union(*found.values())))}, "
        f"not all of {', '.join(plan.splits.scenes)}"
    )
    if wanted != "auto":
        raise DataError(
            f"{why}, so it cannot divide the cut-outs; leave splits.field out, "
            "or set splits.field=none to divide by a hash."
        )
    return [replace(item, split=_hashed_split(item.family, plan)) for item in items], [
        f"{why}: cut-outs are divided by a hash of the family"
    ]


def _hashed_split(family: str, plan: ScenePlan) -> str:
    """A split by the family's name and the seed alone, so that more cut-outs never move earlier ones."""
    place = stream_seed(plan.seed, f"scenes/split/{family}") / 2**63 * sum(plan.splits.cutouts.values())
    for name, weight in plan.splits.cutouts.items():
        place -= weight
        if place < 0:
            return name
    return max(plan.splits.cutouts, key=lambda name: plan.splits.cutouts[name])


def _check_splits(items: Sequence[Cutout], plan: ScenePlan) -> None:
    there = Counter(item.split for item in items)
    styles = {item.style for item in items if item.style is not None}
    for split, share in plan.splits.scenes.items():
        wanted = plan.splits.styles.get(split)
        if wanted and (unknown := [style for style in wanted if style not in styles]):
            raise DataError(
                f"splits.styles.{split} names '{unknown[0]}', which no cut-out has; "
                f"{known_names(unknown[0], styles)}"
            )
        if share and not any(item.split == split and (not wanted or item.style in wanted) for item in items):
            listed = ", ".join(f"{name} {count:,}" for name, count in there.items())
            raise DataError(
                f"no cut-out is left for scenes of the split '{split}' (there are: {listed}); "
                "give more pictures, "
                f"or set splits.scenes and splits.cutouts to the splits you want."
            )


class Pool:
    """Draws objects for scenes: a concept by its frequency, then one of its pictures.

    Args:
        cutouts: all objects.
        plan: frequencies and styles.
    """

    def __init__(self, cutouts: Cutouts, plan: ScenePlan) -> None:
        self.cutouts, self.plan = cutouts, plan
        self.weights = concept_weights(cutouts.items, plan)  # concept -> weight
        self._tables: dict[tuple[str, str | None], tuple[list[list[int]], np.ndarray]] = {}
        self._styles: dict[str, list[str]] = {}

    def styles(self, split: str) -> list[str]:
        """Styles that scenes of a split may use; empty where objects have none."""
        if split not in self._styles:
            there = sorted(
                {item.style for item in self.cutouts.items if item.split == split and item.style is not None}
            )
            self._styles[split] = self.plan.splits.styles.get(split) or there
        return self._styles[split]

    def draw(self, draws: Draws, split: str, style: str | None) -> int:
        """Position of one object among the cut-outs.

        Args:
            draws: two numbers are taken.
            split: whose concepts are drawn.
            style: None draws among all the styles of the split.
        """
        members, ends = self._table(split, style)
        place = min(int(np.searchsorted(ends, draws.number() * ends[-1], side="right")), len(members) - 1)
        return draws.choice(members[place])

    def has(self, split: str, style: str | None) -> bool:
        """Whether there is anything to draw."""
        return bool(len(self._table(split, style)[0]))

    def _table(self, split: str, style: str | None) -> tuple[list[list[int]], np.ndarray]:
        """(concepts,) positions of their pictures, and (concepts,) running sums of weights."""
        if (split, style) not in self._tables:
            allowed = self.plan.splits.styles.get(split) if style is None else [style]
            members: defaultdict[str, list[int]] = defaultdict(list)
            for position, item in enumerate(self.cutouts.items):
                if (
                    item.split == split
                    and (allowed is None or item.style in allowed)
                    and self.weights[item.concept] > 0
                ):
                    members[item.concept].append(position)
            ends = np.cumsum([self.weights[concept] for concept in members])
            self._tables[split, style] = list(members.values()), ends
        return self._tables[split, style]


def concept_weights(items: Sequence[Cutout], plan: ScenePlan) -> dict[str, float]:
    """Concept -> how often it is drawn, relative to the others of its split.

    Raises:
        DataError: when the table names a concept that is not there, or leaves a split without any.
    """
    concepts = list(dict.fromkeys(item.concept for item in items))
    frequencies = plan.frequencies
    if frequencies.kind == "uniform":
        return dict.fromkeys(concepts, 1.0)
    if frequencies.kind == "zipf":
        split_of = {item.concept: item.split for item in items}
        by_lot = sorted(concepts, key=lambda concept: stream_seed(plan.seed, f"scenes/rank/{concept}"))
        ranks: Counter[str] = Counter()
        weights: dict[str, float] = {}
        for concept in by_lot:
            ranks[split_of[concept]] += 1
            weights[concept] = float(ranks[split_of[concept]] ** -frequencies.exponent)
        return weights
    known = {item.name.lower(): item.concept for item in items} | {concept: concept for concept in concepts}
    weights = dict.fromkeys(concepts, 0.0)
    for name, weight in frequencies.table.items():
        concept = known.get(name, known.get(name.lower()))
        if concept is None:
            raise DataError(
                f"frequencies.table names '{name}', which no cut-out shows; "
                f"{known_names(name, (item.name for item in items))}"
            )
        weights[concept] = weight
    for split, share in plan.splits.scenes.items():
        if share and not any(weights[item.concept] > 0 for item in items if item.split == split):
            raise DataError(
                f"frequencies.table gives no concept of the split '{split}' a weight; name some, "
                f"or set splits.scenes={{train: 1}}."
            )
    return weights
