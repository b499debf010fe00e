"""Image views whose embeddings by a teacher are stored: they are made again, and have to be made alike."""

from collections.abc import Iterable, Mapping
from typing import Any

from frugalclip.core.errors import RecipeError
from frugalclip.core.types import Needs
from frugalclip.core.yaml_text import dump_flow
from frugalclip.features.store import Store
from frugalclip.loading.replay import Augmentations, stored_augmentations
from frugalclip.loading.views import ViewConfig
from frugalclip.teachers import request_of


def replayed_views(
    stores: Mapping[str, Store],
    needs: Needs,
    *,
    views: Mapping[str, ViewConfig],
    texts: Iterable[str],
    size: int,
) -> dict[str, Augmentations]:
    """The image views whose augmentations have to be those that a store holds embeddings of.

    Args:
        stores: teacher -> its store.
        needs: of all objectives.
        views: the recipe's image views.
        texts: names of its text views.
        size: pixels on a side of a view without a size of its own.

    Raises:
        RecipeError: if a view is made otherwise than a store's augmentations, or two stores differ.
    """
    found: dict[str, Augmentations] = {}
    for teacher, store in stores.items():
        plan = stored_augmentations(store)
        for view in sorted(request_of(teacher, needs, texts=texts).images if plan else ()):
            assert plan is not None
            _refuse_other_view(f"teachers.{teacher} ({store.path})", plan, view, views[view], size=size)
            if (other := found.setdefault(view, plan)).number != plan.number:
                raise RecipeError(
                    f"teachers.{teacher} ({store.path}) has {plan.number} augmentations of an image, another "
                    f"teacher of views.{view} has {other.number}; embed with the same --augmentations."
                )
    if len({plan.side for plan in found.values()}) > 1:
        raise RecipeError(
            f"the views {', '.join(sorted(found))} read augmentations made from images of different sizes; "
            "let objectives read one of them."
        )
    return found


def _refuse_other_view(where: str, plan: Augmentations, name: str, own: ViewConfig, *, size: int) -> None:
    if (own.size or size) != plan.size:
        raise RecipeError(
            f"views.{name} has {own.size or size} pixels on a side, and {where} holds augmentations of "
            f"{plan.size}; embed again with --size {own.size or size}."
        )
    ours, theirs = _settings(own.model_copy(update={"size": None})), _settings(plan.view)
    if ours != theirs:
        raise RecipeError(
            f"views.{name} is made with {dump_flow(ours)}, and {where} holds augmentations made with "
            f"{dump_flow(theirs)}; set views.{name} to that, or embed again with --view '{dump_flow(ours)}'."
        )


def _settings(view: ViewConfig) -> dict[str, Any]:
    """The settings of a view that are not at their defaults."""
    plain = ViewConfig().model_dump(mode="json")
    return {name: value for name, value in view.model_dump(mode="json").items() if value != plain[name]}
