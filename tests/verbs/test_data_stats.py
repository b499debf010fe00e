import builtins
import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from rich.console import Console

from frugalclip.core.errors import DataError
from frugalclip.data import statistics
from frugalclip.verbs import data_stats as verb


@pytest.fixture(autouse=True)
def no_dictionaries(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The real dictionaries take seconds to load: a stand-in that knows articles."""
    seen: list[str] = []

    class Stub:
        @staticmethod
        def langdetect(text: str, lang: tuple[str, ...]) -> list[tuple[str, float]]:
            assert set(lang) == set(statistics.LATIN)
            seen.append(text)
            words = {"the": "en", "ein": "de"}
            return next(
                ([(code, 0.8)] for word, code in words.items() if word in text.split()), [("unk", 0.0)]
            )

    monkeypatch.setattr(statistics, "require", lambda module, **_: Stub)
    return seen


def printed(result: verb.Stats) -> str:
    console = Console(file=io.StringIO(), width=200, color_system=None)
    verb.show_stats(result, console)
    return console.file.getvalue()  # pyright: ignore[reportAttributeAccessIssue]


def fill(folder: Path, count: int) -> Path:
    """Pictures of noise with growing widths, and captions."""
    folder.mkdir()
    for number in range(count):
        pixels = np.random.default_rng(number).integers(0, 255, (6, 8 + number, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"{number}.png")
        (folder / f"{number}.txt").write_text(f"the picture number {number}")
    return folder


def table(folder: Path, count: int, **columns: list[Any]) -> Path:
    header = ["image", "caption", *columns]
    rows = [
        [f"{n}.png", (folder / f"{n}.txt").read_text(), *(str(values[n]) for values in columns.values())]
        for n in range(count)
    ]
    (folder / "t.csv").write_text("\n".join(",".join(row) for row in [header, *rows]))
    return folder / "t.csv"


def test_copies_captions_values_and_weights(tmp_path: Path):
    folder = fill(tmp_path / "d", 6)
    for number in (4, 5):
        (folder / f"{number}.png").write_bytes((folder / "1.png").read_bytes())
        (folder / f"{number}.txt").write_text("чёрное сердце")
    result = verb.stats([table(folder, 6, kind=list("ababab"), weight=[0, 4, 1, 1, 1, 1])])
    assert result.images.copies == 2
    assert result.images.most_copied == [("1", 3)]
    assert result.near.alike == 3
    assert result.captions.shared == 2
    assert result.captions.most_shared == [("чёрное сердце", 2)]
    assert result.captions.scripts == {"Latin": 4, "Cyrillic": 2}
    assert result.detected == {"en": 4}
    assert result.fields[0].values == [("a", 3), ("b", 3)]
    assert result.images.widths is not None
    assert (result.images.widths.least, result.images.widths.most) == (8, 11)
    assert result.weights is not None
    assert (result.weights.zero, result.weights.most_draws, result.weights.effective) == (1, 2.5, 3.2)
    text = printed(result)
    for words in (
        "6 samples, fingerprint",
        "2 pictures have the bytes of an earlier one; most: 1 (3 times)",
        "3 of 6 pictures compared look like another one, such as 1 and 4",
        "Truncated captions: 0.0 % at context 32, 0.0 % at context 77",
        "en 100 %",
        "Cyrillic 2",
        "PNG 6",
        "a (3), b (3)",
        "1 samples are never drawn, the heaviest 2.5 times an epoch; as varied as 3 samples",
    ):
        assert words in text, (words, text)


def test_large_sets_are_sampled_and_it_is_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    folder = fill(tmp_path / "d", 12)
    for name, value in {"READ": 5, "COMPARED": 4, "TOKENISED": 7, "DETECTED": 3}.items():
        monkeypatch.setattr(verb, name, value)
    result = verb.stats(folder)
    assert (result.images.rows, result.near.rows, sum(result.detected.values())) == (5, 4, 3)
    assert result.tokens is not None
    assert result.tokens.captions == 7
    assert result.notes == [
        "pictures read: 5 of 12, drawn at random (--full takes all)",
        "captions tokenised: 7 of 12, drawn at random (--full takes all)",
    ]
    assert "0 pictures of 5 read have" in printed(result)
    whole = verb.stats(folder, full=True)
    assert (whole.images.rows, whole.near.rows, whole.tokens and whole.tokens.captions, whole.notes) == (
        12,
        12,
        12,
        [],
    )
    assert verb.stats(folder).images == result.images  # the same every time


def test_json_holds_every_number(tmp_path: Path):
    folder = fill(tmp_path / "d", 3)
    (folder / "1.png").write_bytes(b"no picture")
    result = verb.stats(table(folder, 3, weight=[1, 2, 3]), json=tmp_path / "out/s.json")
    found = json.loads((tmp_path / "out/s.json").read_text())
    assert found == json.loads(json.dumps(result.to_json()))
    assert found["samples"] == 3
    assert found["images"]["faults"] == [
        {"id": "1", "reason": "not-an-image", "detail": found["images"]["faults"][0]["detail"]}
    ]
    assert found["tokens"]["truncated"] == {"32": 0.0, "77": 0.0}
    assert found["weights"]["weights"]["most"] == 3
    assert "sizes" not in found["images"]


def test_languages_the_data_names_are_not_guessed(
    no_dictionaries: list[str], monkeypatch: pytest.MonkeyPatch
):
    for name in ("READ", "COMPARED", "TOKENISED"):
        monkeypatch.setattr(verb, name, 50)
    result = verb.stats("sample")
    assert result.detected == {}
    assert not no_dictionaries
    assert result.captions.languages["en"] > 5000


def test_only_sentences_in_latin_letters_are_guessed(no_dictionaries: list[str]):
    assert statistics.detected_languages(
        ["the red dog", "ein roter Hund", "foo bar baz", "dog", "собака на траве"]
    ) == {
        "de": 1,
        "en": 1,
        "unsure": 1,
    }
    assert len(no_dictionaries) == 3


def test_without_the_extra_there_is_a_hint_and_no_failure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    from frugalclip.core.errors import require

    real = builtins.__import__
    monkeypatch.setattr(statistics, "require", require)
    monkeypatch.setattr(
        "importlib.import_module",
        lambda name: real("no_such_module_here") if name == "simplemma" else real(name),
    )
    result = verb.stats(fill(tmp_path / "d", 2))
    assert result.detected == {}
    assert result.notes[0].startswith("detecting languages needs simplemma")
    assert "pip install 'frugalclip[curate]'" in result.notes[0]


def test_nothing_given_is_reported():
    with pytest.raises(DataError, match="no data set was given"):
        verb.stats([])
