"""Training, evaluating and embedding on every kind of bad input end well, and say what they left out."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from frugalclip.core.errors import DataError
from frugalclip.core.yaml_text import dump_yaml
from frugalclip.data.ledger import read_ledger
from frugalclip.sources.open import read_source
from frugalclip.verbs.data_check import check
from frugalclip.verbs.embed import embed
from frugalclip.verbs.evaluate import evaluate
from frugalclip.verbs.train import train

from ..data import hostile


def _folder(root: Path) -> Path:
    hostile.folder_into(root)
    return root


def _tar(root: Path) -> Path:
    hostile.tar_into(root.with_suffix(".tar"))
    return root.with_suffix(".tar")


ROUTES: dict[str, Callable[[Path], Path]] = {
    "folder": _folder,
    "csv": lambda root: hostile.csv_into(root)[0],
    "jsonl": lambda root: hostile.jsonl_into(root)[0],
    "parquet-paths": lambda root: hostile.parquet_paths_into(root)[0],
    "parquet-bytes": lambda root: hostile.parquet_bytes_into(root)[0],
    "tar": _tar,
}
RECIPE = {
    "tokenizer": {"kind": "captions", "vocabulary": 600, "context": 8},
    "model": {
        "image": {"width": 16, "depth": 1, "head_dim": 16, "patch": 8, "resolution": 16},
        "text": {"width": 16, "depth": 1, "head_dim": 16},
        "dim": 8,
    },
    "objectives": {"contrastive": 1},
    "batch": 8,
    "steps": 2,
    "precision": "fp32",
    "evaluation": {"points": 1},
}


@pytest.mark.parametrize("route", ROUTES)
def test_a_data_set_full_of_bad_input_is_checked_trained_on_judged_and_embedded(route: str, tmp_path: Path):
    path = ROUTES[route](tmp_path / "in" / "data")
    seen = read_source(path).seen
    (found,) = check(path, full=True)
    (tmp_path / "tiny.yaml").write_text(dump_yaml(RECIPE | {"data": {"path": str(path)}}))
    with pytest.raises(DataError, match=r"samples are bad, .* and data.max_error_fraction allows 1 %"):
        train(str(tmp_path / "tiny.yaml"), out=tmp_path / "run")
    assert train(str(tmp_path / "tiny.yaml"), ["data.max_error_fraction=1"], out=tmp_path / "run").is_finished

    fates = read_ledger(tmp_path / "run/ledger.parquet").to_pylist()
    assert len(fates) == seen
    bad = {(row["id"], row["reason"]) for row in fates if row["status"] == "dropped"}
    assert bad == {(fault.id, fault.reason) for fault in [*found.source.ledger.dropped, *found.images.faults]}
    assert len(bad) >= 40

    result = evaluate(tmp_path / "run", data=path, task="retrieval", json=tmp_path / "result.json")
    counted = {
        reason: sum(row["reason"] == reason and row["status"] != "kept" for row in fates) for _, reason in bad
    }
    written = json.loads((tmp_path / "result.json").read_text())["left_out"]
    assert {reason: count for reason, count in written.items() if reason in counted} == counted
    assert result["samples"] + sum(counted.values()) + len(found.source.ledger.merged) == seen

    stored = embed(tmp_path / "run", path, out=tmp_path / "store", what="images")
    assert stored.unread == found.source.ledger.counts()
    assert stored.store.vectors("image", np.flatnonzero(~stored.store.missing("image"))).isfinite().all()
    assert stored.store.missing("image").sum() == len(found.images.faults)
