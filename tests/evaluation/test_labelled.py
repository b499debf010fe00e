import numpy as np
import pyarrow as pa
import pytest

from frugalclip.core.errors import DataError
from frugalclip.data.manifest import image_places, make_manifest
from frugalclip.evaluation.groups import find_groups
from frugalclip.evaluation.labelled import FOLDS, labelled_rows, split_labelled


def table(tmp_path, *, rows=60, **fields):
    """Rows of three classes in families of a few; no image is ever opened."""
    names = [f"r{i}" for i in range(rows)]
    columns = {
        "label": pa.array([("cat", "dog", "owl")[(i // 3) % 3] for i in range(rows)]),
        "family": pa.array([f"f{i // 3}" for i in range(rows)]),
        **{name: pa.array(values) for name, values in fields.items()},
    }
    return make_manifest(
        ids=names,
        images=image_places(names),
        captions=[[n] for n in names],
        fields=columns,
        root=tmp_path,
        name="table",
    )


def splits_of(labelled):
    return [
        [set(labelled.rows[part].tolist()) for part in (fold.train, fold.validation, fold.test)]
        for fold in labelled.folds
    ]


def assert_groups_are_whole(everything, labelled):
    codes = find_groups(everything).codes
    for fold in splits_of(labelled):
        groups = [set(codes[sorted(part)].tolist()) for part in fold]
        assert not groups[0] & groups[1] and not groups[0] & groups[2] and not groups[1] & groups[2]


def test_without_a_split_whole_groups_are_divided_by_seed(tmp_path):
    everything = table(tmp_path)
    found = labelled_rows(everything, everything)
    assert_groups_are_whole(everything, found)
    ((train, validation, test),) = splits_of(found)
    assert (len(train), len(validation), len(test)) == (36, 12, 12)
    assert train | validation | test == set(range(60))
    assert {found.names[i] for i in found.labels[found.test]} == {
        "cat",
        "dog",
        "owl",
    }  # classes are spread over the parts
    assert splits_of(labelled_rows(everything, everything, seed=1)) != splits_of(found)
    assert found.test_where is None and "by seed" in found.rule


def test_every_row_is_a_test_row_of_one_fold(tmp_path):
    everything = table(tmp_path)
    found = split_labelled(everything, everything.field("label"), chosen=np.arange(60), split="folds")
    assert len(found.folds) == FOLDS
    assert sorted(found.test.tolist()) == list(range(60))
    assert_groups_are_whole(everything, found)


def test_rows_with_training_rows_among_them_follow_their_own_split(tmp_path):
    split = ["train"] * 36 + ["val"] * 12 + ["test"] * 12
    everything = table(tmp_path, split=split)
    for chosen in (everything, everything.where("split=test")):
        found = labelled_rows(chosen, everything)
        ((train, validation, test),) = splits_of(found)
        assert (train, validation, test) == (set(range(36)), set(range(36, 48)), set(range(48, 60)))
    assert found.test_where is None
    assert labelled_rows(everything, everything).test_where == "split=test"
    with pytest.raises(
        DataError,
        match=r"every split=train row of table is a test row too; choose others with --where split=test",
    ):
        labelled_rows(everything.where("split=train"), everything)


def test_a_near_copy_of_a_test_row_does_not_train_and_some_training_groups_tune(tmp_path):
    split = [
        "test" if i % 3 == 0 and i < 30 else "train" for i in range(60)
    ]  # families of the first half are torn apart
    everything = table(tmp_path, split=split)
    found = labelled_rows(everything.where("split=test"), everything)
    assert found.left_out["training rows of a group with test rows"] == 20
    assert_groups_are_whole(everything, found)
    ((train, validation, test),) = splits_of(found)
    assert len(train) + len(validation) == 30 and len(validation) > 0 and len(test) == 10


def test_classes_that_cannot_be_learned_are_counted_and_lost_rows_leave_their_split(tmp_path):
    everything = table(tmp_path, split=["train"] * 30 + ["test"] * 30)
    labels = [
        label if split == "train" or label != "owl" else "bat"
        for label, split in zip(everything.field("label"), everything.field("split"), strict=True)
    ]
    found = split_labelled(everything, labels, chosen=np.arange(30, 60))
    assert found.left_out == {"without a class of the training rows": labels.count("bat")}
    assert found.names == ["cat", "dog", "owl"]
    kept = np.delete(np.arange(len(found.rows)), [0, len(found.rows) - 1])
    fewer = found.only(kept)
    assert fewer.rows.tolist() == found.rows[1:-1].tolist()
    assert len(fewer.test) == len(found.test) - 1
    assert [found.names[i] for i in found.labels[kept]] == [labels[row] for row in fewer.rows]
    with pytest.raises(DataError, match="no image is left"):
        found.only(np.zeros(0, np.int64))
    with pytest.raises(DataError, match="none of the 30 rows has a class that occurs in split=train"):
        split_labelled(
            everything,
            ["cat" if split == "train" else "dog" for split in everything.field("split")],
            chosen=np.arange(30, 60),
        )


def test_groups_are_found_where_the_data_has_them(tmp_path):
    everything = table(tmp_path, component=[f"c{i // 2}" for i in range(60)])
    found = find_groups(everything)
    assert (found.over, found.origin, len(set(found.codes.tolist()))) == (
        "family",
        "found in the data",
        20,
    )  # no row is without one
    mixed = table(
        tmp_path,
        family=[f"f{i // 3}" if i < 30 else None for i in range(60)],
        component=[f"c{i // 2}" if i < 40 else None for i in range(60)],
    )
    assert find_groups(mixed).over == "family, else component"
    assert (
        len(set(find_groups(mixed).codes.tolist())) == 10 + 5 + 20
    )  # families, components of rows without one, rows alone
    assert find_groups(everything, "label").over == "label"
    assert len(set(find_groups(everything, "label").codes.tolist())) == 3
    few = everything.take(range(27))  # nine families say little about a spread
    assert (find_groups(few).over, find_groups(few).origin, len(set(find_groups(few).codes.tolist()))) == (
        None,
        "none",
        27,
    )
