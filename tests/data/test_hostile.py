"""Broken, hostile and odd images: decoding gives RGB or a cause, quickly and in little memory."""

import subprocess
import sys
import time
import warnings
from pathlib import Path

import numpy as np
import pytest

from frugalclip.data.decoding import decode_all
from frugalclip.data.image_faults import DECODING, BadImage
from frugalclip.data.image_reader import ImageReader
from frugalclip.data.images import decode, size_of
from frugalclip.data.manifest import Manifest, image_places, make_manifest

from . import hostile


def named(error: BadImage) -> str:
    """The cause of a refusal, which is one that the ledger knows, in a sentence."""
    assert error.cause in DECODING.reasons
    assert str(error).endswith(".")
    return error.cause


def outcome(data: bytes) -> str | None:
    """None for a good picture, else the cause why there is none."""
    try:
        hostile_image = decode(data)
    except BadImage as error:
        return named(error)
    assert hostile_image.mode == "RGB"
    assert hostile_image.info == {}
    return None


@pytest.mark.parametrize("kind", hostile.hostile_images(), ids=lambda kind: kind.name)
def test_every_kind_comes_to_what_it_must(kind: hostile.HostileImage, capfd: pytest.CaptureFixture[str]):
    begun = time.process_time()
    assert outcome(kind.data) == kind.cause
    assert time.process_time() - begun < 2
    assert capfd.readouterr() == ("", "")  # decoders written in C print past Python's warnings


def test_names_are_unique_and_kinds_are_many():
    names = [kind.name for kind in hostile.hostile_images()]
    assert len(set(names)) == len(names)
    assert sum(kind.cause is not None for kind in hostile.hostile_images()) >= 40


@pytest.mark.parametrize("name", [kind.name for kind in hostile.hostile_images() if kind.cause is None])
def test_odd_but_fine_images_have_the_size_that_their_header_says(name: str):
    data = next(kind.data for kind in hostile.hostile_images() if kind.name == name)
    hostile_image = decode(data)
    assert size_of(data) == (hostile_image.height, hostile_image.width)


FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF")


@pytest.mark.parametrize("kind", FORMATS)
@pytest.mark.parametrize("damage", ["flip", "cut", "splice", "grow"])
def test_random_damage_gives_a_image_or_a_cause(kind: str, damage: str, capfd: pytest.CaptureFixture[str]):
    generator = np.random.default_rng([FORMATS.index(kind), len(damage)])
    plain = hostile.saved(hostile.noise(20, 20), kind)
    other = hostile.saved(
        hostile.noise(20, 20, seed=1), kind, **({"progressive": True} if kind == "JPEG" else {})
    )
    found = {"good": 0, "bad": 0}
    for turn in range(60):
        data = bytearray(plain if turn % 2 else other)
        place = int(generator.integers(1, len(data)))
        if damage == "flip":
            for position in generator.integers(0, min(len(data), 64 if turn % 3 else len(data)), 4):
                data[position] ^= int(generator.integers(1, 256))
        elif damage == "cut":
            del data[place:]
        elif damage == "splice":
            data[place:] = plain[int(generator.integers(0, len(plain))) :]
        else:
            data[place:place] = generator.integers(
                0, 256, int(generator.integers(1, 300)), dtype=np.uint8
            ).tobytes()
        found["bad" if outcome(bytes(data)) else "good"] += 1
    assert found["bad"] > 0  # the damage does something
    assert capfd.readouterr() == ("", "")


def test_a_bomb_is_refused_in_little_memory():
    """Measured in a process of its own: the peak of this one would hide it."""
    program = (
        "import resource, sys; sys.path.insert(0, sys.argv[1]); import hostile\n"
        "from frugalclip.data.image_faults import BadImage\n"
        "from frugalclip.data.images import decode\n"
        "kinds = [kind for kind in hostile.hostile_images() if kind.name.startswith('bomb')]\n"
        "decode(hostile.hostile_images()[-1].data)\n"
        "before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "for kind in kinds:\n"
        "    try: decode(kind.data)\n"
        "    except BadImage as error: assert error.cause == kind.cause\n"
        "print(len(kinds), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)"
    )
    command = [sys.executable, "-W", "error", "-c", program, str(Path(__file__).parent)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.stderr == ""
    kinds, kilobytes = map(int, done.stdout.split())
    assert kinds >= 9
    assert kilobytes < 40_000


def test_sixteen_bits_need_little_beside_the_image():
    """A grey picture of 16 bits, and one of floats, scale to 0 and 255 at their ends."""
    values = np.linspace(0, 65535, 256, dtype=np.uint16).reshape(16, 16)
    grey = np.asarray(decode(hostile.saved(values, "PNG")))[:, :, 0]
    assert (grey[0, 0], grey[-1, -1]) == (0, 255)
    assert np.array_equal(grey, np.rint(values / 257).astype(np.uint8))
    infinite = np.asarray(
        decode(next(kind.data for kind in hostile.hostile_images() if kind.name == "not-a-number-tiff"))
    )
    assert infinite[0, 0, 0] == 255
    assert infinite[1, 1, 0] == 0


def test_warnings_of_pillow_stay_inside():
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        for kind in hostile.hostile_images():
            outcome(kind.data)
    assert caught == []


def places(folder: Path, paths: list[str]) -> Manifest:
    return make_manifest(
        ids=[str(i) for i in range(len(paths))],
        images=image_places(paths),
        captions=[["x"]] * len(paths),
        root=folder,
        name="m",
    )


def test_paths_of_a_manifest_cannot_hang_or_crash_a_reader(tmp_path: Path):
    (tmp_path / "good.png").write_bytes(hostile.saved(hostile.noise(), "PNG"))
    hostile.make_pipe(tmp_path / "pipe.png")
    (tmp_path / "loop.png").symlink_to("loop.png")
    (tmp_path / "zero.png").symlink_to("/dev/zero")
    (tmp_path / "folder.png").mkdir()
    with (tmp_path / "sparse.png").open("wb") as file:
        file.truncate(2**40)
    names = [
        "good.png",
        "pipe.png",
        "loop.png",
        "zero.png",
        "folder.png",
        "sparse.png",
        "a\0b.png",
        "x" * 5000 + ".png",
        "good.png/a.png",
        "",
    ]
    manifest = places(tmp_path, names)
    causes = []
    for row in range(len(names)):
        try:
            ImageReader(manifest).image(row)
            causes.append(None)
        except BadImage as error:
            causes.append(named(error))
    expected = [
        None,
        "not-a-file",
        "missing-file",
        "not-a-file",
        "not-a-file",
        "too-many-bytes",
        "not-a-path",
        "not-a-path",
        "missing-file",
        "not-a-file",
    ]
    assert causes == expected
    decoded = decode_all(manifest, 8, 2)
    assert decoded.faults == [(row, cause) for row, cause in enumerate(expected) if cause]
