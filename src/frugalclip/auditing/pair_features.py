"""Features of pairs: by a MODEL of images and texts, or without one, by descriptors and by words."""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import log

import numpy as np

from frugalclip.auditing.words import WordForms, content
from frugalclip.core.errors import DataError
from frugalclip.data.manifest import Manifest
from frugalclip.evaluation.descriptors import descriptors
from frugalclip.evaluation.encoding import DataEncoder, encode_texts, image_features
from frugalclip.models import Model

_MOST_WORDS = 1024  # regressions from and to them are solved at once


@dataclass(frozen=True)
class PairFeatures:
    """Features of the rows that have a readable image and a caption."""

    rows: np.ndarray  # (rows,) int64 of the data set
    images: np.ndarray  # (rows, dim)
    texts: np.ndarray  # (rows, width), one vector for the captions of a row
    is_joint: bool  # whether a cosine of image and text means anything


def model_features(model: DataEncoder, manifest: Manifest) -> PairFeatures:
    """Features of a model, the mean over a row's captions.

    Raises:
        DataError: when no row has an image and a caption.
    """
    rows = _captioned(manifest)
    images, kept, _ = image_features(model, manifest, rows)
    rows = rows[kept]
    texts = _caption_means(manifest.take(rows).captions(), lambda every: encode_texts(model, every).numpy())
    return PairFeatures(rows, images.numpy(), texts, is_joint=True)


def tower_features(model: Model, manifest: Manifest) -> PairFeatures:
    """Features of a model before its projections, which know nothing of each other where towers are frozen.

    Raises:
        DataError: when no row has an image and a caption.
    """
    rows = _captioned(manifest)
    images, kept, _ = image_features(model, manifest, rows, layer="pooled")
    rows = rows[kept]
    texts = _caption_means(
        manifest.take(rows).captions(),
        lambda every: model.encode_text(every, layer="pooled", normalize=False).numpy(),
    )
    return PairFeatures(rows, images.flatten(1).numpy(), texts, is_joint=False)


def _caption_means(
    captions: Sequence[Sequence[str]], encode: Callable[[list[str]], np.ndarray]
) -> np.ndarray:
    """(rows, width) mean vector of the captions of each row, each distinct one encoded once."""
    texts = sorted({text for own in captions for text in own})
    place = {text: number for number, text in enumerate(texts)}
    vectors = encode(texts)
    return np.stack([vectors[[place[text] for text in own]].mean(axis=0) for own in captions])


def plain_features(manifest: Manifest, forms: WordForms) -> PairFeatures:
    """Features without any trained model: oriented gradients and colours, and weighted words.

    Raises:
        DataError: when no row has an image and a caption.
    """
    captioned = _captioned(manifest)
    images, kept = descriptors(manifest.take(captioned))
    rows = captioned[kept]
    texts = word_vectors([" . ".join(own) for own in manifest.take(rows).captions()], forms)
    return PairFeatures(rows, images.numpy(), texts, is_joint=False)


def _captioned(manifest: Manifest) -> np.ndarray:
    rows = np.flatnonzero([any(text.strip() for text in own) for own in manifest.captions()])
    if not len(rows):
        raise DataError(f"no row of {manifest.name} has a caption, so there is no pair to score.")
    return rows


def word_vectors(texts: Sequence[str], forms: WordForms) -> np.ndarray:
    """(texts, words) counts weighted by rarity (TF-IDF) of the most frequent words in two texts or more."""
    words = [Counter(content(forms(text))) for text in texts]
    found_in = Counter(word for own in words for word in own)
    shared = [(word, number) for word, number in found_in.items() if number > 1]
    frequent = sorted(shared, key=lambda one: (-one[1], one[0]))[:_MOST_WORDS]
    columns = {word: column for column, (word, _) in enumerate(frequent)}
    result = np.zeros((len(texts), max(len(columns), 1)), dtype=np.float32)
    for row, own in enumerate(words):
        for word, number in own.items():
            if word in columns:
                rarity = log((1 + len(texts)) / (1 + found_in[word])) + 1
                result[row, columns[word]] = number * rarity
    return result
