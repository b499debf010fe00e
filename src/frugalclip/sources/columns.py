"""Which column is what, and what its values are: shared by every table-like source.

A source gives an Arrow table whose columns are text (CSV) or typed (JSONL, Parquet). Here the image, caption
and id columns are recognised by name, then by content, and the rest become fields with the narrowest type
that loses nothing.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.compute

from frugalclip.core.errors import DataError, known_names
from frugalclip.data.images import EXTENSIONS
from frugalclip.sources.caption_values import caption_value, is_conversation, is_structured, parsed
from frugalclip.sources.languages import (
    ISO_639_1,
    NO_LANGUAGES,
    STEMS,
    is_code,
    stem_and_code,
)

pc: Any = pyarrow.compute  # its functions are made at import, out of sight of type checkers

IMAGE_NAMES = (
    *(
        "image",
        "img",
        "images",
        "imagepath",
        "imgpath",
        "imagefile",
        "imgfile",
        "imagefilename",
        "imagename",
        "imgname",
        "imagefilepath",
    ),
    *(
        "filepath",
        "filename",
        "path",
        "file",
        "localpath",
        "photo",
        "picture",
        "pic",
        "jpg",
        "png",
        "webp",
        "jpeg",
    ),
)
CAPTION_NAMES = (
    *(
        "caption",
        "captions",
        "text",
        "texts",
        "txt",
        "sentence",
        "sentences",
        "alttext",
        "alt",
        "title",
        "description",
        "comment",
        "prompt",
        "name",
    ),
    *("label", "labelname", "classname", "class", "category"),
)
ID_NAMES = ("id", "key", "uid", "sampleid", "imageid")
LABEL_NAMES = frozenset({"label", "labelname", "classname", "class", "category"})
TEXT_NAMES = frozenset(CAPTION_NAMES) - LABEL_NAMES - {"name"}
# numbers of classes; names where a list of them lies near
INDEX_NAMES = (
    "labelid",
    "labelidx",
    "labelindex",
    "classid",
    "classidx",
    "classindex",
    "categoryid",
    "target",
)
_NUMBERED = re.compile(r"(caption|text|title|sentence|description|alt|alttext|comment|prompt)s?(\d+)")
BY_LANGUAGE_NAMES = (
    "captionsbylanguage",
    "captionbylanguage",
    "textsbylanguage",
    "textbylanguage",
    "translations",
    "translation",
    "multilingualcaptions",
)
CODE_NAMES = ("language", "lang", "languagecode", "langcode", "locale")
_URL = re.compile(r"(?!file:)[a-zA-Z][a-zA-Z0-9+.-]{1,12}://")
_PROBED = 200  # rows read when content decides


@dataclass(frozen=True)
class Roles:
    """Columns by what they are."""

    image: str
    captions: tuple[str, ...]
    languages: tuple[tuple[str, str], ...] = ()  # (language, column), such as ("de", "caption_de")
    id: str | None = None
    by_language: str | None = None  # a column of {language: captions} beside the captions
    code: str | None = None  # a column that names the language of the row's caption; it stays a field
    labels: tuple[str, ...] = ()  # captions that are names of classes

    @property
    def consumed(self) -> set[str]:
        """Columns that are not fields; a caption that doubles as a label stays one."""
        kept = {name for name in self.captions if self.is_label(name)}
        return self.columns - kept | ({self.id} if self.id else set())

    @property
    def columns(self) -> set[str]:
        """Columns that a sample is made of."""
        return {self.image, *self.captions, *(column for _, column in self.languages)} | (
            {self.by_language} if self.by_language else set()
        )

    def is_label(self, name: str) -> bool:
        """Whether a caption column holds names of classes: underscores in it are spaces."""
        return plain_name(name) in LABEL_NAMES or name in self.labels


def choose(
    table: pa.Table, given: Mapping[str, str] | None, *, where: str, labels: Sequence[str] = ()
) -> Roles:
    """Recognise the columns of a table.

    Args:
        table: the rows, or their beginning.
        given: the user's names: keys `image`, `caption` (several names with commas between) and `id`.
        where: the file, for messages.
        labels: columns known to be names of classes, which caption a table that has nothing better.

    Raises:
        DataError: when a column is not there, or none looks right; lists what was found.
    """
    wanted = _wanted_columns(given or {}, table.column_names, where)
    image = (wanted["image"] or (_image_column(table, where),))[0]
    languages = _language_columns(table)
    by_name = {plain_name(name): name for name in reversed(table.column_names) if name != image}
    by_language = next(
        (
            by_name[n]
            for n in BY_LANGUAGE_NAMES
            if n in by_name and _may_hold_languages(table.schema.field(by_name[n]).type)
        ),
        None,
    )
    has_languages = bool(languages) or by_language is not None
    captions = wanted["caption"] or _caption_columns(
        table, image, has_languages, [n for n in labels if n != image], where
    )
    identity = next(iter(wanted["id"]), None) or next((by_name[n] for n in ID_NAMES if n in by_name), None)
    code = None if has_languages else _code_column(table, by_name)
    return Roles(image, captions, languages, identity, by_language, code, tuple(labels))


def _wanted_columns(given: Mapping[str, str], names: Sequence[str], where: str) -> dict[str, tuple[str, ...]]:
    """Columns that the user names, by role; refused where they are not there."""
    roles = ("image", "id", "caption")
    unknown = [key for key in given if key not in roles]
    if unknown:
        raise DataError(
            f"columns.{unknown[0]} is not a column that can be named; {known_names(unknown[0], roles)}"
        )
    wanted: dict[str, tuple[str, ...]] = {key: (given[key],) if given.get(key) else () for key in roles}
    wanted["caption"] = tuple(part.strip() for name in wanted["caption"] for part in name.split(","))
    for key in roles:
        for name in wanted[key]:
            if name not in names:
                raise DataError(
                    f"columns.{key}: {where} has no column '{name}'; {known_names(name, names, limit=40)}"
                )
    return wanted


def _code_column(table: pa.Table, by_name: Mapping[str, str]) -> str | None:
    """A column that names the language of each row's caption."""
    name = next((by_name[name] for name in CODE_NAMES if name in by_name), None)
    if name is None or not pa.types.is_string(table.schema.field(name).type):
        return None
    return name if _share(table[name], is_code) > 0.8 else None


