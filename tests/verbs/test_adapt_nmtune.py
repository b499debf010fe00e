"""`adapt nmtune`: on a model's features of images and captions, and on features from a file."""

import json
from pathlib import Path

import numpy as np
import pytest

from frugalclip.cli import main
from frugalclip.core.errors import DataError, UsageError
from frugalclip.verbs.adapt_nmtune import IN_DOMAIN, adapt_nmtune

from .test_evaluate import folder, make_model  # noqa: F401  (a fixture)


def saved(path: Path, **changes: np.ndarray) -> Path:
    random = np.random.default_rng(0)
    labels = np.array(["cat", "dog"] * 30)
    arrays = {
        "features": random.normal(size=(60, 5)) + (labels == "cat")[:, None],
        "labels": labels,
        "split": np.array(["train"] * 30 + ["test"] * 20 + ["drawings"] * 10),
    }
    np.savez(path, **{**arrays, **changes})
    return path


def test_features_from_a_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    out = tmp_path / "heads.json"
    words = [
        "--features",
        str(saved(tmp_path / "f.npz")),
        "--seeds",
        "3",
        "--epochs",
        "2",
        "--json",
        str(out),
    ]
    assert main(["adapt", "nmtune", *words]) == 0
    found = json.loads(out.read_text())
    assert found["tests"] == {"test": 20, "drawings": 10}
    assert set(found["arms"]) == {"linear", "mlp", "nmtune-official", "nmtune-paper"}
    printed = capsys.readouterr().out
    assert "nmtune-official less linear, test" in printed
    assert "Spectrum, frozen: SVE" in printed


@pytest.mark.parametrize("side", ["image", "text"])
def test_features_of_a_model(folder: Path, side: str):  # noqa: F811
    found = adapt_nmtune(
        make_model(), data=folder, label_field="label", side=side, out_of_domain=[folder], seeds=1, epochs=1
    )
    assert found["tests"] == {IN_DOMAIN: 4, str(folder): 8}
    assert (found["classes"], found["train"]) == (3, 4)


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"labels": np.array(["cat"] * 60)}, "training rows of two classes"),
        ({"split": np.array(["train"] * 60)}, "test rows of the same"),
        ({"features": np.zeros((3, 5))}, "shape"),
        ({"features": np.full((60, 5), np.nan)}, "not finite"),
    ],
)
def test_a_file_that_does_not_fit_is_refused(tmp_path: Path, changes: dict, sentence: str):
    with pytest.raises(DataError, match=sentence):
        adapt_nmtune(features=saved(tmp_path / "f.npz", **changes))


def test_what_is_missing_is_named(tmp_path: Path):
    with pytest.raises(UsageError, match="name a MODEL"):
        adapt_nmtune()
    with pytest.raises(DataError, match="there is no file"):
        adapt_nmtune(features=tmp_path / "none.npz")
