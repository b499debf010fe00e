"""Prompt sets: the sentences around a class name.

Sets are data (`prompts.yaml` beside this file, or a text file), since the metrics depend on the prompts.
"""

from functools import cache
from pathlib import Path

from frugalclip.core.errors import DataError, known_names
from frugalclip.core.paths import user_path
from frugalclip.core.yaml_text import read_yaml
from frugalclip.sources.captions import read_text


@cache
def _sets() -> dict[str, dict[str, list[str]]]:
    return read_yaml(Path(__file__).with_name("prompts.yaml"))


def prompt_sets() -> list[str]:
    """Names of the sets that come with the package."""
    return sorted(_sets())


def find_prompts(name: str | Path) -> list[str]:
    """The prompts of a set, each with `{}` where the class name goes; `{c}` in a file means the same.

    Args:
        name: a set that comes with the package, or a text file with one prompt a line (empty lines and lines
            that begin with # are skipped).

    Raises:
        DataError: no such set or file, or a line of the file without `{}`.
    """
    if str(name) in _sets():
        return list(_sets()[str(name)]["prompts"])
    path = user_path(name)
    if not path.is_file():
        raise DataError(
            f"'{name}' is neither a prompt set nor a file; {known_names(str(name), prompt_sets())}"
        )
    lines = [line.strip().replace("{c}", "{}") for line in read_text(path).splitlines()]
    prompts = [line for line in lines if line and not line.startswith("#")]
    for line in prompts:
        if "{}" not in line:
            raise DataError(
                f"{path} has the prompt '{line}' without {{}}; put {{}} where the class name goes."
            )
    if not prompts:
        raise DataError(f"{path} holds no prompt; write one a line, such as 'a photo of a {{}}.'")
    return list(dict.fromkeys(prompts))


def fill(prompts: list[str], name: str) -> list[str]:
    """Each prompt with the name in it; braces in the name stay what they are."""
    return [prompt.replace("{}", name) for prompt in prompts]
