"""Short names that set several settings of a recipe at once, and settings that have to be given.

A recipe declares short names under `shorthands`, such as `teacher: [init_from, teachers.teacher.from]`. A
setting whose value is `???` has no default; `plan` shows what is known without it, and `train` refuses.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

MISSING = "???"  # as in OmegaConf


def written_out(overrides: Sequence[str], shorthands: Any) -> list[str]:
    """Overrides with every short name replaced by the settings that it stands for.

    Args:
        overrides: `key=value` pairs.
        shorthands: of a recipe that is not validated yet; anything but a mapping to lists is left to that.
    """
    if not isinstance(shorthands, Mapping) or not all(isinstance(one, list) for one in shorthands.values()):
        return list(overrides)
    result: list[str] = []
    for word in overrides:
        name, equals, value = word.partition("=")
        settings = shorthands.get(name.strip()) if equals else None
        result += [word] if settings is None else [f"{setting}={value}" for setting in settings]
    return result


def missing_settings(content: Mapping[str, Any], shorthands: Mapping[str, Sequence[str]]) -> list[str]:
    """Settings that have to be given, by their short names where they have one."""
    short = {setting: name for name, settings in shorthands.items() for setting in settings}
    return list(dict.fromkeys(short.get(path, path) for path in _open_paths(content)))


def example_of(names: Sequence[str]) -> str:
    """Overrides that would give missing settings, such as `teacher=MODEL`."""
    return " ".join(f"{name}=MODEL" if name == "teacher" else f"{name}=VALUE" for name in names)


def _open_paths(content: Mapping[str, Any], start: str = "") -> Iterator[str]:
    for key, value in content.items():
        if isinstance(value, Mapping):
            yield from _open_paths(value, f"{start}{key}.")
        elif value == MISSING:
            yield f"{start}{key}"