def _language_columns(table: pa.Table) -> tuple[tuple[str, str], ...]:
    """Columns such as `caption_de`, of the first stem with any; `caption_id` counts if it holds words."""
    found: dict[str, dict[str, str]] = {}
    for name in table.column_names:
        if (named := stem_and_code(name)) and _is_texts(table.schema.field(name).type):
            found.setdefault(named[0], {})[named[1]] = name
    for stem in STEMS:
        codes = {
            code: name for code, name in found.get(stem, {}).items() if re.split("[-_]", code)[0] in ISO_639_1
        }
        if "id" in codes and (
            len(codes) == 1 or _share(table[codes["id"]], lambda text: not re.search(r"\d|_", text)) < 0.8
        ):
            del codes["id"]
        if codes:
            rare = {
                code: name
                for code, name in found[stem].items()
                if code not in codes and len(re.split("[-_]", code)[0]) == 3
            }
            return tuple(
                {**codes, **{code: name for code, name in rare.items() if code not in NO_LANGUAGES}}.items()
            )
    return ()


def _may_hold_languages(kind: pa.DataType) -> bool:
    return (
        pa.types.is_map(kind)
        or pa.types.is_struct(kind)
        or pa.types.is_list(kind)
        or pa.types.is_string(kind)
    )


def holds_bytes(kind: pa.DataType) -> str | None:
    """How the bytes of images lie in a type; None for a type without any.

    The answer is the end of a dotted name: '' for bytes, '.bytes' for Hugging Face's struct of bytes and
    path, and '[]' before either for lists of them.
    """
    if pa.types.is_binary(kind) or pa.types.is_large_binary(kind):
        return ""
    if pa.types.is_list(kind) or pa.types.is_large_list(kind):
        inner = holds_bytes(kind.value_type)
        return f"[]{inner}" if inner in ("", ".bytes") else None
    if pa.types.is_struct(kind) and any(
        child.name == "bytes" and holds_bytes(child.type) == "" for child in kind
    ):
        return ".bytes"
    return None


def is_image_name(name: str) -> bool:
    """Whether a column has a name for images."""
    return plain_name(name) in IMAGE_NAMES


def plain_name(name: str) -> str:
    """A column's name in lower case, without spaces, underscores, dots and hyphens."""
    return re.sub(r"[\s_.\-]", "", name).lower()


