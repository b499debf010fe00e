"""Which recipe a run directory trains: for a new run the given one, for a resumed run the recorded one."""

from collections.abc import Sequence

from frugalclip.core.errors import RecipeError
from frugalclip.core.locks import contents
from frugalclip.core.records import RunDirectory, write_atomically
from frugalclip.core.users_text import command_line
from frugalclip.core.yaml_text import read_yaml
from frugalclip.training.recipe import Recipe, load_recipe, validate_recipe

TOLERANCE = "data.max_error_fraction="  # may change while a run goes on: it changes no number


def resolve_recipe(name: str, overrides: Sequence[str], directory: RunDirectory, *, resume: bool) -> Recipe:
    """The recipe to train in a run directory.

    Args:
        name: of a recipe, or its path.
        overrides: `key=value` pairs.
        directory: empty or new for a new run.
        resume: go on with the run that is there.

    Raises:
        RecipeError: if the directory holds something else than a run to go on with.
    """
    given = load_recipe(name, overrides)
    if not directory.is_run():
        check_empty(directory)
        return given
    if not resume:
        raise RecipeError(
            f"--out {directory.path} already holds a run; add --resume to go on with it, or choose another "
            "folder."
        )
    recorded = validate_recipe(read_yaml(directory.recipe))
    if any(word.startswith(TOLERANCE) for word in overrides):
        tolerated = {"max_error_fraction": given.data.max_error_fraction}
        recorded = recorded.model_copy(update={"data": recorded.data.model_copy(update=tolerated)})
        write_atomically(directory.recipe, recorded.to_yaml())
    _check_same(recorded, given, overrides, directory)
    return recorded


def check_empty(directory: RunDirectory) -> None:
    """Refuse a place for a new run that holds anything else than the ledger of a run that bad data stopped.

    Raises:
        RecipeError: if it is a file, or a folder with other content.
    """
    path = directory.path
    if any(inner != directory.ledger for inner in contents(path)):
        raise RecipeError(f"--out {path} is not empty and holds no run; choose a new folder.")
    if path.is_file():
        raise RecipeError(f"--out {path} is a file; choose a folder.")


def _check_same(recorded: Recipe, given: Recipe, overrides: Sequence[str], directory: RunDirectory) -> None:
    """Refuse to go on with a run under other settings than it began with."""
    out = directory.path
    from_the_model = {"model", "preprocess"} if recorded.init_from else set[str]()
    old, new = (one.model_dump(mode="json", exclude=from_the_model) for one in (recorded, given))
    changed = [key for key in old if old[key] != new[key]]
    if changed and any(not word.startswith(TOLERANCE) for word in overrides):
        raise RecipeError(
            f"--out {out} was begun with another '{changed[0]}'; resume it without overrides, or train into "
            "a new folder."
        )
    if given.name != recorded.name:
        raise RecipeError(
            f"--out {out} is a run of '{recorded.name}', not of '{given.name}'; run: "
            + command_line("train", directory.recipe, "--out", out, "--resume")
        )
