"""Folders of data for tests of the verbs that check and list them."""

import io
from pathlib import Path

from PIL import Image
from rich.console import Console


def printed(show, result) -> str:
    console = Console(file=io.StringIO(), width=200, color_system=None)
    show(result, console)
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def fill(folder: Path, count: int, *, first: int = 0) -> Path:
    """Pictures 0.png, 1.png, ... of different sizes, with text beside."""
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(first, first + count):
        Image.new("RGB", (8 + number, 6), (number, 0, 0)).save(folder / f"{number}.png")
        (folder / f"{number}.txt").write_text(f"picture number {number}")
    return folder


def messy(folder: Path) -> Path:
    """Ten pairs, of which some are broken, empty or equal."""
    fill(folder, 10)
    (folder / "3.txt").write_text("")
    noise = Image.effect_noise((40, 40), 60)
    noise.save(folder / "4.png")
    (folder / "4.png").write_bytes((folder / "4.png").read_bytes()[:600])
    (folder / "5.png").write_text("<!DOCTYPE html>")
    (folder / "6.txt").write_text("[bold]picture number 7")  # is text, not markup
    (folder / "7.txt").write_text("picture number 8")
    (folder / "drawing.svg").write_text("<svg/>")
    return folder
