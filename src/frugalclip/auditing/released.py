"""The published counts' format: a JSON file for each kind of search that maps a concept to a number.

Source: the released `search_counts/` of arXiv 2404.04125. A file is named
`{dataset}_{corpus}_{search}_search_counts.json`; where searches of the same words in text, of images and of
both are there, they are one table. Corpora are joined by the concept's name and never by position.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from frugalclip.core.errors import DataError
from frugalclip.core.guard import parse_json, reading
from frugalclip.core.paths import user_path
from frugalclip.core.records import write_json

KINDS = ("text", "image", "both")
_ENDING = "_search_counts.json"
_ADVICE = "give what audit concepts --json wrote, or a JSON file that maps each concept to a count"

Counts = dict[str, dict[str, int | None]]  # concept -> text, image, both


def write_released(folder: str | Path, counts: Counts, *, dataset: str, corpus: str) -> list[Path]:
    """Write counts in the published format.

    Args:
        folder: made if it is not there.
        counts: of each concept.
        dataset: whose classes the concepts are.
        corpus: what was searched.

    Returns:
        The files: one for texts, and where images were searched one for them and one for both.
    """
    folder = user_path(folder)
    searches = {"text": "lemmatized", "image": "tagged", "both": "integrated_tlemmatized"}
    written = []
    for kind in KINDS:
        own = {name: values[kind] for name, values in counts.items() if values[kind] is not None}
        if own:
            path = folder / f"{_plain(dataset)}_{_plain(corpus)}_{searches[kind]}{_ENDING}"
            path.parent.mkdir(parents=True, exist_ok=True)
            write_json(path, own)
            written.append(path)
    return written


def _plain(name: str) -> str:
    stem = Path(name).stem or "data"
    return "".join(one if one.isalnum() or one == "-" else "-" for one in stem)


def read_counts(path: str | Path) -> Counts:
    """Counts of concepts, of ours or in the published format.

    Args:
        path: what `audit concepts --json` wrote, or a published file of one kind of search.

    Raises:
        DataError: when it is neither.
    """
    path = user_path(path)
    if not path.is_file():
        raise DataError(f"there is no file {path} with counts; {_ADVICE}.")
    with reading(path, advice=_ADVICE):
        content = parse_json(path.read_bytes())
        if not isinstance(content, dict):
            raise ValueError("it holds no object")
        return _ours(content["concepts"]) if "concepts" in content else _published(content, path.name)


def _ours(concepts: Mapping[str, Mapping[str, Any]]) -> Counts:
    return {name: {kind: _count(values[kind], name) for kind in KINDS} for name, values in concepts.items()}


def _published(content: Mapping[str, Any], name: str) -> Counts:
    kind = "both" if "integrated" in name else "text" if "lemmatized" in name or "lower" in name else "image"
    nothing: dict[str, int | None] = dict.fromkeys(KINDS)
    return {concept: nothing | {kind: _count(value, concept)} for concept, value in content.items()}


def _count(value: Any, name: str) -> int | None:
    if value is not None and (isinstance(value, bool) or not isinstance(value, int) or value < 0):
        raise ValueError(f"'{name}' has the count {value!r}, expected a whole number of at least 0")
    return value
