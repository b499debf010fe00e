"""Answers to text queries, with thumbnails: what an index of a data set finds first."""

from collections.abc import Sequence

from frugalclip.report.gallery import SIDE, Answer, Hit, thumbnail
from frugalclip.report.html import ReportSection, answered_queries
from frugalclip.serving.index import SearchHit, SearchIndex
from frugalclip.serving.queries import SearchRequest


def answer_queries(
    index: SearchIndex, queries: Sequence[str], *, k: int = 5, where: str | None = None, among: str = ""
) -> list[Answer]:
    """The images that an index finds first for each query.

    Args:
        index: of the data set.
        queries: in words, encoded as they are.
        k: images of each answer.
        where: the condition that selects what is searched.
        among: what is searched, in words for the reader.
    """

    def shown(hit: SearchHit) -> Hit:
        row, caption = index.rows.known_row(hit.id), next(iter(hit.captions), hit.id)
        return Hit(hit.score, False, caption, thumbnail(index.images.image(row, at_least=2 * SIDE), caption))

    return [
        Answer(query, tuple(map(shown, index.hits(SearchRequest(query, k=k, where=where)))), among)
        for query in queries
    ]


def queries_section(answers: Sequence[Answer]) -> ReportSection | None:
    """The section of a report, or None without queries."""
    if not answers:
        return None
    body = answered_queries([(answer.query, answer.among, answer.found) for answer in answers])
    return ReportSection("queries", "Ask it", body, "Queries in words, and the pictures that come first.")
