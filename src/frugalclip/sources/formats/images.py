"""Folders of images: with text beside them, or in class folders."""

from typing import final

from frugalclip.data.ledger import Ledger
from frugalclip.sources.base import DataFolder, DataFormat, Found, ReadOptions, Source
from frugalclip.sources.folders import folder_manifest
from frugalclip.sources.reading import READING


@final
class ImageFolder(DataFormat):
    """Any folder that is nothing else."""

    name = "images"
    precedence = 900

    def find(self, folder: DataFolder) -> Found | None:
        return Found(str(folder.path), folder=folder)

    def read(self, found: Found, options: ReadOptions) -> Source:
        assert found.folder is not None
        ledger, notes = Ledger(READING), list[str]()
        manifest, kind = folder_manifest(found.folder.path, ledger=ledger, notes=notes, mend=options.mend)
        return Source(manifest, kind, ledger, notes)
