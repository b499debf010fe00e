"""What a data set is like: lengths, sizes, values, languages, weights. Nothing here changes data."""

import hashlib
import os
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from PIL import Image

from frugalclip.core.errors import require
from frugalclip.data.image_faults import DECODING, BadImage
from frugalclip.data.image_reader import ImageReader
from frugalclip.data.images import decode, open_image, upright_size
from frugalclip.data.ledger import Entry
from frugalclip.data.manifest import Manifest

CONTEXTS = (32, 77)  # of small models, and CLIP's own
# detected by their dictionaries, which take seconds to load
LATIN = ("en", "de", "fr", "es", "it", "pt", "nl")
_SURE = 0.5  # share of a caption's words that a language's dictionary must hold
_FEW_WORDS = 3  # shorter captions are names, which belong to no language
_SCRIPTS_READ = 5_000  # captions; scripts do not change in the rest
_TURN = 256  # images read between two reports
BLANK = 8  # largest difference between two pixels of a blank image, in each colour, of 255


@dataclass(frozen=True)
class Spread:
    """A distribution in five numbers."""

    least: float
    low: float  # 5th percentile
    middle: float
    high: float  # 95th percentile
    most: float

    @staticmethod
    def of(values: Iterable[float]) -> "Spread | None":
        numbers = np.fromiter(values, dtype=np.float64)
        return Spread(*np.percentile(numbers, [0, 5, 50, 95, 100]).tolist()) if len(numbers) else None


def sampled_rows(samples: int, limit: int, *, seed: int = 0) -> list[int]:
    """Up to `limit` rows of so many samples, ascending, the same every time."""
    if samples <= limit:
        return list(range(samples))
    return sorted(np.random.default_rng(seed).choice(samples, limit, replace=False).tolist())


@dataclass(frozen=True)
class CaptionStatistics:
    """The captions that training reads."""

    captions: int
    per_sample: Spread
    words: Spread  # by white space; a Chinese or Japanese sentence counts as one
    characters: Spread
    distinct: int
    shared: int  # samples that have a caption which another sample has too
    most_shared: list[tuple[str, int]]  # caption, samples
    scripts: dict[str, int]  # script -> captions it prevails in, the most frequent first
    languages: dict[str, int]  # language -> samples; empty where the data set has no languages


