"""Two indexes of the same rows, such as one of words and one of vectors, searched as one.

Cosines and sums of word weights have different scales. Both are read against random pairs of their own index:
0 is the median of those, 1 what one in a hundred reaches. Their weighted mean is the score.
"""

from dataclasses import replace
from typing import Any, final

import numpy as np

from frugalclip.core.errors import DataError
from frugalclip.serving.calibration import standing
from frugalclip.serving.index import SearchHit, SearchIndex
from frugalclip.serving.lexical import Reason
from frugalclip.serving.queries import PreparedQuery, SearchRequest

CANDIDATES = 200  # of each index; a hit is among the first of one of them


@final
class HybridIndex:
    """Answers with the hits of two indexes.

    Args:
        first: gives paths and captions.
        second: holds the same ids; rows that only one has are found by that one alone.
        share: weight of the second, 0 to 1.
    """

    def __init__(self, first: SearchIndex, second: SearchIndex, *, share: float = 0.5) -> None:
        if not 0 <= share <= 1:
            raise DataError(f"share is {share:g}, expected the weight of the second index, 0 to 1.")
        self.indexes = (first, second)
        self.shares = (1 - share, share)

    def __len__(self) -> int:
        return len(self.indexes[0])

    def query(self, text: str | None = None, **options: Any) -> dict[str, Any]:
        """As `SearchIndex.query`; the options are those of `SearchRequest`."""
        return self.answer(SearchRequest(text=text, **options))

    def answer(self, request: SearchRequest) -> dict[str, Any]:
        """As `SearchIndex.answer`; `index` describes the first one."""
        return {"hits": [hit.as_json() for hit in self.hits(request)], "index": self.indexes[0].about()}

    def hits(self, request: SearchRequest) -> list[SearchHit]:
        """What a request finds, best first.

        Raises:
            DataError: as `SearchIndex.hits`; also for `max_false_hits`, which is not known of both together.
        """
        request.check()
        if request.max_false_hits is not None:
            raise DataError("false hits of two indexes together are not known; leave --max-false-hits out.")
        queries = [self._prepared(index, request) for index in self.indexes]
        ids = self._candidates(request, queries)
        total = np.zeros(len(ids))
        for share, index, query in zip(self.shares, self.indexes, queries, strict=True):
            total += share * self._standing(index, query, request, ids)
        best = np.argsort(-total, kind="stable")[request.offset : request.offset + request.k]
        return [self._hit(ids[place], float(total[place]), queries) for place in best.tolist()]

    def _prepared(self, index: SearchIndex, request: SearchRequest) -> PreparedQuery:
        """What only words understand is left out of a query of vectors, where the other index has words."""
        has_words = any(one.head.kind == "lexical" for one in self.indexes)
        is_left_out = has_words and index.head.kind != "lexical"
        own = replace(request, boost={}) if is_left_out else request
        return index.engine.prepare(own, index.row_like(own))

    def _candidates(self, request: SearchRequest, queries: list[PreparedQuery]) -> list[str]:
        """Ids of the best rows of either index."""
        wanted = max(CANDIDATES, 2 * (request.offset + request.k))
        ids: dict[str, None] = {}
        for index, query in zip(self.indexes, queries, strict=True):
            found = query.search(k=wanted, among=index.rows.where(request.where))
            ids |= dict.fromkeys(index.rows.manifest.table["id"].take(found.rows).to_pylist())
        return [id for id in ids if id != request.like]

    @staticmethod
    def _standing(
        index: SearchIndex, query: PreparedQuery, request: SearchRequest, ids: list[str]
    ) -> np.ndarray:
        """(ids,) scores against random pairs; of rows that the index lacks, those of its worst candidate."""
        rows = index.rows.rows_of(ids)
        there = np.array([id in rows for id in ids], dtype=bool)
        scores = np.zeros(len(ids))
        known = np.array([*rows.values()], dtype=np.int64)
        found = standing(index.head.calibration, request.kind, np.asarray(query.scores(known), np.float64))
        scores[there] = found
        scores[~there] = found.min(initial=0.0)
        return scores

    def _hit(self, id: str, score: float, queries: list[PreparedQuery]) -> SearchHit:
        reasons: list[Reason] = []
        hit: SearchHit | None = None
        for index, query in zip(self.indexes, queries, strict=True):
            if (row := index.rows.row_of(id)) is not None:
                reasons += query.reasons(row)
                hit = hit or index.hit(row, score, [])
        assert hit is not None, "a candidate comes from one of the indexes"
        return replace(hit, reasons=reasons)
