"""Which column is what, and what its values are: shared by every table-like source.

A source gives an Arrow table whose columns are text (CSV) or typed (JSONL, Parquet). Here the image, caption and id columns are recognised by
name, then by content, and the rest become fields with the narrowest type that loses nothing.
"""

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.compute

from frugalclip.core.errors import DataError, known_names
from frugalclip.data.images import EXTENSIONS

pc: Any = pyarrow.compute  # its functions are made at import, out of sight of type checkers

IMAGE_NAMES = (
    *("image", "img", "images", "imagepath", "imgpath", "imagefile", "imgfile", "imagefilename", "imagename", "imgname", "imagefilepath"),
    *("filepath", "filename", "path", "file", "localpath", "photo", "picture", "pic", "jpg", "png", "webp", "jpeg"),
)
CAPTION_NAMES = (
    *("caption", "captions", "text", "texts", "txt", "sentence", "sentences", "alttext", "alt", "title", "description", "comment", "prompt", "name"),
    *("label", "labelname", "classname", "class", "category"),
)
ID_NAMES = ("id", "key", "uid", "sampleid", "imageid")
LABEL_NAMES = frozenset({"label", "labelname", "classname", "class", "category"})
TEXT_NAMES = frozenset(CAPTION_NAMES) - LABEL_NAMES - {"name"}
_NUMBERED = re.compile(r"(caption|text|title|sentence|description|alt|alttext|comment|prompt)s?(\d+)")
_LANGUAGE = re.compile(r"(?:caption|text|title)s?[ _.-]([a-z]{2,3}(?:[-_][A-Za-z]{2,4})?)")
_URL = re.compile(r"[a-zA-Z][a-zA-Z0-9+.-]{1,12}://")
_PROBED = 200  # rows looked at when content decides


@dataclass(frozen=True)
class Roles:
    """Columns by what they are."""

    image: str
    captions: tuple[str, ...]
    languages: tuple[tuple[str, str], ...] = ()  # (language, column), such as ("de", "caption_de")
    id: str | None = None

    @property
    def consumed(self) -> set[str]:
        """Columns that are not fields; a caption that doubles as a label stays one."""
        kept = {name for name in self.captions if _plain(name) in LABEL_NAMES}
        return self.columns - kept | ({self.id} if self.id else set())

    @property
    def columns(self) -> set[str]:
        """Columns that a sample is made of."""
        return {self.image, *self.captions, *(column for _, column in self.languages)}


def choose(table: pa.Table, given: Mapping[str, str] | None, *, where: str) -> Roles:
    """Recognise the columns of a table.

    Args:
        table: the rows, or their beginning.
        given: what the user said: keys `image`, `caption` (several names with commas between) and `id`.
        where: the file, for messages.

    Raises:
        DataError: when a column is not there, or none looks right; lists what was found.
    """
    given = dict(given or {})
    unknown = [key for key in given if key not in ("image", "caption", "id")]
    if unknown:
        raise DataError(f"columns.{unknown[0]} is not a column that can be named; {known_names(unknown[0], ['image', 'caption', 'id'])}")
    names = table.column_names
    captions = tuple(part.strip() for part in given["caption"].split(",")) if "caption" in given else None
    for key, wanted in [("image", given.get("image")), ("id", given.get("id")), *(("caption", name) for name in captions or ())]:
        if wanted is not None and wanted not in names:
            raise DataError(f"columns.{key}: {where} has no column '{wanted}'; {known_names(wanted, names, limit=40)}")
    image = given.get("image") or _image_column(table, where)
    languages = tuple((found[1], name) for name in names if (found := _LANGUAGE.fullmatch(name)) and _is_texts(table.schema.field(name).type))
    if captions is None:
        captions = _caption_columns(table, image, bool(languages), where)
    by_name = {_plain(name): name for name in reversed(names) if name != image}
    identity = given.get("id") or next((by_name[name] for name in ID_NAMES if name in by_name), None)
    return Roles(image, captions, languages, identity)


def holds_bytes(kind: pa.DataType) -> str | None:
    """For a type that holds images: '' for plain bytes, '.bytes' for Hugging Face's struct of bytes and path; else None."""
    if pa.types.is_binary(kind) or pa.types.is_large_binary(kind):
        return ""
    if pa.types.is_struct(kind) and any(child.name == "bytes" and holds_bytes(child.type) == "" for child in kind):
        return ".bytes"
    return None


def is_image_name(name: str) -> bool:
    """True for a column whose name says that it holds images."""
    return _plain(name) in IMAGE_NAMES


def _plain(name: str) -> str:
    return re.sub(r"[\s_.\-]", "", name).lower()


