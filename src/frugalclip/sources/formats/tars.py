"""WebDataset: tars in which the files of one key are a sample."""

from typing import final

from frugalclip.data.ledger import Ledger
from frugalclip.sources.base import DataFile, DataFolder, DataFormat, Found, ReadOptions, Source
from frugalclip.sources.reading import READING
from frugalclip.sources.webdataset import shards_manifest

_ENDINGS = (".tar", ".tgz", ".tar.gz", ".tar.bz2", ".tar.xz", ".tar.zst")


@final
class Tars(DataFormat):
    """One tar, several, or a folder of them."""

    name = "tar"
    precedence = 110

    def recognises(self, file: DataFile) -> bool:
        return file.ends_with(*_ENDINGS) or file.head[257:262] == b"ustar"

    def find(self, folder: DataFolder) -> Found | None:
        files = [] if folder.has_images else folder.ending(*_ENDINGS)
        return Found(str(folder.path), files, folder) if files else None

    def read(self, found: Found, options: ReadOptions) -> Source:
        ledger, notes = Ledger(READING), list[str]()
        manifest = shards_manifest(
            found.paths, name=found.name, ledger=ledger, notes=notes, mend=options.mend
        )
        count = len(found.files)
        kind = f"WebDataset tars ({count:,})" if count > 1 else "a WebDataset tar"
        return Source(manifest, kind, ledger, notes)
