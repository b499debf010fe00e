"""Parquet files: manifests, tables with paths, and tables with images inside."""

from pathlib import Path
from typing import final

import pyarrow as pa
import pyarrow.parquet as pq

from frugalclip.core.errors import DataError
from frugalclip.data.ledger import Ledger
from frugalclip.data.manifest import Manifest, is_manifest
from frugalclip.sources.base import DataFile, DataFolder, DataFormat, Found, ReadOptions, Source
from frugalclip.sources.huggingface import split_of
from frugalclip.sources.joining import in_split, joined
from frugalclip.sources.parquet_tables import names_images, parquet_manifest
from frugalclip.sources.reading import READING

_ENDINGS = (".parquet", ".pq")


@final
class Parquet(DataFormat):
    """One Parquet file, several, or a folder of them; `train-00000-of-00012.parquet` gives a split."""

    name = "parquet"
    precedence = 120

    def recognises(self, file: DataFile) -> bool:
        return file.ends_with(*_ENDINGS) or file.head[:4] == b"PAR1"

    def find(self, folder: DataFolder) -> Found | None:
        files = folder.ending(*_ENDINGS)
        if folder.has_images:  # the table of these images, if it names them
            files = [file for file in files if names_images(file.path)][:1]
        return Found(str(folder.path), files, folder) if files else None

    def read(self, found: Found, options: ReadOptions) -> Source:
        sources: list[Source] = []
        refused = Ledger(READING)
        for path in found.paths:  # among several one that cannot be read is a fault like any other
            try:
                sources.append(in_split(read_parquet(path, options), split_of(path)))
            except DataError as error:
                if path == found.paths[-1] and not sources:
                    raise
                refused.drop(path.name, "not-a-shard", str(error))
        source = joined(sources, found.name)
        source.ledger.include(refused)
        return source


def read_parquet(path: Path, options: ReadOptions) -> Source:
    """One Parquet file.

    Raises:
        DataError: when the file is damaged, or no row is a sample.
    """
    try:
        schema = pq.read_schema(path)
    except (OSError, pa.ArrowException) as error:
        raise DataError(
            f"{path} cannot be read as Parquet ({str(error).splitlines()[0]}); copy it again."
        ) from None
    if is_manifest(schema):
        return Source(Manifest.read(path), "a manifest")
    ledger, notes = Ledger(READING), list[str]()
    manifest = parquet_manifest(path, columns=options.columns, ledger=ledger, notes=notes)
    return Source(manifest, "a Parquet table", ledger, notes)
