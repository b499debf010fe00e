"""The names that compete, and those that are right for a row."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from frugalclip.core.errors import DataError, known_names
from frugalclip.core.paths import user_path
from frugalclip.data.manifest import Manifest
from frugalclip.data.words import normalise
from frugalclip.sources.captions import read_text


@dataclass(frozen=True)
class Classes:
    """The names of a data set and the rows they are right for."""

    names: list[str]  # the generalised pool, in a fixed order
    synonyms: list[list[str]]  # (classes,) further texts; the first is the name
    labels: list[list[int]]  # (rows,) classes of each row; empty: the row takes no part
    source: str  # how the names were found, in words


def read_classes(path: Path) -> list[list[str]]:
    """A file with one class a line, synonyms after `|`: `tabby | tabby cat`.

    Raises:
        DataError: when it is missing, empty, or one name stands for two classes.
    """
    path = user_path(path)
    if not path.is_file():
        raise DataError(
            f"there is no class file {path}; write one name a line, synonyms after |, or leave --classes out."
        )
    lines = [
        [name.strip() for name in line.split("|") if name.strip()] for line in read_text(path).splitlines()
    ]
    classes = [names for names in lines if names]
    owner: dict[str, str] = {}
    for names in classes:
        for name in names:
            if owner.setdefault(normalise(name), names[0]) != names[0]:
                raise DataError(
                    f"{path} gives '{name}' to both '{owner[normalise(name)]}' and '{names[0]}'; "
                    "keep it in one of the two lines."
                )
    if not classes:
        raise DataError(f"{path} holds no class; write one name a line.")
    return list({normalise(names[0]): names for names in classes}.values())


def row_names(
    manifest: Manifest, *, label_field: str | None = None, language: str | None = None
) -> tuple[list[list[str]], str]:
    """What each row is called.

    Args:
        manifest: the rows.
        label_field: a field with a name, or a list of names all of which are right; default `label` where
            there is one, else the first caption.
        language: captions of this language, when captions are the names.

    Returns:
        (rows,) names, empty where a row has none, and the source in words.
    """
    if label_field is None and language is None and "label" in manifest.field_names:
        label_field = "label"
    if label_field is not None:
        return [_texts(value) for value in manifest.field(label_field)], f"field {label_field}"
    captions = manifest.captions(language=language)
    return [_texts(c[0]) if c else [] for c in captions], "first caption" + (
        f" in {language}" if language else ""
    )


def _texts(value: Any) -> list[str]:
    values = value if isinstance(value, (list, tuple)) else [value]
    return [text for v in values if v is not None and (text := " ".join(str(v).replace("_", " ").split()))]


def collect_classes(
    selected: Manifest,
    everything: Manifest,
    *,
    label_field: str | None = None,
    classes: Path | str | Sequence[str] | None = None,
    language: str | None = None,
) -> Classes:
    """The names that compete, and the labels of the selected rows.

    Args:
        selected: the rows to evaluate on.
        everything: the data set they come from; its names are the generalised pool.
        label_field: see `row_names`.
        classes: a class file, or a list of lines as in one; then these are the names, and rows with none of
            them take no part.
        language: see `row_names`.

    Raises:
        DataError: when no row has a name, or none of the names is in the class file.
    """
    names, source = row_names(selected, label_field=label_field, language=language)
    if classes is None:
        pool, _ = row_names(everything, label_field=label_field, language=language)
        first = {normalise(text): text for row in reversed(pool) for text in reversed(row)}
        synonyms = [[first[k]] for k in sorted(first)]
    else:
        synonyms = _given(classes)
        source += ", names from " + (str(classes) if isinstance(classes, (str, Path)) else "the given list")
    place = {normalise(text): i for i, texts in enumerate(synonyms) for text in texts}
    labels = [sorted({place[normalise(text)] for text in row if normalise(text) in place}) for row in names]
    if not any(labels):
        found = next((row[0] for row in names if row), None)
        if found is None:
            raise DataError(
                f"none of the {len(selected)} rows of {selected.name} has a name ({source}); "
                "choose another --label-field."
            )
        origin, tail = source.partition(",")[0], known_names(found, [s[0] for s in synonyms])
        raise DataError(f"'{found}', the name of a row by its {origin}, is not in the class list; {tail}")
    return Classes([texts[0] for texts in synonyms], synonyms, labels, source)


def _given(classes: Path | str | Sequence[str]) -> list[list[str]]:
    if isinstance(classes, (str, Path)):
        return read_classes(Path(classes))
    lines = [[name.strip() for name in line.split("|") if name.strip()] for line in classes]
    return list({normalise(names[0]): names for names in lines if names}.values())
