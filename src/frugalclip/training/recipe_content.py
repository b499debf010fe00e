"""The mappings of a recipe before they are validated: shorthands, own files, and sections with a kind.

What stands in files of its own (objectives, gates, changes of the network) is validated here by the
settings of those files; `training.recipe` validates the rest.
"""

import re
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Any

from torch import nn

from frugalclip.compression.base import CHANGES, GATES, find_change, find_gates
from frugalclip.core.config import Settings, shown, validated
from frugalclip.core.errors import RecipeError
from frugalclip.core.overrides import Names
from frugalclip.core.plugins import PluginKind, located
from frugalclip.objectives.base import OBJECTIVES, ObjectiveConfig, find_objective
from frugalclip.towers.dual import IMAGE_TOWERS
from frugalclip.towers.vit import VitConfig

SHORTHANDS = {
    ("data",): "path",
    ("guard",): "path",
    ("model", "image"): "size",
    ("model", "text"): "size",
}  # a plain word there sets this key


def expanded(content: dict[str, Any]) -> dict[str, Any]:
    """Expand shorthands before merging, so that a plain word replaces one key and not a whole section."""
    content = {k: dict(v) if isinstance(v, dict) else v for k, v in content.items()}
    for (*path, last), key in SHORTHANDS.items():
        place: Any = content
        for part in path:
            place = place.get(part) if isinstance(place, dict) else None
        if isinstance(place, dict) and isinstance(
            place.get(last), str | int | float
        ):  # a folder may be called 2024
            place[last] = {key: str(place[last])}
    return content


def own_settings(place: Names, content: Mapping[str, Any]) -> type[Settings] | None:
    """The settings of an objective or of gates, which stand in their own files."""
    try:
        match place:
            case ("objectives", name):
                given = (content.get("objectives") or {}).get(name)
                kind = given.get("kind") if isinstance(given, Mapping) else None
                return find_objective(str(kind or name)).Config
            case ("gates" | "change" as section,):
                given = content.get(section)
                kind = given.get("kind") if isinstance(given, Mapping) else given
                find = find_gates if section == "gates" else find_change
                return find(str(kind)).Config if kind else None
    except (RecipeError, AttributeError):
        return None  # what is wrong is named when the recipe is validated
    return None


def with_own_files(content: dict[str, Any], folder: Path, *, known: Collection[str] = ()) -> dict[str, Any]:
    """The mappings with every file of the user's own as an absolute path.

    Args:
        content: of one recipe file, or of overrides.
        folder: where its paths start, and where a file of an objective's name may lie.
        known: names of objectives that have a file already.
    """
    content = {key: _numbered(value) if key == "stages" else value for key, value in content.items()}
    if isinstance(objectives := content.get("objectives"), Mapping):
        content["objectives"] = _objectives_of(objectives, folder, known)
        known = {*known, *objectives}
    for key, kind in (("gates", GATES), ("change", CHANGES)):
        if content.get(key) is not None:
            content[key] = _with_file(content[key], folder, kind)
    if isinstance(stages := content.get("stages"), Mapping):  # of overrides: some stages, by their numbers
        content["stages"] = {key: _stage_of(stage, folder, known) for key, stage in stages.items()}
    elif "stages" in content:
        content["stages"] = [_stage_of(stage, folder, known) for stage in content["stages"]]
    return content


def _numbered(stages: Any) -> Any:
    """A list of stages, or a mapping from the numbers of some."""
    is_numbered = isinstance(stages, Mapping) and stages and all(str(key).isdecimal() for key in stages)
    return stages if is_numbered else _as_list(stages)


def _as_list(value: Any) -> list[Any]:
    if value is None or not isinstance(value, list | tuple):
        return [] if value is None else [value]
    return list(value)


def _stage_of(stage: Any, folder: Path, known: Collection[str]) -> Any:
    if not isinstance(stage, Mapping):
        return stage
    stage = dict(stage)
    if isinstance(objectives := stage.get("objectives"), Mapping):
        stage["objectives"] = _objectives_of(objectives, folder, known)
    for key, kind in (("gates", GATES), ("change", CHANGES)):
        if stage.get(key) is not None:
            stage[key] = _with_file(stage[key], folder, kind)
    return stage


def _objectives_of(objectives: Mapping[str, Any], folder: Path, known: Collection[str]) -> dict[str, Any]:
    """Objectives with their files; null stays, since it removes one."""
    return {
        name: settings
        if settings is None
        else _with_file(settings, folder, OBJECTIVES, name="" if name in known else str(name))
        for name, settings in objectives.items()
    }


