"""What a data set is like: lengths, repetitions, sizes, values. Figures for `data check` and `data stats`; nothing here changes data."""

import hashlib
import os
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from frugalclip.data.image_faults import DECODING, BadImage
from frugalclip.data.image_reader import ImageReader
from frugalclip.data.images import decode, open_image, upright_size
from frugalclip.data.ledger import Entry
from frugalclip.data.manifest import Manifest

_SCRIPTS_READ = 5_000  # captions; scripts do not change in the rest


@dataclass(frozen=True)
class Spread:
    """Five figures of a distribution."""

    least: float
    low: float  # 5th percentile
    middle: float
    high: float  # 95th percentile
    most: float

    @staticmethod
    def of(values: Iterable[float]) -> "Spread | None":
        numbers = np.fromiter(values, dtype=np.float64)
        return Spread(*np.percentile(numbers, [0, 5, 50, 95, 100]).tolist()) if len(numbers) else None


@dataclass(frozen=True)
class CaptionFacts:
    """Of what training reads."""

    captions: int
    per_sample: Spread
    words: Spread  # by white space; a Chinese or Japanese sentence counts as one
    characters: Spread
    distinct: int
    shared: int  # samples that have a caption which another sample has too
    most_shared: list[tuple[str, int]]  # caption, samples
    scripts: dict[str, int]  # script -> captions it prevails in, the most frequent first
    languages: dict[str, int]  # language -> samples; empty where the data set does not say


