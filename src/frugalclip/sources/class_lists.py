"""Lists of class names beside a data set: `classnames.txt`, `words.txt` of ImageNet, `classes.json`.

A line is a name, by number from 0; or a number or a WordNet id with its name. WordNet's synonyms have commas
between.
"""

import json
import re
from collections import Counter
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute

from frugalclip.data.images import EXTENSIONS
from frugalclip.sources.captions import decoded
from frugalclip.sources.column_names import INDEX_NAMES, LABEL_NAMES, plain_name

pc: Any = pyarrow.compute  # its functions are made at import, out of sight of type checkers

_FILES = re.compile(
    r".*((class|label|categor|names|words|synset|wnid|id2|idx).*\.(txt|json|csv|tsv)|\.names)", re.IGNORECASE
)
_KEYED = re.compile(r"(\d+|n\d{8})[\s,:;]+(\S.*)")
_WORDNET = re.compile(r"n\d{8}")
_LARGEST = 2**23  # bytes; the words of all of WordNet have a third of it


def class_names(folder: Path, values: Collection[str]) -> dict[str, list[str]]:
    """Names of classes by number or WordNet id, from a list in a folder or the folder above.

    Args:
        folder: of the data.
        values: numbers or ids that occur; a list that lacks one of them is another data set's.

    Returns:
        Value -> names, of which the first differs from class to class; empty where no list has them all.
    """
    if not values or not all(value.isdigit() or _WORDNET.fullmatch(value) for value in values):
        return {}
    for place in (folder, folder.parent):
        for path in _lists_in(place):
            known = _read_list(path)
            if all(value in known for value in values):
                return _told_apart({value: known[value] for value in values})
    return {}


def is_list_name(file: str) -> bool:
    """Whether a file is called like a list of classes."""
    return bool(_FILES.fullmatch(file))


def _lists_in(folder: Path) -> list[Path]:
    try:
        return sorted(
            entry
            for entry in folder.iterdir()
            if _FILES.fullmatch(entry.name) and entry.is_file() and entry.stat().st_size < _LARGEST
        )
    except OSError:
        return []


def _read_list(path: Path) -> dict[str, str]:
    """Names by number or id; empty where the file holds something else."""
    try:
        text = decoded(path.read_bytes())
        if path.suffix.lower() == ".json":
            return _from_json(json.loads(text))
    except (OSError, ValueError, RecursionError):
        return {}
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    keyed: dict[str, str] = {found[1]: found[2] for line in lines if (found := _KEYED.fullmatch(line))}
    if keyed and len(keyed) >= len(lines) - 1:  # the other line is a header
        return _names_only(keyed)
    return _names_only({str(number): line for number, line in enumerate(lines)})


def _names_only(found: dict[str, str]) -> dict[str, str]:
    """The list, or nothing where it holds labels of images or numbers and not names of classes."""
    names = [name.strip().strip('"') for name in found.values()]
    are_names = all(re.search(r"[^\W\d_]", name) and not _names_image(name) for name in names)
    return dict(zip(found, names, strict=True)) if are_names and len(set(names)) > 0.9 * len(names) else {}


def _names_image(line: str) -> bool:
    return any(word.lower().endswith(EXTENSIONS) for word in re.split(r"[\s,;:]+", line))


def _from_json(content: Any) -> dict[str, str]:
    if isinstance(content, list):
        content = dict(enumerate(content))
    if not isinstance(content, dict):
        return {}
    if all(isinstance(value, int) for value in content.values()):
        content = {value: key for key, value in content.items()}
    last = {key: value[-1] if isinstance(value, list) and value else value for key, value in content.items()}
    found = {str(key): value for key, value in last.items() if isinstance(value, str)}
    "".join(found.values()).encode()  # raises for halves of characters, which are no names
    return _names_only(found) if len(found) == len(content) else {}


def _told_apart(names: Mapping[str, str]) -> dict[str, list[str]]:
    """Synonyms of each class; where two classes share their first name, the whole text is the name."""
    plain = {key: re.sub(r"^\d+\.", "", name).replace("_", " ").strip() for key, name in names.items()}
    synonyms = {
        key: [
            part.strip() for part in (name.split(",") if _WORDNET.fullmatch(key) else [name]) if part.strip()
        ]
        for key, name in plain.items()
    }
    shared = Counter(parts[0] for parts in synonyms.values() if parts)
    return {
        key: parts if parts and shared[parts[0]] == 1 else [plain[key], *parts]
        for key, parts in synonyms.items()
    }


def with_class_names(table: pa.Table, file: Path) -> tuple[pa.Table, list[str]]:
    """The table with names in its columns of class numbers or ids, where a list of names lies near.

    Args:
        table: the rows.
        file: where they come from.

    Returns:
        The table, and the columns that hold names now.
    """
    changed: list[str] = []
    for name in table.column_names:
        column = table[name]
        is_plain = pa.types.is_integer(column.type) or pa.types.is_string(column.type)
        if plain_name(name) not in (*LABEL_NAMES, *INDEX_NAMES) or not is_plain:
            continue
        text = pc.utf8_trim_whitespace(column.cast(pa.string()))
        distinct = [value for value in pc.unique(text).to_pylist() if value]
        if known := class_names(file.parent, distinct):
            labels = pa.array([known[value][0] for value in distinct], pa.string())
            named = labels.take(pc.index_in(text, pa.array(distinct, pa.string())).combine_chunks())
            table = table.set_column(table.column_names.index(name), name, pa.chunked_array([named]))
            changed.append(name)
    return table, changed
