"""What makes a validation set easier or poorer than it looks: repeated captions, equal and blank images."""

import os
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

from frugalclip.data.image_faults import BadImage
from frugalclip.data.image_reader import ImageReader
from frugalclip.data.images import decode
from frugalclip.data.manifest import Manifest
from frugalclip.data.statistics import content_digest, is_blank

ROWS_READ = 20_000  # of both sides together; larger data is not read twice
MOST_SHARED = 0.2  # of the validation rows, with one caption
_SHOWN = 60  # characters of a caption
_FEW = 4  # rows with one caption that are never remarked on


def validation_remarks(training: Manifest, validation: Manifest) -> Iterator[str]:
    """What is repeated in a validation set, or shared with the training rows, a sentence each.

    Args:
        training: the rows to train on.
        validation: the validation set.
    """
    yield from _captions(validation)
    if len(training) + len(validation) > ROWS_READ:
        return
    own, trained = _digests(validation), _digests(training)
    if repeated := len(own) - len(set(own.values())):
        yield f"{repeated:,} of {len(validation):,} validation images repeat another one byte for byte"
    names = {digest: id for id, digest in trained.items()}
    if shared := [id for id, digest in own.items() if digest in names]:
        yield (
            f"{len(shared):,} of {len(validation):,} validation images are trained on too (such as "
            f"{shared[0]}, which is {names[own[shared[0]]]}); 'frugalclip data divide' keeps equal images on "
            "one side"
        )
    if blank := _blank(validation):
        yield (
            f"{len(blank):,} of {len(validation):,} validation images are of one colour (such as "
            f"{blank[0]}); 'frugalclip data check' counts them in the whole data"
        )


def _captions(validation: Manifest) -> Iterator[str]:
    counts = Counter(text for texts in validation.captions() for text in set(texts))
    classes = len(counts)
    text, rows = max(counts.items(), key=lambda item: (item[1], item[0]), default=("", 0))
    short = " ".join(text.split())[:_SHOWN]
    if rows > max(_FEW, MOST_SHARED * len(validation)) and rows > 2 * len(validation) / max(classes, 1):
        yield (
            f"{rows:,} of {len(validation):,} validation rows have the caption '{short}': a model that "
            f"always gives it names {100 * rows / len(validation):.0f} % right"
        )


def _digests(manifest: Manifest) -> dict[str, bytes]:
    """Id -> hash of the encoded image, without those that cannot be read."""
    reader = ImageReader(manifest)

    def one(row: int) -> bytes | None:
        try:
            return content_digest(reader.bytes(row))
        except BadImage:
            return None

    with ThreadPoolExecutor(min(os.cpu_count() or 1, 8)) as pool:
        found = zip(manifest.ids, pool.map(one, range(len(manifest))), strict=True)
        return {id: digest for id, digest in found if digest is not None}


def _blank(manifest: Manifest) -> list[str]:
    reader = ImageReader(manifest)

    def one(row: int) -> bool:
        try:
            return is_blank(decode(reader.bytes(row)))
        except BadImage:
            return False

    with ThreadPoolExecutor(min(os.cpu_count() or 1, 8)) as pool:
        flags = zip(manifest.ids, pool.map(one, range(len(manifest))), strict=True)
        return [id for id, flag in flags if flag]
