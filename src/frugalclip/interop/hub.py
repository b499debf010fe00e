"""Models by name: the files of a repository in the cache of Hugging Face's hub.

A name is resolved to the cache alone. What is not there is fetched only where that was asked for: with
`--download`, `load(..., download=True)`, or once for all with FRUGALCLIP_DOWNLOAD=1. What was used is
remembered with its revision, licence and size, and a run records it.
"""

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from frugalclip.core.errors import FrugalclipError, ModelError
from frugalclip.core.yaml_text import parse_yaml
from frugalclip.interop.hub_names import HubFiles, named_files
from frugalclip.interop.source import ModelSource

ENVIRONMENT = "FRUGALCLIP_DOWNLOAD"
_SNAPSHOTS, _REFS = "snapshots", "refs"


@dataclass(frozen=True)
class HubModel:
    """A model of the hub, as it was used."""

    source: str  # as the user wrote it
    repository: str
    revision: str  # the commit
    licence: str | None
    bytes: int  # of the files


_used: dict[str, HubModel] = {}  # of this process, by source


def used_models() -> list[dict[str, Any]]:
    """Models of the hub that this process has opened, as JSON for the record of a run."""
    return [asdict(one) for one in _used.values()]


def may_download() -> bool:
    """Whether models that are not there may be fetched."""
    return os.environ.get(ENVIRONMENT, "0") not in ("", "0")


@contextmanager
def downloads(*, are_allowed: bool) -> Iterator[None]:
    """Allow downloads inside; child processes of this one inherit it."""
    before = os.environ.get(ENVIRONMENT)
    if are_allowed:
        os.environ[ENVIRONMENT] = "1"
    try:
        yield
    finally:
        if before is None:
            os.environ.pop(ENVIRONMENT, None)
        else:
            os.environ[ENVIRONMENT] = before


def cache_folder() -> Path:
    """Where the hub's cache is, by the variables of Hugging Face."""
    home = os.environ.get("HF_HOME") or Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache") / "huggingface"
    return Path(os.environ.get("HF_HUB_CACHE") or Path(home) / "hub").expanduser()


def find_source(text: str, options: Mapping[str, Any] | None = None) -> ModelSource:
    """Split a MODEL string, and find the files that a name means.

    Args:
        text: as a user writes it.
        options: settings of its reader.

    Raises:
        ModelError: for a name whose files are not in the cache, with the command that fetches them.
    """
    return resolved(ModelSource.parse(text, options))


def resolved(source: ModelSource) -> ModelSource:
    """The source with a file or folder of the cache in the place of a name of the hub; others as they are."""
    files = None if source.is_of_hub else named_files(source)
    if files is None:
        return source
    folder = _snapshot(files)
    if may_download() and (folder is None or _absent(folder, files)):
        from frugalclip.interop.hub_download import download  # needs the library

        folder = download(files, cache=cache_folder(), source=source.text)
    if folder is None:
        here = f"there is no folder {source.rest}, and " if files.is_folder else ""
        raise ModelError(f"{here}{source.text} is not in the cache {cache_folder()}; {_advice(source)}")
    if absent := _absent(folder, files):
        raise ModelError(f"{folder} has no {absent}, so {source.text} is not whole; {_advice(source)}")
    _used[source.text] = HubModel(
        source.text, files.repository, folder.name, licence_of(folder), _size(folder, files)
    )
    if files.is_folder:
        return replace(source, rest=str(folder), is_of_hub=True)
    file = next(folder / one for one in files.needed[0] if _is_in(folder, one))
    return replace(source, rest=f"{source.name}@{file}", is_of_hub=True)


def _advice(source: ModelSource) -> str:
    form = "hf:DIR" if source.scheme == "hf" else f"{source.scheme}:{source.name}@FILE"
    return (
        f"add --download to the command, or set {ENVIRONMENT}=1 once for all. Without a network, copy the "
        f"files from elsewhere, and write {form}."
    )


def _snapshot(files: HubFiles) -> Path | None:
    """The folder of the revision in the cache, if there is one."""
    repository = cache_folder() / f"models--{files.repository.replace('/', '--')}"
    name = files.revision or "main"
    reference = repository / _REFS / name
    commit = reference.read_text(encoding="utf-8").strip() if reference.is_file() else name
    folder = repository / _SNAPSHOTS / commit
    return folder if folder.is_dir() else None


def _is_in(folder: Path, name: str) -> bool:
    """Whether a file is there; the cache holds links, which may lead nowhere after a cut."""
    return (folder / name).is_file()


def _absent(folder: Path, files: HubFiles) -> str:
    """Names of a needed file that is not there; empty if none is lacking."""
    return next(
        (" or ".join(names) for names in files.needed if not any(_is_in(folder, one) for one in names)), ""
    )


def _size(folder: Path, files: HubFiles) -> int:
    names = {*files.wanted, *(one for names in files.needed for one in names)}
    present = [folder / name for name in names if _is_in(folder, name)]
    return sum(one.stat().st_size for one in [*present, *folder.glob("*-of-*.safetensors")])


def licence_of(folder: Path) -> str | None:
    """The licence in the head of a repository's README.md; None where none is named."""
    card = folder / "README.md"
    text = card.read_text(encoding="utf-8", errors="replace") if card.is_file() else ""
    if not text.startswith("---\n") or "\n---" not in text[4:]:
        return None
    try:
        content = parse_yaml(text[4 : text.index("\n---", 4)], where=str(card))
    except FrugalclipError:
        return None
    licence = content.get("license") if isinstance(content, Mapping) else None
    return None if licence is None else str(licence)
