"""Answers to text queries, with thumbnails: the images of a data set that a model ranks first."""

from collections.abc import Sequence

import numpy as np

from frugalclip.data.image_reader import ImageReader
from frugalclip.data.manifest import Manifest
from frugalclip.evaluation.encoding import DataEncoder, encode_texts
from frugalclip.report.gallery import SIDE, Answer, Hit, thumbnail
from frugalclip.report.html import ReportSection, answered_queries

MOST_ROWS = 20_000  # images that are scanned; a larger set wants an index


def answer_queries(
    model: DataEncoder, manifest: Manifest, queries: Sequence[str], *, k: int = 5, among: str = ""
) -> list[Answer]:
    """Rank the images of a data set for each query, by an exact scan.

    Args:
        model: encodes images and texts.
        manifest: its first 20,000 rows are searched.
        queries: in words, encoded as they are.
        k: images of each answer.
        among: what is searched, in words for the reader.
    """
    encoded = model.image_features(manifest.take(np.arange(min(len(manifest), MOST_ROWS))))
    scores = encode_texts(model, list(queries)) @ encoded.features.float().cpu().T
    values, places = scores.topk(min(k, scores.shape[1]), dim=1)  # (queries, k)
    reader, captions = ImageReader(manifest), manifest.captions()

    def found(value: float, place: int) -> Hit:
        row = int(encoded.rows[place])
        caption = next(iter(captions[row]), manifest.ids[row])
        return Hit(value, False, caption, thumbnail(reader.image(row, at_least=2 * SIDE), caption))

    ranked = zip(values.tolist(), places.tolist(), strict=True)
    return [
        Answer(query, tuple(map(found, *best)), among) for query, best in zip(queries, ranked, strict=True)
    ]


def queries_section(answers: Sequence[Answer]) -> ReportSection | None:
    """The section of a report, or None without queries."""
    if not answers:
        return None
    body = answered_queries([(answer.query, answer.among, answer.found) for answer in answers])
    return ReportSection("queries", "Ask it", body, "Queries in words, and the pictures that come first.")
