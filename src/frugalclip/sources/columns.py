"""Which column is what: shared by every table-like source.

A source gives an Arrow table whose columns are text (CSV) or typed (JSONL, Parquet). Here the image, caption
and id columns are recognised by name, then by content; the others become fields.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import pyarrow as pa

from frugalclip.core.errors import DataError, known_names
from frugalclip.data.images import EXTENSIONS
from frugalclip.sources.caption_columns import caption_columns
from frugalclip.sources.column_names import (
    BY_LANGUAGE_NAMES,
    CODE_NAMES,
    ID_NAMES,
    IMAGE_ID_NAMES,
    IMAGE_NAMES,
    LABEL_NAMES,
    plain_name,
)
from frugalclip.sources.column_values import (
    holds_bytes,
    is_texts,
    is_url,
    may_hold_languages,
    share_of,
)
from frugalclip.sources.languages import (
    ISO_639_1,
    NO_LANGUAGES,
    STEMS,
    is_code,
    stem_and_code,
)


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
            if n in by_name and may_hold_languages(table.schema.field(by_name[n]).type)
        ),
        None,
    )
    has_languages = bool(languages) or by_language is not None
    captions = wanted["caption"] or caption_columns(
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
    return name if share_of(table[name], is_code) > 0.8 else None


def _language_columns(table: pa.Table) -> tuple[tuple[str, str], ...]:
    """Columns such as `caption_de`, of the first stem with any; `caption_id` counts if it holds words."""
    found: dict[str, dict[str, str]] = {}
    for name in table.column_names:
        if (named := stem_and_code(name)) and is_texts(table.schema.field(name).type):
            found.setdefault(named[0], {})[named[1]] = name
    for stem in STEMS:
        codes = {
            code: name for code, name in found.get(stem, {}).items() if re.split("[-_]", code)[0] in ISO_639_1
        }
        if "id" in codes and (
            len(codes) == 1 or share_of(table[codes["id"]], lambda text: not re.search(r"\d|_", text)) < 0.8
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
        name: share_of(table[name], lambda text: text.lower().endswith(EXTENSIONS) and not is_url(text))
        for name in texts
    }
    if chosen := [name for name in named if name in texts and shares[name] > 0.5]:
        return chosen[0]
    if content := sorted((name for name in texts if shares[name] > 0.5), key=lambda name: -shares[name]):
        return content[0]
    if chosen := [name for name in named if name in texts and share_of(table[name], is_url) <= 0.5]:
        return chosen[0]
    if numbered := [by_name[name] for name in IMAGE_ID_NAMES if name in by_name]:
        return numbered[0]
    listed = ", ".join(table.column_names[:20]) or "none"
    urls = [name for name in texts if share_of(table[name], is_url) > 0.5]
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
