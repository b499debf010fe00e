"""Queries by which an index is measured: captions and images of its own rows, and random pairs of them."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import torch

from frugalclip.models import Model
from frugalclip.serving.calibration import IMAGES, QUERIES
from frugalclip.serving.layout import QueryKind
from frugalclip.serving.lexical import WordLists
from frugalclip.serving.rows import IndexRows, StoredVectors
from frugalclip.sources.sample import sample_manifest

_FEW_TEXTS = 64  # captions below which those of the sample stand in


@dataclass(frozen=True)
class ExampleQueries:
    """Queries of one kind, and the row of each that it was made from (-1 for none)."""

    vectors: np.ndarray  # (queries, dim)
    rows: np.ndarray  # (queries,)


def _example_rows(rows: IndexRows) -> np.ndarray:
    return np.sort(np.random.default_rng(0).permutation(rows.with_vector)[:QUERIES])


def _example_texts(rows: IndexRows, chosen: np.ndarray) -> tuple[list[str], np.ndarray]:
    """A caption of each chosen row that has one, and those rows; of the sample where few have."""
    captions = rows.manifest.table["captions"].take(pa.array(chosen)).to_pylist()
    own = [(next(iter(texts)), row) for texts, row in zip(captions, chosen.tolist(), strict=True) if texts]
    if len(own) >= min(_FEW_TEXTS, len(chosen)) and own:
        return [text for text, _ in own], np.array([row for _, row in own])
    shipped = [next(iter(texts)) for texts in sample_manifest().captions() if texts]
    texts = [shipped[i] for i in np.linspace(0, len(shipped) - 1, QUERIES).astype(int)]
    return texts, np.full(len(texts), -1)


def example_queries(model: Model, rows: IndexRows, vectors: StoredVectors) -> dict[QueryKind, ExampleQueries]:
    """Queries by which recall and scores are measured."""
    chosen = _example_rows(rows)
    images = ExampleQueries(_unit(vectors.read(chosen)), chosen)
    found: dict[QueryKind, ExampleQueries] = {"image": images}
    if model.reads == "both":
        texts, of = _example_texts(rows, chosen)
        found["text"] = ExampleQueries(model.encode_text(texts).numpy(), of)
        half = min(len(texts), len(chosen))
        mixed = found["text"].vectors[:half] + np.roll(images.vectors, 1, axis=0)[:half]
        found["both"] = ExampleQueries(_unit(mixed), of[:half])
    return found


def _unit(vectors: np.ndarray) -> np.ndarray:
    return torch.nn.functional.normalize(torch.from_numpy(vectors), dim=-1).numpy()


def _random_rows(rows: IndexRows) -> np.ndarray:
    return np.sort(np.random.default_rng(1).permutation(rows.with_vector)[:IMAGES])


def _are_random(of: np.ndarray, chosen: np.ndarray, rows: IndexRows) -> np.ndarray:
    """(queries, images) whether a pair does not belong together: other rows, captions and images."""
    different = of[:, None] != chosen[None]
    for key in (rows.manifest.table["captions"], rows.row_map["image_digest"]):
        codes: dict[str, int] = {}
        own, other = (
            np.array(
                [codes.setdefault(repr(value), len(codes)) for value in key.take(pa.array(some)).to_pylist()]
            )
            for some in (np.maximum(of, 0), chosen)
        )
        nothing = codes.get(repr([]), codes.get(repr(None), -1))  # rows without captions are not alike
        is_own = of >= 0
        different &= (own[:, None] != other[None]) | (own == nothing)[:, None] | ~is_own[:, None]
    return different


def vector_pairs(
    queries: dict[QueryKind, ExampleQueries], rows: IndexRows, vectors: StoredVectors
) -> dict[QueryKind, np.ndarray]:
    """Scores of random pairs, by kind of query."""
    chosen = _random_rows(rows)
    images = vectors.read(chosen)
    return {
        kind: (own.vectors @ images.T)[_are_random(own.rows, chosen, rows)] for kind, own in queries.items()
    }


def word_pairs(model: Model, lists: WordLists, rows: IndexRows) -> dict[QueryKind, np.ndarray]:
    """Scores of random pairs of an index of words, by kind of query."""
    chosen, drawn = _example_rows(rows), _random_rows(rows)
    images = lists.by_row[drawn]
    queries: dict[QueryKind, tuple[Any, np.ndarray]] = {"image": (lists.by_row[chosen], chosen)}
    if model.reads == "both":
        texts, of = _example_texts(rows, chosen)
        queries["text"] = lists.sparse_rows(model.encode_text(texts)), of
        half = min(len(texts), len(chosen))
        order = np.roll(np.arange(len(chosen)), 1)[:half]
        queries["both"] = (queries["text"][0][:half] + lists.by_row[chosen[order]]) * 0.5, of[:half]
    return {
        kind: (own @ images.T).toarray()[_are_random(of, drawn, rows)] for kind, (own, of) in queries.items()
    }
