"""Several sources as one."""

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np

from frugalclip.core.errors import DataError
from frugalclip.data.ledger import Ledger
from frugalclip.data.manifest import concatenate
from frugalclip.sources.base import DataFile, Source
from frugalclip.sources.huggingface import with_split
from frugalclip.sources.reading import READING


def joined(sources: Sequence[Source], name: str) -> Source:
    """Sources one after another; ids that clash get their source's name as prefix.

    Args:
        sources: one or more; a single one stays what it is.
        name: of the whole, as the user wrote it.
    """
    if len(sources) == 1:
        return sources[0]
    manifest = concatenate([source.manifest for source in sources], name=name)
    ends = np.cumsum([len(source.manifest) for source in sources])
    ids = [manifest.ids[end - len(source.manifest) : end] for source, end in zip(sources, ends, strict=True)]
    ledger = Ledger(READING)
    for source, new in zip(sources, ids, strict=True):
        ledger.include(source.ledger.renamed(source.manifest.ids, new))
    notes = list(dict.fromkeys(note for source in sources for note in source.notes))
    kinds = list(dict.fromkeys(source.kind for source in sources))
    kind = (
        f"{len(sources):,} files, each {kinds[0]}"
        if len(kinds) == 1
        else f"{len(sources):,} data sets ({', '.join(kinds)})"
    )
    return Source(manifest, kind, ledger, notes)


def in_split(source: Source, split: str | None) -> Source:
    """The source with a field `split`, unless it has one or there is none to name."""
    return replace(source, manifest=with_split(source.manifest, split)) if split else source


def read_each(files: Sequence[DataFile], read: Callable[[DataFile], Source], name: str) -> Source:
    """Annotation files as one source; one whose images are all elsewhere is left out with a note.

    Args:
        files: one or more.
        read: reads one of them.
        name: of the whole, as the user wrote it.

    Raises:
        DataError: of the first file, when none of them gives a sample.
    """
    sources: list[Source] = []
    refusals: list[DataError] = []
    for file in files:
        try:
            sources.append(read(file))
        except DataError as error:
            refusals.append(error)
        file.forget()
    if not sources:
        raise refusals[0]
    source = joined(sources, name)
    return replace(source, notes=[*source.notes, *(f"left out: {error}" for error in refusals)])