def _image_column(table: pa.Table, where: str) -> str:
    with_bytes = [name for name in table.column_names if holds_bytes(table.schema.field(name).type) is not None]
    by_name = {_plain(name): name for name in reversed(table.column_names)}
    named = [by_name[name] for name in IMAGE_NAMES if name in by_name]
    if with_bytes:
        return next((name for name in named if name in with_bytes), with_bytes[0])
    texts = [name for name in table.column_names if pa.types.is_string(table.schema.field(name).type)]
    shares = {name: _share(table[name], lambda text: text.lower().endswith(EXTENSIONS) and not _URL.match(text)) for name in texts}
    if chosen := [name for name in named if name in texts and shares[name] > 0.5]:
        return chosen[0]
    if content := sorted((name for name in texts if shares[name] > 0.5), key=lambda name: -shares[name]):
        return content[0]
    if chosen := [name for name in named if name in texts and _share(table[name], lambda text: bool(_URL.match(text))) <= 0.5]:
        return chosen[0]
    listed = ", ".join(table.column_names[:20]) or "none"
    urls = [name for name in texts if _share(table[name], lambda text: bool(_URL.match(text))) > 0.5]
    if urls:
        raise DataError(f"{where} holds web addresses in '{urls[0]}' and no image files; download them first, for example with img2dataset.")
    raise DataError(
        f"{where} has no column that looks like an image file (found: {listed}; expected a name such as image, filepath, path or file, "
        f"or values ending in .jpg, .png, .webp); name it with data.columns.image=NAME."
    )


def _caption_columns(table: pa.Table, image: str, has_languages: bool, where: str) -> tuple[str, ...]:
    candidates = [name for name in table.column_names if name != image and _is_captions(table.schema.field(name).type)]
    numbered = [(found[1], int(found[2]), name) for name in candidates if (found := _NUMBERED.fullmatch(_plain(name)))]
    by_name = {_plain(name): name for name in reversed(candidates)}
    for name in CAPTION_NAMES:
        several = tuple(column for stem, _, column in sorted(numbered) if stem == name)
        plain = (by_name[name],) if name in by_name else ()
        if plain or several:
            return plain + several
        if name == "captions" and has_languages:
            return ()
    texts = [name for name in candidates if pa.types.is_string(table.schema.field(name).type) and _plain(name) not in ID_NAMES]
    wordy = {name: _share(table[name], lambda text: " " in text.strip() and not _URL.match(text)) for name in texts}
    best = sorted((name for name in texts if wordy[name] > 0.5), key=lambda name: -_mean_length(table[name]))
    if best:
        return (best[0],)
    raise DataError(
        f"{where} has no column that looks like a caption (found: {', '.join(table.column_names[:20]) or 'none'}; expected a name such as caption, "
        f"text, title or label); name it with data.columns.caption=NAME, several with commas between."
    )


def _share(column: pa.ChunkedArray, test: Any) -> float:
    values = [text for text in column.slice(0, _PROBED).to_pylist() if text]
    return sum(bool(test(text.strip())) for text in values) / len(values) if values else 0.0


def _mean_length(column: pa.ChunkedArray) -> float:
    values = [text for text in column.slice(0, _PROBED).to_pylist() if text]
    return sum(map(len, values)) / max(len(values), 1)


def _is_texts(kind: pa.DataType) -> bool:
    return pa.types.is_string(kind) or (pa.types.is_list(kind) and pa.types.is_string(kind.value_type))


def _is_captions(kind: pa.DataType) -> bool:
    """Text, lists of text, records with a text inside, or languages as keys."""
    if pa.types.is_list(kind):
        return _is_captions(kind.value_type)
    return pa.types.is_string(kind) or pa.types.is_map(kind) or (pa.types.is_struct(kind) and any(_is_captions(child.type) for child in kind))


def texts_in(value: Any) -> list[str]:
    """Captions in a value of any shape: text, a list, or records such as `{"raw": "a dog"}`; trimmed, empty ones left out."""
    if value is None:
        return []
    if isinstance(value, str):
        return [value.strip()] if value.strip() else []
    if isinstance(value, Mapping):
        inner = next((value[key] for key in ("raw", "caption", "text", "sentence", "value") if value.get(key)), None)
        return texts_in(inner)
    if isinstance(value, Iterable) and not isinstance(value, bytes):
        return [text for item in value for text in texts_in(item)]
    return []


