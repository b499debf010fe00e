"""Every parity array counts: where one is damaged, the test of its file notices, or a reason stands here.

An array that can be damaged without any check failing proves nothing, however well it seems to be met.
"""

import json
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from .parity.test_parity import HERE, arrays, checks, family_of

AREAS = ("clip", "supervision", "borrow")
FAMILIES = ("concept_frequency", "nmtune")  # of other areas, by the beginning of their names
ARRAYS = HERE / "arrays"
UNNOTICED = {  # family: pattern of names that no result depends on -> why
    "aclip_heads": {
        r"simclr\.layer[12]\.bias": "a batch normalisation follows and subtracts it again",
    },
    "concept_frequency_table": {
        r"dataset|concept": "names that no number depends on",
        r"acc_class_.+": "bins are of the ensemble prompts; the fits in the CSV file read these",
        r"freq_.+": "one concept that is found once or twice more stays in its bin; all of them are noticed",
    },
    "declip_heads": {
        r"(proj|pred)\.bn\d\.num_batches_tracked": "counts calls, which a fixed momentum does not read",
    },
    "declip_total": {
        r"(proj|pred)\.bn\d\.num_batches_tracked": "counts calls, which a fixed momentum does not read",
        r"(proj|pred)\.bn\d\.running_(mean|var)": "of before the call, which batch statistics do not read",
        r"(proj|pred)\.linear\d\.bias": "a batch normalisation follows and subtracts it again",
    },
    "flame_mask": {
        r"emb": "its last row is an id that no caption has",
    },
    "nmtune_case": {
        r".+\.num_batches_tracked": "counts calls, which a fixed momentum does not read",
        r".+\.running_(mean|var)": "of before the call, which batch statistics do not read",
        r".+mlp_after\.\d+\.bias": "a batch normalisation follows and subtracts it again",
    },
    "nmtune_spectrum": {
        r"labels": "of rows, which no singular value depends on",
    },
    "protoclip_faiss": {
        r"niter|nredo": "settings of the run; ours comes as near with one more or less",
    },
    "protoclip_head": {
        r"w_\d_num_batches_tracked": "counts calls, which a fixed momentum does not read",
    },
    "protoclip_loss": {
        r"ext_centroids": "external labels are hard, so similarities of external prototypes are not read",
    },
}


def damaged(array: np.ndarray, *, last_only: bool) -> np.ndarray:
    """The array with other values, everywhere or in its last row."""
    changed = array.copy()
    rows = changed[-1:] if last_only and changed.ndim else changed[...]
    draw = np.random.default_rng(0)
    if array.dtype == bool:
        rows[...] = ~rows
    elif np.issubdtype(array.dtype, np.integer):
        rows[...] += draw.integers(1, 3, rows.shape).astype(array.dtype)
    elif np.issubdtype(array.dtype, np.floating):
        rows[...] += (0.05 + 0.1 * np.abs(rows)) * draw.uniform(0.5, 1.5, rows.shape)
    else:
        words = np.char.add("zebra ", array)  # longer, so it has a type of its own
        return np.append(array[:-1], words[-1]) if last_only and array.ndim else words
    return changed


def cases() -> Iterator[Path]:
    """Files of the areas whose arrays are damaged here."""
    families = json.loads((ARRAYS / "families.json").read_text(encoding="utf-8"))
    area = {entry["family"]: entry["area"] for entry in families}
    tables = [(path, family_of(path)) for path in arrays(ARRAYS) if path.suffix == ".npz"]
    return (path for path, family in tables if area[family] in AREAS or family.startswith(FAMILIES))


def unnoticed(path: Path, folder: Path, *, last_only: bool) -> set[str]:
    """Arrays of a file whose damage its check does not notice."""
    check, content = checks()[family_of(path)], dict(np.load(path, allow_pickle=False))
    shutil.copy(ARRAYS / "families.json", folder)
    found = set()
    for name, array in content.items():
        np.savez(
            folder / path.name, allow_pickle=False, **content | {name: damaged(array, last_only=last_only)}
        )
        try:
            check(folder / path.name)
        except Exception:  # a damaged input may break the computation itself
            continue
        found.add(name)
    return found


def has_reason(family: str, name: str) -> bool:
    return any(re.fullmatch(pattern, name) for pattern in UNNOTICED.get(family, {}))


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("last_only", [False, True], ids=["whole", "last row"])
@pytest.mark.parametrize("path", list(cases()), ids=lambda path: path.stem)
def test_the_damage_of_every_array_is_noticed(path: Path, last_only: bool, tmp_path: Path):
    family = family_of(path)
    missed = {name for name in unnoticed(path, tmp_path, last_only=last_only) if not has_reason(family, name)}
    assert missed == set()


def test_every_reason_names_arrays_that_exist():
    names = {family_of(path): list(np.load(path, allow_pickle=False).keys()) for path in cases()}
    for family, reasons in UNNOTICED.items():
        for pattern in reasons:
            assert any(re.fullmatch(pattern, name) for name in names[family]), f"{family}: {pattern}"
