import pyarrow as pa
import pytest

from frugalclip.core.errors import DataError
from frugalclip.data.manifest import Manifest
from frugalclip.evaluation.classes import collect_classes, read_classes, row_names


def with_field(manifest: Manifest, name: str, values: list) -> Manifest:
    return Manifest(manifest.table.append_column(name, pa.array(values)), manifest.root, manifest.name)


def test_names_come_from_the_label_field_else_the_first_caption(squares):
    assert row_names(squares)[0][:4] == [["red"], ["red"], ["red"], ["green"]]
    labelled = with_field(squares, "label", ["dark_blue", None, *["x"] * 10])
    assert row_names(labelled)[0][:3] == [["dark blue"], [], ["x"]]
    assert row_names(labelled, label_field="name")[0][0] == ["red"]
    assert row_names(labelled, language="de")[0][4:8] == [["grün"], ["blau"], [], ["rot"]]


def test_list_fields_give_several_right_names(squares):
    several = with_field(squares, "keywords", [["red", "square"], ["Red"], *[["other"]] * 10])
    found = collect_classes(several.take([0, 1]), several, label_field="keywords")
    assert found.names == ["other", "red", "square"]
    assert found.labels == [[1, 2], [1]]


def test_the_generalised_pool_is_all_names_before_rows_were_chosen(squares):
    found = collect_classes(squares.where("split=test"), squares)
    assert found.names == ["blue", "dark blue", "green", "red", "white"]


def test_a_class_file_with_synonyms(squares, tmp_path):
    path = tmp_path / "classes.txt"
    path.write_text("crimson | RED\n\nblue|navy\n", encoding="utf-8")
    found = collect_classes(squares, squares, classes=path)
    assert (found.names, found.synonyms) == (["crimson", "blue"], [["crimson", "RED"], ["blue", "navy"]])
    assert found.labels[0] == [0]
    assert found.labels[3] == []  # green is not in the list
    assert collect_classes(squares, squares, classes=["crimson | red", "blue"]).labels == found.labels


def test_what_cannot_be_read_is_named(squares, tmp_path):
    path = tmp_path / "classes.txt"
    path.write_text("red|rose\nwhite|rose\n", encoding="utf-8")
    with pytest.raises(DataError, match="gives 'rose' to both 'red' and 'white'"):
        read_classes(path)
    path.write_text("\n", encoding="utf-8")
    with pytest.raises(DataError, match="holds no class"):
        read_classes(path)
    with pytest.raises(DataError, match="there is no class file"):
        read_classes(tmp_path / "absent.txt")
    with pytest.raises(
        DataError,
        match="'red', the name of a row by its first caption, is not in the class list; did you mean 'reds'",
    ):
        collect_classes(squares, squares, classes=["reds"])
    with pytest.raises(DataError, match="no field 'nam'; did you mean 'name'"):
        collect_classes(squares, squares, label_field="nam")
    empty = with_field(squares, "label", [None] * 12)
    with pytest.raises(DataError, match="none of the 12 rows"):
        collect_classes(empty, empty)


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_class_files_of_windows(tmp_path, encoding):
    path = tmp_path / "classes.txt"
    path.write_text("tabby | tabby cat\r\nBär\r\n", encoding=encoding, newline="")
    assert read_classes(path) == [["tabby", "tabby cat"], ["Bär"]]
    path.write_bytes("Bär\n".encode("latin-1"))
    with pytest.raises(DataError, match="is not UTF-8; convert it"):
        read_classes(path)