def languages_in(value: Any) -> dict[str, list[str]]:
    """`{language: captions}` of a mapping such as `{"en": "dog", "de": "Hund"}`; empty for anything else."""
    if isinstance(value, list) and value and all(isinstance(item, tuple) and len(item) == 2 for item in value):
        value = dict(value)  # Arrow gives maps as pairs
    if not isinstance(value, Mapping):
        return {}
    found = {str(key): texts_in(text) for key, text in value.items() if isinstance(key, str) and re.fullmatch(r"[a-z]{2,3}([-_]\w+)*", key)}
    records = {"raw", "text", "caption", "sentence", "value"}
    return {key: texts for key, texts in found.items() if texts} if not records & set(value) else {}


def training_captions(by_language: Mapping[str, Sequence[str]]) -> list[str]:
    """What training reads of captions in many languages: English, else the first language in the order of codes."""
    if not by_language:
        return []
    return list(by_language["en"] if "en" in by_language else by_language[min(by_language)])


def captions_of(table: pa.Table, roles: Roles) -> tuple[list[list[str]], list[dict[str, list[str]]] | None]:
    """Captions of every row, and by language where the table has languages."""
    captions: list[list[str]] = [[] for _ in range(table.num_rows)]
    by_language: list[dict[str, list[str]]] = [{} for _ in range(table.num_rows)]
    for name in roles.captions:
        is_label = _plain(name) in LABEL_NAMES
        for row, value in enumerate(table[name].to_pylist()):
            if isinstance(value, str):
                text = value.replace("_", " ").strip() if is_label else value.strip()
                if text:
                    captions[row].append(text)
            elif languages := languages_in(value):
                by_language[row].update(languages)
                captions[row] += training_captions(languages)
            else:
                captions[row] += texts_in(value)
    for language, name in roles.languages:
        for row, value in enumerate(table[name].to_pylist()):
            if texts := texts_in(value):
                by_language[row][language] = texts
    if roles.languages:
        captions = [own or training_captions(languages) for own, languages in zip(captions, by_language, strict=True)]
    return captions, by_language if any(by_language) else None


def typed(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """Text as the narrowest type that loses nothing: bool, int64, double, else text. '' is null, and '007' stays text."""
    if not pa.types.is_string(column.type):
        return column
    text = pc.utf8_trim_whitespace(column)
    text = pc.if_else(pc.equal(text, ""), pa.scalar(None, pa.string()), text)
    distinct = pc.unique(text).drop_null()
    if not len(distinct):
        return pa.chunked_array([pa.nulls(len(column))])
    if pc.all(pc.is_in(pc.utf8_lower(distinct), pa.array(["true", "false"]))).as_py():
        return pc.equal(pc.utf8_lower(text), "true")
    if pc.all(pc.match_substring_regex(distinct, r"^(0|-?[1-9][0-9]{0,17})$")).as_py():
        return text.cast(pa.int64())
    if pc.all(pc.match_substring_regex(distinct, r"^(-?(0|[1-9][0-9]*)(\.[0-9]+)?([eE][-+]?[0-9]+)?|nan|NaN)$")).as_py():
        return text.cast(pa.float64())
    return pc.if_else(pc.equal(column, ""), pa.scalar(None, pa.string()), column)


def rows_to_table(rows: Sequence[Mapping[str, Any]]) -> pa.Table:
    """JSON objects as a table: the union of keys, null where absent; values that do not share a type become JSON text."""
    names = list(dict.fromkeys(name for row in rows for name in row))
    return pa.table({name: column_of([row.get(name) for row in rows], name) for name in names})


def column_of(values: list[Any], name: str) -> pa.Array:
    """JSON values of one key as an array; objects stay objects only where they may be captions."""
    if _plain(name) not in TEXT_NAMES:
        values = [as_text(value) if _has_objects(value) else value for value in values]
    elif any(_has_objects(value) and isinstance(value, list) for value in values):  # records such as {"raw": "a dog", "tokens": [...]}
        values = [None if value is None else texts_in(value) for value in values]
    if any(isinstance(value, list) for value in values):  # one caption or several: a list either way
        values = [value if value is None or isinstance(value, list) else [value] for value in values]
    try:
        return pa.array(values)
    except (pa.ArrowException, OverflowError, TypeError, ValueError):
        numbers = all(value is None or (isinstance(value, (int, float)) and not isinstance(value, bool)) for value in values)
        if numbers:
            return pa.array([None if value is None else float(value) for value in values], pa.float64())
        return pa.array([as_text(value) for value in values], pa.string())


def as_text(value: Any) -> str | None:
    """Text as it is, anything else as JSON, None as None."""
    return value if value is None or isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)


def _has_objects(value: Any) -> bool:
    return isinstance(value, dict) or (isinstance(value, list) and any(isinstance(item, (dict, list)) for item in value))
