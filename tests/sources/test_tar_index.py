import bz2
import gzip
import io
import tarfile
from pathlib import Path
from types import SimpleNamespace

import pytest

from frugalclip.core.errors import DataError
from frugalclip.data.image_reader import ImageReader
from frugalclip.sources import tar_index as shards
from frugalclip.sources.open import open_data, read_source


def samples(make: SimpleNamespace, *keys: str) -> list[tuple[str, bytes | str]]:
    return [
        part
        for number, key in enumerate(keys)
        for part in ((f"{key}.png", make.encoded((number, 0, 0))), (f"{key}.txt", f"caption of {key}"))
    ]


@pytest.mark.parametrize("format", [tarfile.GNU_FORMAT, tarfile.PAX_FORMAT, tarfile.USTAR_FORMAT])
def test_the_index_is_what_tarfile_says(tmp_path: Path, make: SimpleNamespace, format: int):
    names = ["a.png", "in/b.txt", "./c.json", "d/" * 30 + "long.png", "x" * 99]
    if format != tarfile.USTAR_FORMAT:
        names += ["y" * 300 + ".jpg", "héhé/日本.png", "z/" * 90 + "deep.txt"]
    path = make.tar(tmp_path / "s.tar", {name: name * 40 for name in names}, format=format)
    with tarfile.open(path) as tar:
        expected = [(member.name, member.offset_data, member.size) for member in tar if member.isreg()]
    index = shards.index(path)
    assert [(m.name, m.offset, m.length) for m in index.members] == expected
    assert index.fault is None
    data = path.read_bytes()
    assert all(
        data[m.offset : m.offset + m.length].decode() == name * 40
        for m, name in zip(index.members, names, strict=True)
    )


def test_folders_links_and_sparse_numbers_are_passed_over(tmp_path: Path):
    with tarfile.open(tmp_path / "s.tar", "w") as tar:
        for name, kind in [("folder", tarfile.DIRTYPE), ("link", tarfile.SYMTYPE), ("hard", tarfile.LNKTYPE)]:
            member = tarfile.TarInfo(name)
            member.type, member.linkname = kind, "/etc/passwd"
            tar.addfile(member)
        member = tarfile.TarInfo("a.txt")
        member.size, member.uid = 3, 2**40  # a number too large for octal digits
        tar.addfile(member, io.BytesIO(b"abc"))
    assert [m.name for m in shards.index(tmp_path / "s.tar").members] == ["a.txt"]


