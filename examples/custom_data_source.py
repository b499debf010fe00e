"""Read a data source of one's own: pictures inside one large file, captions in a database."""

import io
import sqlite3
import tempfile
from pathlib import Path

from shapes import drawings

import frugalclip
from frugalclip.data.manifest import Manifest, image_places, make_manifest


def write_archive(folder: Path) -> None:
    """Stand in for the archive that you have: bytes in one file, an index and captions in SQLite."""
    base = sqlite3.connect(folder / "captions.sqlite")
    base.execute("create table items (id text, start integer, size integer, caption text, shape text)")
    with open(folder / "pictures.bin", "wb") as file:
        for i, (image, caption) in enumerate(drawings(96, seed=1)):
            buffer = io.BytesIO()
            image.save(buffer, "PNG")
            row = (f"item-{i}", file.tell(), file.write(buffer.getvalue()), caption, caption.split()[-1])
            base.execute("insert into items values (?, ?, ?, ?, ?)", row)
    base.commit()


def read_archive(folder: Path) -> Manifest:
    """A manifest of the archive: it says where the bytes are, and copies none."""
    rows = sqlite3.connect(folder / "captions.sqlite").execute("select * from items").fetchall()
    ids, starts, sizes, captions, shapes = zip(*rows, strict=True)
    return make_manifest(
        ids=ids,
        images=image_places(["pictures.bin"] * len(rows), offsets=starts, lengths=sizes),
        captions=[[caption] for caption in captions],
        fields={"shape": shapes},
        root=folder,
        name="archive",
    )


def main(folder: Path) -> None:
    # 1. Data: a manifest is the data set.
    write_archive(folder)
    read_archive(folder).write(folder / "archive.parquet")

    # 2. Train on it, here on two of its three shapes.
    overrides = [f"data={folder / 'archive.parquet'}", "data.where=shape=disc|square"]
    result = frugalclip.train(
        "clip-small", [*overrides, "batch=32", "steps=10", "threads=1"], out=folder / "run"
    )
    print(f"trained {result.steps} steps")

    # 3. Evaluate on the third.
    found = frugalclip.evaluate(
        folder / "run", data=folder / "archive.parquet", where="shape=cross", task="retrieval"
    )
    print(f"{found['samples']} samples of a shape that was not trained on")


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as name:
        main(Path(name))