def _with_file(settings: Any, folder: Path, kind: PluginKind[Any], *, name: str = "") -> Any:
    """Settings with the file of their kind; without a kind, the name may be that of a file."""
    given = settings.get("kind") if isinstance(settings, Mapping) else "" if name else settings
    word = given or name
    if not isinstance(word, str) or (found := located(word, folder, package=kind.package)) == word:
        return settings
    number = isinstance(settings, int | float) and not isinstance(settings, bool)
    rest = settings if isinstance(settings, Mapping) else {"weight": settings} if number else {}
    return {**rest, "kind": found}


def typed_parts(content: Mapping[str, Any]) -> dict[str, Any]:
    """The sections whose settings stand in files of their own, validated by them.

    Raises:
        RecipeError: one sentence naming the first fault.
    """
    objectives = content.get("objectives") or {}
    if not isinstance(objectives, dict):
        raise RecipeError(
            f"objectives is a {type(objectives).__name__}; expected a mapping such as objectives: "
            "{contrastive: {weight: 1}}."
        )
    for section in ("objectives", "teachers", "views", "texts"):
        _check_names(section, content.get(section))
    gates, change = content.get("gates"), content.get("change")
    return {
        "objectives": {name: _objective_config(name, settings) for name, settings in objectives.items()},
        "preprocess": _preprocess(content),
        "gates": None if gates is None else _kind_config(gates, find_gates, where="gates"),
        "change": None if change is None else _kind_config(change, find_change, where="change"),
        "stages": [_stage_content(one, number) for number, one in enumerate(_as_list(content.get("stages")))],
    }


def _check_names(section: str, entries: Any) -> None:
    """Refuse names of the user's own that `ema:main`, `main@kept` or torch's modules have no room for."""
    for name in entries if isinstance(entries, Mapping) else ():
        if not re.fullmatch(r"[\w-]+", str(name)):
            near = re.sub(r"[^\w-]+", "_", str(name))[:40].strip("_")
            raise RecipeError(
                f"{section} has the name {shown(name)}; expected letters, digits, _ and -, such as "
                f"{near or 'mine'}."
            )
        if section in ("objectives", "teachers") and hasattr(nn.ModuleDict(), str(name)):
            raise RecipeError(
                f"{section}.{name} is a name that torch's modules use themselves; choose another one, such "
                f"as my_{name}{', and set its kind' if section == 'objectives' else ''}."
            )


def _stage_content(stage: Any, number: int) -> Any:
    """An entry of `stages` with its change validated by the change's own settings."""
    if not isinstance(stage, dict) or stage.get("change") is None:
        return stage
    where = f"stages[{number}].change"
    return {**stage, "change": _kind_config(stage["change"], find_change, where=where)}


def _kind_config(settings: Any, find: Callable[[str], Any], *, where: str) -> Any:
    """Settings with a `kind`, validated by the class of that kind; a plain word is the kind."""
    settings = {"kind": settings} if isinstance(settings, str) else settings
    if not isinstance(settings, dict) or not settings.get("kind"):
        raise RecipeError(f"{where} is {settings!r}; expected a name, or settings such as {{kind: NAME}}.")
    return validated(find(str(settings["kind"])).Config, settings, where=where)


def _preprocess(content: Mapping[str, Any]) -> Any:
    """The `preprocess` section with the size of the image tower, which is written once."""
    model, given = content.get("model") or {}, content.get("preprocess")
    given = {} if given is None else given
    image = model.get("image") if isinstance(model, dict) else None
    resolution = image.get("resolution") if isinstance(image, dict) else None
    if not isinstance(given, dict) or "size" in given:
        return given
    kind = image.get("kind") if isinstance(image, dict) else None
    default = IMAGE_TOWERS.get(str(kind), VitConfig).model_fields["resolution"].default
    return {**given, "size": default if resolution is None else resolution}


def _objective_config(name: str, settings: Any) -> ObjectiveConfig:
    settings = {} if settings is None else settings
    if isinstance(settings, int | float) and not isinstance(settings, bool):
        settings = {"weight": settings}
    if not isinstance(settings, dict):
        raise RecipeError(f"objectives.{name} is {settings!r}; expected settings such as {{weight: 1}}.")
    objective = find_objective(str(settings.get("kind") or name))
    return validated(objective.Config, settings, where=f"objectives.{name}")