def test_a_tar_cut_anywhere_gives_what_lies_before(tmp_path: Path, make: SimpleNamespace):
    whole = make.tar(tmp_path / "whole.tar", samples(make, "a", "b", "c"))
    data, members = whole.read_bytes(), shards.index(whole).members
    end = -(-(members[-1].offset + members[-1].length) // 512) * 512
    for length in range(512, end + 1, 171):
        cut = make.put(tmp_path / "cut.tar", data[:length])
        index = shards.index(cut)
        assert index.members == [m for m in members if m.offset + m.length <= length]
        assert index.fault == (None if length == end else "truncated-shard"), length
    assert shards.index(make.put(tmp_path / "no-end-mark.tar", data[:end])).fault is None


def test_damage_in_the_middle_is_placed(tmp_path: Path, make: SimpleNamespace):
    path = make.tar(tmp_path / "s.tar", samples(make, "a", "b"))
    members = shards.index(path).members
    data = bytearray(path.read_bytes())
    data[members[2].offset - 512 + 3] ^= 0xFF  # inside the header of b.png
    source = read_source(make.put(tmp_path / "s.tar", bytes(data)))
    assert source.manifest.ids == ["a"]
    assert [(fault.id, fault.reason) for fault in source.ledger.entries] == [("s.tar", "broken-shard")]
    assert f"at byte {members[2].offset - 512:,}" in source.ledger.entries[0].detail


@pytest.mark.parametrize(
    ("name", "pack", "words"),
    [
        ("s.tar.gz", gzip.compress, "gunzip -k"),
        ("s.tgz", gzip.compress, "gunzip -k -S .tgz"),
        ("s.tar", gzip.compress, "compressed with gzip"),
        ("s.tar.bz2", bz2.compress, "bunzip2 -k"),
    ],
)
def test_compressed_tars_are_refused_with_the_command(
    tmp_path: Path, make: SimpleNamespace, name: str, pack, words: str
):
    whole = make.tar(tmp_path / "whole.tar", samples(make, "a"))
    with pytest.raises(DataError, match=words):
        open_data(make.put(tmp_path / name, pack(whole.read_bytes())))


def test_what_is_no_tar_is_refused(tmp_path: Path, make: SimpleNamespace):
    with pytest.raises(DataError, match="is not a tar"):
        open_data(make.put(tmp_path / "s.tar", "image,caption\n" * 100))
    with pytest.raises(DataError, match="1 truncated-shard"):
        open_data(make.put(tmp_path / "empty.tar"))


def test_braces_and_globs(tmp_path: Path):
    assert [p.name for p in shards.expand("s-{008..011}.tar")] == [
        "s-008.tar",
        "s-009.tar",
        "s-010.tar",
        "s-011.tar",
    ]
    assert [p.name for p in shards.expand("{a,b}-{1..2}.tar")] == ["a-1.tar", "a-2.tar", "b-1.tar", "b-2.tar"]
    assert [str(p) for p in shards.expand("plain.tar")] == ["plain.tar"]
    for name in ("t-2.tar", "t-1.tar", "u.txt"):
        (tmp_path / name).touch()
    assert [p.name for p in shards.expand(f"{tmp_path}/t-*.tar")] == ["t-1.tar", "t-2.tar"]
    assert shards.expand(f"{tmp_path}/v-*.tar") == []
    with pytest.raises(DataError, match="smaller number first"):
        shards.expand("s-{5..1}.tar")
    with pytest.raises(DataError, match="is not a range"):
        shards.expand("s-{a..z}.tar")


def test_shards_become_one_manifest_read_at_random(tmp_path: Path, make: SimpleNamespace):
    make.tar(tmp_path / "s-0.tar", samples(make, "a", "b"))
    make.tar(tmp_path / "s-1.tar", samples(make, "c"))
    for path in (tmp_path, f"{tmp_path}/s-{{0..1}}.tar", f"{tmp_path}/*.tar"):
        manifest = open_data(path)
        assert manifest.ids == ["a", "b", "c"]
        assert manifest.captions() == [["caption of a"], ["caption of b"], ["caption of c"]]
        reader = ImageReader(manifest)
        assert [reader.image(row).getpixel((0, 0)) for row in (2, 1, 0)] == [(0, 0, 0), (1, 0, 0), (0, 0, 0)]


def test_keys_that_repeat_over_shards_get_the_shards_name(tmp_path: Path, make: SimpleNamespace):
    for shard in ("s-0", "s-1"):
        make.tar(tmp_path / f"{shard}.tar", samples(make, "000", "001"))
    assert open_data(tmp_path).ids == ["s-0/000", "s-0/001", "s-1/000", "s-1/001"]


def test_members_of_a_key_need_not_be_neighbours(tmp_path: Path, make: SimpleNamespace):
    ordered = samples(make, "a", "b")
    assert open_data(make.tar(tmp_path / "s.tar", ordered[::2] + ordered[1::2])).captions() == [
        ["caption of a"],
        ["caption of b"],
    ]


def test_json_gives_fields_and_languages_and_cls_a_label(tmp_path: Path, make: SimpleNamespace):
    record = (
        '{"captions": {"en": "a dog", "de": ["ein Hund", "Hund"]}, "n": 3, "deep": {"x": 1}, "tags": ["p"]}'
    )
    path = make.tar(
        tmp_path / "s.tar",
        {
            "a.png": make.encoded(),
            "a.json": record,
            "b.JPG": make.encoded(kind="JPEG"),
            "b.cls": "7",
            "b.txt": "one\n\n two \n",
            "c.webp": b"x",
            "c.cls": "sea_gull",
        },
    )
    manifest = open_data(path)
    assert manifest.captions() == [["a dog"], ["one", "two"], ["sea gull"]]
    assert manifest.captions(language="de") == [["ein Hund", "Hund"], [], []]
    assert manifest.field("n") == [3, None, None]
    assert manifest.field("deep") == ['{"x": 1}', None, None]
    assert manifest.field("tags") == [["p"], None, None]
    assert manifest.field("cls") == [None, "7", "sea_gull"]


def test_what_is_left_out_of_a_tar_is_reported(tmp_path: Path, make: SimpleNamespace):
    image = make.encoded()
    members = [
        *[("good.png", image), ("good.txt", "fine")],
        *[("same.png", image), ("same.txt", "first"), ("same.png", image), ("same.txt", "second")],
        *[("mute.png", image), ("blank.png", image), ("blank.txt", " \n"), ("text.txt", "alone")],
        *[("bytes.png", image), ("bytes.txt", b"caf\xe9"), ("json.png", image), ("json.json", "{")],
        *[
            ("../../etc/evil.png", image),
            ("../../etc/evil.txt", "x"),
            ("photo.heic", b"x"),
            ("photo.txt", "x"),
            (".hidden.png", image),
        ],
        ("meta.csv", "not a sample"),
    ]
    source = read_source(make.tar(tmp_path / "s.tar", members))
    assert source.manifest.ids == ["good", "same"]
    assert source.manifest.captions() == [["fine"], ["first"]]
    assert source.ledger.counts() == {
        "no-caption": 2,
        "duplicate-key": 1,
        "no-image": 1,
        "not-json": 1,
        "not-utf8": 1,
        "outside-folder": 1,
        "unsupported-format": 1,
    }
    assert {fault.id for fault in source.ledger.entries if fault.reason == "no-caption"} == {
        "s.tar/mute",
        "s.tar/blank",
    }


def test_tars_without_a_sample_say_what_was_met(tmp_path: Path, make: SimpleNamespace):
    with pytest.raises(DataError, match=r"holds no sample \(1 no-caption\); expected KEY.jpg with KEY.txt"):
        open_data(make.tar(tmp_path / "s.tar", {"a.png": make.encoded()}))