def _image_column(table: pa.Table, where: str) -> str:
    with_bytes = [
        name for name in table.column_names if holds_bytes(table.schema.field(name).type) is not None
    ]
    by_name = {plain_name(name): name for name in reversed(table.column_names)}
    named = [by_name[name] for name in IMAGE_NAMES if name in by_name]
    if with_bytes:
        return next((name for name in named if name in with_bytes), with_bytes[0])
    texts = [name for name in table.column_names if pa.types.is_string(table.schema.field(name).type)]
    shares = {
        name: _share(table[name], lambda text: text.lower().endswith(EXTENSIONS) and not _URL.match(text))
        for name in texts
    }
    if chosen := [name for name in named if name in texts and shares[name] > 0.5]:
        return chosen[0]
    if content := sorted((name for name in texts if shares[name] > 0.5), key=lambda name: -shares[name]):
        return content[0]
    if chosen := [
        name
        for name in named
        if name in texts and _share(table[name], lambda text: bool(_URL.match(text))) <= 0.5
    ]:
        return chosen[0]
    listed = ", ".join(table.column_names[:20]) or "none"
    urls = [name for name in texts if _share(table[name], lambda text: bool(_URL.match(text))) > 0.5]
    if urls:
        raise DataError(
            f"{where} holds web addresses in '{urls[0]}' and no image files; download them first, "
            "for example with img2dataset."
        )
    raise DataError(
        f"{where} has no column that looks like an image file (found: {listed}; "
        "expected a name such as image, filepath, path or file, "
        f"or values ending in .jpg, .png, .webp); name it with data.columns.image=NAME."
    )


def _caption_columns(
    table: pa.Table, image: str, has_languages: bool, labels: Sequence[str], where: str
) -> tuple[str, ...]:
    candidates = [
        name
        for name in table.column_names
        if name != image
        and _is_captions(table.schema.field(name).type)
        and not _is_class_numbers(table, name)
    ]
    numbered = [
        (found[1], int(found[2]), name)
        for name in candidates
        if (found := _NUMBERED.fullmatch(plain_name(name)))
    ]
    by_name = {plain_name(name): name for name in reversed(candidates)}
    conversations = [name for name in candidates if _is_conversations(table[name])]
    for name in CAPTION_NAMES:
        several = tuple(column for stem, _, column in sorted(numbered) if stem == name)
        plain = (by_name[name],) if name in by_name else ()
        if name == "name" and conversations:
            return (conversations[0],)
        if plain or several:
            return plain + several
        if name == "captions" and has_languages:
            return ()
        if (
            labels and name == "description"
        ):  # titles and the like are better than classes, other names are not
            return (labels[0],)
    texts = [
        name
        for name in candidates
        if pa.types.is_string(table.schema.field(name).type) and plain_name(name) not in ID_NAMES
    ]
    wordy = {
        name: _share(
            table[name], lambda text: " " in text and not _URL.match(text) and not is_structured(text)
        )
        for name in texts
    }
    best = sorted((name for name in texts if wordy[name] > 0.5), key=lambda name: -_mean_length(table[name]))
    if best:
        return (best[0],)
    raise DataError(_no_captions(table, image, where))


def _no_captions(table: pa.Table, image: str, where: str) -> str:
    """Why no column is one of captions, and what to do."""
    names = [name for name in table.column_names if name != image]
    numbers = [name for name in names if _is_class_numbers(table, name)]
    if numbers:
        return (
            f"{where} has class numbers in '{numbers[0]}' and no names; put classes.txt beside it, "
            "a name a line by number from 0, or name a caption column with data.columns.caption=NAME."
        )
    structured = [name for name in names if is_structured_column(table[name])]
    found = (
        f"{', '.join(structured)} {'holds' if len(structured) == 1 else 'hold'} structures and not text, "
        f"among {', '.join(table.column_names[:20])}"
        if structured
        else f"found: {', '.join(table.column_names[:20]) or 'none'}"
    )
    return (
        f"{where} has no column that looks like a caption ({found}; expected a name such as caption, "
        f"text, title or label); name it with data.columns.caption=NAME, several with commas between."
    )


def _is_class_numbers(table: pa.Table, name: str) -> bool:
    """Whether a column has a name for labels and holds numbers only."""
    kind = table.schema.field(name).type
    if plain_name(name) not in (*LABEL_NAMES, *INDEX_NAMES):
        return False
    return pa.types.is_integer(kind) or (pa.types.is_string(kind) and _share(table[name], str.isdigit) == 1.0)


def is_structured_column(column: pa.ChunkedArray) -> bool:
    """Whether most values of a column are structures without captions, such as boxes as JSON."""
    if pa.types.is_string(column.type):
        return _share(column, is_structured) > 0.5
    values = [value for value in column.slice(0, _PROBED).to_pylist() if value]
    return pa.types.is_nested(column.type) and any(caption_value(value).is_structured for value in values)


def _is_conversations(column: pa.ChunkedArray) -> bool:
    """Whether a column holds conversations, as LLaVA's does."""
    if not (pa.types.is_list(column.type) or pa.types.is_string(column.type)):
        return False
    values = [value for value in column.slice(0, _PROBED).to_pylist() if value]
    return bool(values) and sum(is_conversation(parsed(value)) for value in values) > len(values) / 2


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
    return (
        pa.types.is_string(kind)
        or pa.types.is_map(kind)
        or (pa.types.is_struct(kind) and any(_is_captions(child.type) for child in kind))
    )