def caption_statistics(manifest: Manifest) -> CaptionStatistics:
    """Lengths and repetitions of the captions of a manifest that is not empty."""
    captions = manifest.captions()
    every = [text for texts in captions for text in texts]
    owners = Counter(text for texts in captions for text in set(texts))
    repeated = {text for text, count in owners.items() if count > 1}
    nothing = Spread(0, 0, 0, 0, 0)
    return CaptionStatistics(
        captions=len(every),
        per_sample=Spread.of(map(len, captions)) or nothing,
        words=Spread.of(len(text.split()) for text in every) or nothing,
        characters=Spread.of(map(len, every)) or nothing,
        distinct=len(owners),
        shared=sum(any(text in repeated for text in texts) for texts in captions),
        most_shared=[(text, count) for text, count in list(_sorted(owners).items())[:5] if count > 1],
        scripts=_sorted(Counter(script_of(text) for text in every[:: max(1, len(every) // _SCRIPTS_READ)])),
        languages=_languages(manifest),
    )


def _languages(manifest: Manifest) -> dict[str, int]:
    if not manifest.languages:
        return {}
    rows = manifest.field("captions_by_language")
    return _sorted(Counter(language for pairs in rows for language, texts in pairs or () if texts))


def _sorted(counts: Counter[str]) -> dict[str, int]:
    return dict(sorted(counts.items(), key=lambda item: (-item[1], item[0])))


@cache
def _script(character: str) -> str:
    """The script of a letter, as the first word of its Unicode name."""
    return unicodedata.name(character, "UNKNOWN").split()[0].split("-")[0].capitalize()


def script_of(text: str) -> str:
    """The script of most letters of a text, such as Latin, Cyrillic or Cjk; 'none' without letters."""
    scripts = Counter(_script(character) for character in text if character.isalpha())
    return min(scripts, key=lambda script: (-scripts[script], script)) if scripts else "none"


def sampled_captions(captions: Sequence[Sequence[str]], limit: int) -> list[str]:
    """Up to so many captions, the same every time."""
    every = [text for texts in captions for text in texts]
    return [every[row] for row in sampled_rows(len(every), limit, seed=2)]


@dataclass(frozen=True)
class TokenStatistics:
    """Captions in tokens of CLIP's vocabulary, start and end included."""

    captions: int  # that were counted
    tokens: Spread
    truncated: dict[int, float]  # context -> share of captions that do not fit


def token_statistics(captions: Sequence[str]) -> TokenStatistics | None:
    """Lengths of captions in tokens; None where there is no caption."""
    from frugalclip.data.tokens import clip_tokenizer  # waits for torch

    lengths = np.diff(clip_tokenizer().table(captions, context=2**31).offsets)
    tokens = Spread.of(lengths)
    if tokens is None:
        return None
    truncated = {context: float((lengths > context).mean()) for context in CONTEXTS}
    return TokenStatistics(len(lengths), tokens, truncated)


def detected_languages(captions: Sequence[str]) -> dict[str, int]:
    """Languages of captions in the Latin script, the most frequent first; `unsure` where no dictionary is.

    Captions of fewer than three words, and other scripts, are left out.

    Raises:
        MissingExtra: without `simplemma`.
    """
    simplemma = require("simplemma", extra="curate", purpose="detecting languages")
    counts: Counter[str] = Counter()
    for text in captions:
        if len(text.split()) >= _FEW_WORDS and script_of(text) == "Latin":
            language, share = simplemma.langdetect(text, lang=LATIN)[0]
            counts[language if share >= _SURE and language != "unk" else "unsure"] += 1
    return _sorted(counts)


@dataclass(frozen=True)
class FieldStatistics:
    """One field of a manifest."""

    name: str
    type: str
    nulls: int
    distinct: int | None  # None of what cannot be compared: records, lists of lists, bytes
    values: list[tuple[str, int]]  # most frequent first; the items of a list field


def field_statistics(manifest: Manifest, *, shown: int = 5) -> list[FieldStatistics]:
    """Types and frequent values of every field."""
    return [_field(name, manifest.table[name], shown) for name in manifest.field_names]


def _field(name: str, column: pa.ChunkedArray, shown: int) -> FieldStatistics:
    kind = _type_in_words(str(column.type))
    values = pc.list_flatten(column) if pa.types.is_list(column.type) else column
    if pa.types.is_nested(values.type) or pa.types.is_binary(values.type):
        return FieldStatistics(name, kind, column.null_count, None, [])
    found = values.drop_null().value_counts()
    names = map(_shown, found.field("values").to_pylist())
    counts = Counter(dict(zip(names, found.field("counts").to_pylist(), strict=True)))
    frequent = list(_sorted(counts).items())[:shown]
    return FieldStatistics(name, kind, column.null_count, len(counts), frequent)


def _shown(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


_TYPES = {
    "int64": "integer",
    "double": "number",
    "bool": "true/false",
    "string": "text",
    "null": "empty",
    "binary": "bytes",
}


def _type_in_words(kind: str) -> str:
    return kind.partition("<")[0] if "<" in kind else _TYPES.get(kind, kind)


@dataclass(frozen=True)
class ImageStatistics:
    """The images of some rows."""

    rows: int
    heights: Spread | None
    widths: Spread | None
    bytes: Spread | None
    formats: dict[str, int]
    faults: list[Entry]
    sizes: dict[int, tuple[int, int]]  # row -> height, width of the upright image
    copies: int  # rows whose bytes an earlier one of these rows has
    most_copied: list[tuple[str, int]]  # id of the first, rows
    blank: list[str]  # ids of images of one colour, in order; empty where pixels are not decoded


class _Header(NamedTuple):
    """What is known of one image without its pixels."""

    size: tuple[int, int]  # height, width
    length: int  # of the encoded image in bytes
    format: str
    digest: bytes
    is_blank: bool


def image_statistics(
    manifest: Manifest,
    rows: Sequence[int],
    *,
    decoded: bool,
    workers: int | None = None,
    progress: Callable[[int], None] = lambda _: None,
) -> ImageStatistics:
    """Sizes, formats and exact copies of images, and which cannot be read.

    Args:
        manifest: the data set.
        rows: of the images to read.
        decoded: decode the pixels too, which finds images that are damaged behind their header.
        workers: threads; None gives one a core, at most 8.
        progress: called with the number of images finished since the last call.
    """
    reader = ImageReader(manifest)

    def one(row: int) -> _Header | Entry:
        try:
            return _read_header(reader.bytes(row), decoded=decoded)
        except BadImage as error:
            return Entry(manifest.ids[row], DECODING, error.cause, str(error))

    found: list[_Header | Entry] = []
    with ThreadPoolExecutor(workers or min(os.cpu_count() or 1, 8)) as pool:
        for start in range(0, len(rows), _TURN):
            turn = rows[start : start + _TURN]
            found += pool.map(one, turn)
            progress(len(turn))
    good = {row: header for row, header in zip(rows, found, strict=True) if isinstance(header, _Header)}
    owners: dict[bytes, list[int]] = {}
    for row, header in good.items():
        owners.setdefault(header.digest, []).append(row)
    copied = sorted((group for group in owners.values() if len(group) > 1), key=lambda g: (-len(g), g[0]))
    return ImageStatistics(
        rows=len(rows),
        heights=Spread.of(header.size[0] for header in good.values()),
        widths=Spread.of(header.size[1] for header in good.values()),
        bytes=Spread.of(header.length for header in good.values()),
        formats=_sorted(Counter(header.format for header in good.values())),
        faults=[entry for entry in found if isinstance(entry, Entry)],
        sizes={row: header.size for row, header in good.items()},
        copies=len(good) - len(owners),
        most_copied=[(manifest.ids[group[0]], len(group)) for group in copied[:5]],
        blank=[manifest.ids[row] for row, header in good.items() if header.is_blank],
    )


def _read_header(data: bytes, *, decoded: bool) -> _Header:
    image = open_image(data)
    blank = decoded and is_blank(decode(data))
    format = image.format or "unknown"
    return _Header(upright_size(image), len(data), format, content_digest(data), blank)


def content_digest(data: bytes) -> bytes:
    """(16 bytes) equal for images of equal bytes."""
    return hashlib.blake2b(data, digest_size=16).digest()


def is_blank(image: Image.Image) -> bool:
    """Whether an RGB image is of one colour."""
    return all(int(np.ptp(np.asarray(band))) <= BLANK for band in image.split())


@dataclass(frozen=True)
class WeightStatistics:
    """How unevenly training draws samples."""

    weights: Spread
    zero: int  # samples that are never drawn
    most_draws: float  # expected draws of the heaviest sample in one epoch
    effective: float  # samples of equal weights with the same variance: (sum w)^2 / sum w^2, Kish 1965


def weight_statistics(manifest: Manifest) -> WeightStatistics | None:
    """The column `weight` in numbers; None where there is none.

    Raises:
        DataError: when a weight is negative or not finite.
    """
    if "weight" not in manifest.table.column_names or not len(manifest):
        return None
    weights = manifest.weights()
    spread = Spread.of(weights)
    drawn = weights > 0
    if spread is None or not drawn.any():
        return spread and WeightStatistics(spread, len(weights), 0.0, 0.0)
    scaled = weights / weights.max()
    most_draws = float(drawn.sum() / scaled.sum())
    effective = float(scaled.sum() ** 2 / (scaled**2).sum())
    return WeightStatistics(spread, int((~drawn).sum()), most_draws, effective)
