"""Data sets that Hugging Face's `datasets` saved or cached: folders of Arrow files."""

from typing import final

from frugalclip.data.ledger import Ledger
from frugalclip.sources.base import DataFile, DataFolder, DataFormat, Found, ReadOptions, Source
from frugalclip.sources.huggingface import arrow_manifest, is_saved_dataset, saved_manifest
from frugalclip.sources.reading import READING


@final
class SavedDataset(DataFormat):
    """A folder of `save_to_disk` or of the cache, or its Arrow files by name."""

    name = "arrow"
    precedence = 10

    def recognises(self, file: DataFile) -> bool:
        return file.ends_with(".arrow")

    def find(self, folder: DataFolder) -> Found | None:
        return Found(str(folder.path), folder=folder) if is_saved_dataset(folder.path) else None

    def read(self, found: Found, options: ReadOptions) -> Source:
        ledger, notes = Ledger(READING), list[str]()
        if found.folder is not None:
            manifest = saved_manifest(found.folder.path, columns=options.columns, ledger=ledger, notes=notes)
            return Source(manifest, "a saved Hugging Face dataset", ledger, notes)
        manifest = arrow_manifest(
            found.paths, name=found.name, columns=options.columns, ledger=ledger, notes=notes
        )
        count = len(found.files)
        return Source(manifest, "an Arrow file" if count == 1 else f"{count:,} Arrow files", ledger, notes)
