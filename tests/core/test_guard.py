"""Whatever a library does with damaged bytes becomes one sentence with file, reason and next step."""

from pathlib import Path

import pytest
from pydantic import Field

from frugalclip.core.checksums import NAME, verify_checksums, write_checksums
from frugalclip.core.errors import LONGEST, QUOTED, DataError, ModelError, shortened
from frugalclip.core.guard import parse_json, reading, reason
from frugalclip.core.records import read_json
from frugalclip.core.stored import StoredRecord, read_object, read_record


class PanicException(BaseException):
    pass


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        (UnicodeDecodeError("utf-8", b"abc", 1, 2, "bad"), "byte 1 is not UTF-8"),
        (RecursionError("maximum depth"), "nested too deeply"),
        (MemoryError(), "more memory than there is"),
        (RuntimeError("can't allocate memory: you tried to allocate 14073748835532800 bytes"), "more memory"),
        (KeyError("weights"), "it has no 'weights'"),
        (PermissionError(13, "Permission denied"), "Permission denied"),
        (PanicException("index out of range\nbacktrace"), "index out of range"),
        (ValueError(), "ValueError"),
        (ValueError("x" * 9000), "characters"),
    ],
)
def test_every_fault_is_a_sentence(fault: BaseException, words: str):
    with (
        pytest.raises(ModelError) as found,
        reading("a.bin line 3", advice="copy it again", error=ModelError),
    ):
        raise fault
    text = str(found.value)
    assert text.startswith("a.bin line 3 cannot be read (") and text.endswith("); copy it again.")
    assert words in text and words in f"it has no {reason(fault)}" and "\n" not in text
    assert len(text) < QUOTED + 100 and found.value.__cause__ is fault


def test_our_own_sentences_and_ctrl_c_pass():
    for error in (DataError("as it is"), KeyboardInterrupt()):
        with pytest.raises(type(error)) as found, reading("a"):
            raise error
        assert found.value is error


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"{",
        b"NaN",
        b'{"a": -Infinity}',
        b"1e999",
        b"9" * 6000,
        b"[" * 200_000,
        b'{"a":' * 99_999,
        b"\xff",
    ],
    ids=lambda text: str(text[:9]),
)
def test_what_is_no_json_names_the_file(text: bytes, tmp_path: Path):
    (tmp_path / "a.json").write_bytes(text)
    with pytest.raises(DataError, match=r"a\.json cannot be read \(.{5,200}\); embed again\.$"):
        read_json(tmp_path / "a.json", error=DataError, advice="embed again")
    assert parse_json(b'{"a": 1e300}') == {"a": 1e300}


def test_rows_of_a_run_may_hold_what_json_does_not():
    assert parse_json("[Infinity, 1e999]", allow_nan=True) == [float("inf")] * 2


class Saved(StoredRecord):
    step: int = Field(ge=0)
    names: list[str]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("[]", r"holds \[\], expected a JSON object"),
        ("{}", "'step' is missing"),
        ('{"step": "1", "names": []}', "'step' is 1, expected a valid integer"),
        ('{"step": true, "names": []}', "'step' is True, expected a valid integer"),
        ('{"step": -1, "names": []}', "'step' is -1, expected greater than or equal to 0"),
        ('{"step": 1, "names": [2]}', "'names.0' is 2, expected a valid string"),
        ('{"step": 1, "names": [], "more": 1}', "'more' is not known"),
    ],
)
def test_a_record_of_another_form_names_file_and_key(content: str, message: str, tmp_path: Path):
    path = tmp_path / "a.json"
    path.write_text(content)
    with pytest.raises(ModelError, match=rf"a\.json.* {message}.*; restore it"):
        read_record(path, Saved)
    path.write_text('{"step": 1, "names": ["a"]}')
    assert read_record(path, Saved) == Saved(step=1, names=["a"]) and read_object(path)["step"] == 1


def test_messages_quote_one_line_of_bounded_length():
    error = DataError("no column " + "x" * 10_000 + "\x1b[31m\nred\u2028; next step.")
    assert len(str(error)) < LONGEST + 100 and "\n" not in str(error) and "\x1b" not in str(error)
    assert str(error).startswith("no column xxx") and str(error).endswith("; next step.")
    assert str(DataError("one", "two\nthree")) == "one\ntwo\\nthree"
    assert shortened("a\tb") == "a\\tb" and shortened("ok") == "ok"


def test_checksums_are_those_of_the_files(tmp_path: Path):
    (tmp_path / "a").write_bytes(b"one")
    write_checksums(tmp_path, ["a", "absent"])
    (tmp_path / "b").write_bytes(b"two")
    verify_checksums(tmp_path, ["a", "absent"])
    with pytest.raises(ModelError, match="b was not written with its folder"):
        verify_checksums(tmp_path, ["b"])
    write_checksums(tmp_path, ["b"])
    verify_checksums(tmp_path, ["a", "b"])
    for content, message in (
        (b"0ne", "has changed since it was written"),
        (b"on", "has 2 bytes, expected 3"),
    ):
        (tmp_path / "a").write_bytes(content)
        with pytest.raises(ModelError, match=message):
            verify_checksums(tmp_path, ["a"])
    (tmp_path / "a").unlink()
    with pytest.raises(ModelError, match="a is not there"):
        verify_checksums(tmp_path, ["a"])
    (tmp_path / NAME).unlink()
    with pytest.raises(ModelError, match=f"holds no {NAME}"):
        verify_checksums(tmp_path, ["a"])
