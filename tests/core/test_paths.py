"""Home folders in paths."""

from pathlib import Path

import pytest

from frugalclip.core.errors import DataError
from frugalclip.core.paths import user_path


def test_a_tilde_is_the_home_folder_and_elsewhere_a_letter(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    monkeypatch.setenv("HOME", str(tmp_path))
    assert user_path("~") == tmp_path and user_path("~/a b") == tmp_path / "a b"
    assert user_path("a/~b") == Path("a/~b") and user_path("./~x") == Path("~x")


@pytest.mark.parametrize("path", ["~nosuchuser", "~nosuchuser/data", Path("~nosuchuser/a b")])
def test_an_unknown_user_is_a_sentence(path: str | Path):
    with pytest.raises(DataError, match=r"begins with ~nosuchuser, the home folder of a user that this"):
        user_path(path)
