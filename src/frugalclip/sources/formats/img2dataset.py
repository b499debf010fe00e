"""What img2dataset leaves with `--output_format files`: numbered folders of images, text and JSON.

Beside each folder lies a Parquet file of addresses, which also lists what could not be downloaded.
"""

from pathlib import Path
from typing import final

import pyarrow as pa
import pyarrow.parquet as pq

from frugalclip.data.ledger import Ledger
from frugalclip.sources.base import DataFile, DataFolder, DataFormat, Found, ReadOptions, Source
from frugalclip.sources.folders import folder_manifest
from frugalclip.sources.joining import joined
from frugalclip.sources.reading import READING


@final
class Img2Dataset(DataFormat):
    """The folder of a download, or one of its Parquet files by name."""

    name = "img2dataset"
    precedence = 60

    def recognises(self, file: DataFile) -> bool:
        return file.suffix == ".parquet" and file.path.stem.isdigit() and file.path.with_suffix("").is_dir()

    def find(self, folder: DataFolder) -> Found | None:
        lists = [file for file in folder.ending(".parquet") if self.recognises(file)]
        return Found(str(folder.path), folder=folder) if lists and not folder.has_images else None

    def read(self, found: Found, options: ReadOptions) -> Source:
        if found.folder is not None:
            lists = [file for file in found.folder.ending(".parquet") if self.recognises(file)]
            return _read(found.folder.path, [file.path for file in lists], options)
        sources = [_read(file.path.with_suffix(""), [file.path], options) for file in found.files]
        return joined(sources, found.name)


def _read(folder: Path, lists: list[Path], options: ReadOptions) -> Source:
    ledger, notes = Ledger(READING), list[str]()
    manifest, _ = folder_manifest(folder, ledger=ledger, notes=notes, mend=options.mend, has_classes=False)
    addresses, failed = _downloads(lists)
    if failed:
        notes.append(f"{failed:,} of {addresses:,} addresses could not be downloaded; they are no samples")
    return Source(manifest, "files of img2dataset", ledger, notes)


def _downloads(lists: list[Path]) -> tuple[int, int]:
    """How many addresses the lists hold, and how many of them failed."""
    addresses = failed = 0
    for path in lists:
        try:
            status = pq.read_table(path, columns=["status"])["status"].to_pylist()
        except (OSError, pa.ArrowException):
            continue
        addresses += len(status)
        failed += sum(one != "success" for one in status)
    return addresses, failed
