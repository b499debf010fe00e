"""Tars in a folder for each split, as CLIP_benchmark lays data sets out: `train/0.tar`, `test/0.tar`.

`classnames.txt` names the numbers in `.cls`; `zeroshot_classification_templates.txt` holds prompts.
"""

from typing import final

from frugalclip.data.ledger import Ledger
from frugalclip.sources.base import DataFolder, DataFormat, Found, ReadOptions, Source
from frugalclip.sources.folder_names import split_named
from frugalclip.sources.joining import in_split, joined
from frugalclip.sources.reading import READING
from frugalclip.sources.webdataset import shards_manifest

_TEMPLATES = "zeroshot_classification_templates.txt"


@final
class SplitTars(DataFormat):
    """A folder without tars at its top, and with folders of tars called after splits."""

    name = "split-tars"
    precedence = 115

    def find(self, folder: DataFolder) -> Found | None:
        return Found(str(folder.path), folder=folder) if _with_tars(folder) else None

    def read(self, found: Found, options: ReadOptions) -> Source:
        assert found.folder is not None
        inner = _with_tars(found.folder)
        source = joined([_read_one(one, options) for one in inner], found.name)
        source.kind = f"WebDataset tars in a folder for each split ({len(inner):,})"
        if any(file.path.name == _TEMPLATES for file in found.folder.files):
            source.notes.append(f"prompts for evaluate: --prompts {found.folder.path / _TEMPLATES}")
        return source


def _with_tars(folder: DataFolder) -> list[DataFolder]:
    return [one for one in folder.folders if split_named(one.path.name) and one.ending(".tar")]


def _read_one(folder: DataFolder, options: ReadOptions) -> Source:
    ledger, notes = Ledger(READING), list[str]()
    paths = [file.path for file in folder.ending(".tar")]
    manifest = shards_manifest(paths, name=str(folder.path), ledger=ledger, notes=notes, mend=options.mend)
    return in_split(Source(manifest, "WebDataset tars", ledger, notes), split_named(folder.path.name))