def caption_facts(manifest: Manifest) -> CaptionFacts:
    """Lengths and repetitions of the captions of a manifest that is not empty."""
    captions = manifest.captions()
    every = [text for texts in captions for text in texts]
    owners = Counter(text for texts in captions for text in set(texts))
    repeated = {text for text, count in owners.items() if count > 1}
    per_sample, words, characters = (
        Spread.of(values) or Spread(0, 0, 0, 0, 0)
        for values in (
            map(len, captions),
            (len(text.split()) for text in every),
            (len(text) for text in every),
        )
    )
    return CaptionFacts(
        captions=len(every),
        per_sample=per_sample,
        words=words,
        characters=characters,
        distinct=len(owners),
        shared=sum(any(text in repeated for text in texts) for texts in captions),
        most_shared=[
            (text, count)
            for text, count in sorted(owners.items(), key=lambda item: (-item[1], item[0]))[:5]
            if count > 1
        ],
        scripts=_sorted(Counter(script_of(text) for text in every[:: max(1, len(every) // _SCRIPTS_READ)])),
        languages=_languages(manifest),
    )


def _languages(manifest: Manifest) -> dict[str, int]:
    if not manifest.languages:
        return {}
    return _sorted(
        Counter(
            language
            for pairs in manifest.field("captions_by_language")
            for language, texts in pairs or ()
            if texts
        )
    )


def _sorted(counts: Counter[str]) -> dict[str, int]:
    return dict(sorted(counts.items(), key=lambda item: (-item[1], item[0])))


@cache
def _script(character: str) -> str:
    """The script of a letter, as the first word of its Unicode name."""
    return unicodedata.name(character, "UNKNOWN").split()[0].split("-")[0].capitalize()


def script_of(text: str) -> str:
    """The script that most letters of a text are written in, such as Latin, Cyrillic, Cjk or Hangul; 'none' without letters."""
    scripts = Counter(_script(character) for character in text if character.isalpha())
    return min(scripts, key=lambda script: (-scripts[script], script)) if scripts else "none"


@dataclass(frozen=True)
class FieldFacts:
    """One field of a manifest."""

    name: str
    type: str
    nulls: int
    distinct: int | None  # None of what cannot be compared: records, lists of lists, bytes
    values: list[tuple[str, int]]  # most frequent first; of a list field the items


def field_facts(manifest: Manifest, *, shown: int = 5) -> list[FieldFacts]:
    """Types and frequent values of every field."""
    result: list[FieldFacts] = []
    for name in manifest.field_names:
        column = manifest.table[name]
        values = pc.list_flatten(column) if pa.types.is_list(column.type) else column
        if pa.types.is_nested(values.type) or pa.types.is_binary(values.type):
            result.append(FieldFacts(name, _type_in_words(str(column.type)), column.null_count, None, []))
            continue
        found = values.drop_null().value_counts()
        counts = Counter(
            dict(
                zip(
                    map(_shown, found.field("values").to_pylist()),
                    found.field("counts").to_pylist(),
                    strict=True,
                )
            )
        )
        frequent = sorted(counts.items(), key=lambda item: (-item[1], item[0]))[:shown]
        result.append(
            FieldFacts(name, _type_in_words(str(column.type)), column.null_count, len(counts), frequent)
        )
    return result


def _shown(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _type_in_words(kind: str) -> str:
    words = {
        "int64": "integer",
        "double": "number",
        "bool": "true/false",
        "string": "text",
        "null": "empty",
        "binary": "bytes",
    }
    return kind.partition("<")[0] if "<" in kind else words.get(kind, kind)


@dataclass(frozen=True)
class ImageFacts:
    """Of the rows that were looked at."""

    rows: int
    heights: Spread | None
    widths: Spread | None
    bytes: Spread | None
    formats: dict[str, int]
    faults: list[Entry]
    sizes: dict[int, tuple[int, int]]  # row -> height, width of the upright picture
    copies: int  # rows whose bytes an earlier row has, of those that were looked at
    most_copied: list[tuple[str, int]]  # id of the first, rows


def image_facts(
    manifest: Manifest,
    rows: Sequence[int],
    *,
    decoded: bool,
    workers: int | None = None,
    progress: Callable[[int], None] | None = None,
) -> ImageFacts:
    """Read images and say what they are.

    Args:
        manifest: the data set.
        rows: to look at.
        decoded: decode every pixel, which finds broken pictures; else headers only.
        workers: threads; None gives one for each core, at most 8.
        progress: called with the number of rows finished since the last call.
    """
    reader = ImageReader(manifest)

    def one(row: int) -> tuple[tuple[int, int], int, str, bytes] | Entry:
        try:
            data = reader.bytes(row)
            image = open_image(data)
            size, kind = upright_size(image), image.format or "unknown"
            if decoded:
                decode(data)
            return size, len(data), kind, hashlib.blake2b(data, digest_size=16).digest()
        except BadImage as error:
            return Entry(manifest.ids[row], DECODING, error.cause, str(error))

    found: list[tuple[tuple[int, int], int, str, bytes] | Entry] = []
    with ThreadPoolExecutor(workers or min(os.cpu_count() or 1, 8)) as pool:
        for start in range(0, len(rows), 256):
            part = rows[start : start + 256]
            found += pool.map(one, part)
            if progress:
                progress(len(part))
    good = {row: result for row, result in zip(rows, found, strict=True) if not isinstance(result, Entry)}
    digests: dict[bytes, list[int]] = {}
    for row, result in good.items():
        digests.setdefault(result[3], []).append(row)
    copied = sorted(
        (group for group in digests.values() if len(group) > 1), key=lambda group: (-len(group), group[0])
    )
    return ImageFacts(
        rows=len(rows),
        heights=Spread.of(result[0][0] for result in good.values()),
        widths=Spread.of(result[0][1] for result in good.values()),
        bytes=Spread.of(result[1] for result in good.values()),
        formats=_sorted(Counter(result[2] for result in good.values())),
        faults=[result for result in found if isinstance(result, Entry)],
        sizes={row: result[0] for row, result in good.items()},
        copies=len(good) - len(digests),
        most_copied=[(manifest.ids[group[0]], len(group)) for group in copied[:5]],
    )


def sampled_rows(samples: int, limit: int, *, seed: int = 0) -> list[int]:
    """Up to `limit` rows of so many samples, ascending, the same every time."""
    if samples <= limit:
        return list(range(samples))
    return sorted(np.random.default_rng(seed).choice(samples, limit, replace=False).tolist())
