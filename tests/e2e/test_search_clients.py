"""A vector database finds what our indexes find: Qdrant's local mode, on the same vectors.

`make test-e2e` installs it into a folder of its own.
"""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from frugalclip.serving.index import open_index
from frugalclip.serving.lexical import top_words

from ..serving.conftest import COLOURS, build, draw, small_model
from .test_clients import clients

pytestmark = pytest.mark.e2e
QUESTIONS = [f"a {colour} thing" for colour in COLOURS]
QDRANT = """
import json, sys
sys.path.append(sys.argv[1])  # behind our own packages
from qdrant_client import QdrantClient, models
given = json.load(open(sys.argv[2]))
sparse = lambda one: models.SparseVector(indices=one["words"], values=one["weights"])
client = QdrantClient(":memory:")
client.create_collection(
    "pictures",
    vectors_config={"dense": models.VectorParams(
        size=len(given["dense"][0]), distance=models.Distance.COSINE)},
    sparse_vectors_config={"words": models.SparseVectorParams()})
client.upsert("pictures", [
    models.PointStruct(id=i, vector={"dense": vector, "words": sparse(words)}, payload={"colour": colour})
    for i, (vector, words, colour) in enumerate(zip(given["dense"], given["sparse"], given["colours"]))])

def found(query, using, colours=None):
    held = models.FieldCondition(key="colour", match=models.MatchAny(any=colours)) if colours else None
    hits = client.query_points("pictures", query=query, using=using, limit=given["k"],
                               query_filter=models.Filter(must=[held]) if held else None)
    return [[hit.id, hit.score] for hit in hits.points]

print(json.dumps({
    "dense": [found(one, "dense") for one in given["dense queries"]],
    "filtered": [found(one, "dense", given["only"]) for one in given["dense queries"]],
    "sparse": [found(sparse(one), "words") for one in given["sparse queries"]],
    "sparse filtered": [found(sparse(one), "words", given["only"]) for one in given["sparse queries"]]}))
"""
K, ONLY = 10, ["red", "gold"]
TOLERANCE = 5e-4  # our vectors are stored in float16


@pytest.fixture(scope="module")
def indexes(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """A dense and a lexical index over 320 pictures; each class folder is a colour."""
    folder = tmp_path_factory.mktemp("qdrant")
    data = draw(folder / "data", shades=tuple(range(6, 246, 6)))
    models = {"dense": small_model(), "sparse": small_model(words=True)}
    for kind, model in models.items():
        build(folder / kind, model, data)
    return {"models": models, **{kind: open_index(folder / kind) for kind in models}}


def weights_of(embeddings: Any) -> list[dict[str, list]]:
    """Words and weights above zero of (rows, vocabulary) embeddings."""
    words, weights = (part.numpy() for part in top_words(embeddings))
    kept = [(own[values > 0], values[values > 0]) for own, values in zip(words, weights, strict=True)]
    return [{"words": own.tolist(), "weights": values.tolist()} for own, values in kept]


@pytest.fixture(scope="module")
def theirs(indexes: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> dict[str, list]:
    """What Qdrant finds."""
    index, models = indexes["dense"], indexes["models"]
    everything = index.query("anything", k=len(index))["hits"]
    paths = [hit["path"] for hit in sorted(everything, key=lambda hit: index.rows.row_of(hit["id"]))]
    given = {
        "k": K,
        "only": ONLY,
        "colours": [Path(path).parent.name for path in paths],
        "dense": models["dense"].encode_image(paths).tolist(),
        "dense queries": models["dense"].encode_text(QUESTIONS).tolist(),
        "sparse": weights_of(models["sparse"].encode_image(paths)),
        "sparse queries": weights_of(models["sparse"].encode_text(QUESTIONS)),
    }
    file = tmp_path_factory.mktemp("given") / "given.json"
    file.write_text(json.dumps(given))
    done = subprocess.run(
        [sys.executable, "-c", QDRANT, clients(), str(file)], capture_output=True, text=True, timeout=600
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return json.loads(done.stdout)


@pytest.mark.parametrize(
    ("kind", "where"),
    [("dense", None), ("filtered", "|".join(ONLY)), ("sparse", None), ("sparse filtered", "|".join(ONLY))],
)
def test_qdrant_finds_what_we_find(kind: str, where: str | None, indexes: dict[str, Any], theirs: dict):
    index = indexes["sparse" if "sparse" in kind else "dense"]
    condition = f"label={where}" if where else None
    for question, found in zip(QUESTIONS, theirs[kind], strict=True):
        own = index.query(question, k=K, where=condition)["hits"]
        scores, last = dict(found), found[-1][1]
        assert [hit["score"] for hit in own] == pytest.approx([score for _, score in found], abs=TOLERANCE)
        for hit in own:  # at the end of the list rows of one score may take each other's place
            score = scores.get(index.rows.row_of(hit["id"]), last)
            assert hit["score"] == pytest.approx(score, abs=TOLERANCE)
        if where:
            assert {Path(hit["path"]).parent.name for hit in own} <= set(ONLY)
