"""Fetches the files of a model from the hub into its cache, and checks every one against its hash.

The hub's own client writes the cache. It goes on within a call where a connection was cut; whole files stay
for the next call.
"""

import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from frugalclip.core.errors import ModelError, require
from frugalclip.core.terminal import show_remark
from frugalclip.interop.hub_names import HubFiles

_PURPOSE = "a model by its name"
_SHARDS = "-of-"  # in the names of files that an index lists


def download(files: HubFiles, *, cache: Path, source: str) -> Path:
    """Fetch what is lacking.

    Args:
        files: what the model consists of.
        cache: folder of the hub's cache.
        source: as the user wrote it, for messages.

    Returns:
        The folder of the revision in the cache.

    Raises:
        ModelError: where the hub cannot be reached, has no such files, or sent others than it promised.
        MissingExtra: where the hub's client is not installed.
    """
    hub = require("huggingface_hub", extra="hf", purpose=_PURPOSE)
    endpoint = os.environ.get("HF_ENDPOINT") or None
    with _explained(source):
        api = hub.HfApi(endpoint=endpoint)
        info = api.model_info(files.repository, revision=files.revision, files_metadata=True)
    listed = {one.rfilename: one for one in info.siblings or ()}
    chosen = [listed[name] for name in _chosen(files, list(listed), source)]
    size = sum(one.size or 0 for one in chosen)
    licence = getattr(info.card_data, "license", None) or "not named"
    show_remark(
        f"fetching {source}: {files.repository}, {size / 1e6:,.1f} MB in {len(chosen)} files, licence "
        f"{licence}, revision {info.sha}"
    )
    paths = []
    for one in chosen:
        with _explained(source):
            path = hub.hf_hub_download(
                files.repository, one.rfilename, revision=info.sha, cache_dir=cache, endpoint=endpoint
            )
        _verify(Path(path), one, source=source)
        paths.append(Path(path))
    folder = cache / f"models--{files.repository.replace('/', '--')}"
    if files.revision is None:  # asked for by its commit, so the client does not note what main is
        reference = folder / "refs" / "main"
        reference.parent.mkdir(parents=True, exist_ok=True)
        reference.write_text(info.sha, encoding="utf-8")
    elif files.revision != info.sha:
        reference = folder / "refs" / files.revision
        reference.parent.mkdir(parents=True, exist_ok=True)
        reference.write_text(info.sha, encoding="utf-8")
    return folder / "snapshots" / info.sha


def _chosen(files: HubFiles, listed: list[str], source: str) -> list[str]:
    """The files to fetch, those that are needed first."""
    chosen = []
    for names in files.needed:
        found = next((one for one in names if one in listed), None)
        if found is None:
            raise ModelError(
                f"{files.repository} has no {' or '.join(names)}, so {source} cannot be read; its files are "
                f"{', '.join(sorted(listed)[:12])}."
            )
        chosen.append(found)
        if found.endswith(".index.json"):
            chosen += [one for one in listed if _SHARDS in one and one.endswith(".safetensors")]
    return list(dict.fromkeys([*chosen, *(one for one in files.wanted if one in listed)]))


def _verify(path: Path, listed: Any, *, source: str) -> None:
    """Refuse a file that is not what the hub lists, and take it out of the cache.

    Raises:
        ModelError: naming the file.
    """
    data = path.resolve()
    lfs = listed.lfs
    if lfs is not None:
        with data.open("rb") as file:
            is_right = hashlib.file_digest(file, "sha256").hexdigest() == lfs.sha256
    elif listed.blob_id:  # of small files the hub lists git's own hash
        content = data.read_bytes()
        digest = hashlib.sha1(b"blob %d\0" % len(content) + content, usedforsecurity=False)
        is_right = digest.hexdigest() == listed.blob_id
    else:
        is_right = listed.size is None or data.stat().st_size == listed.size
    if not is_right:
        data.unlink(missing_ok=True)
        path.unlink(missing_ok=True)
        raise ModelError(
            f"{listed.rfilename} of {source} arrived with another hash than the hub lists, and was deleted; "
            "run the command again."
        )


@contextmanager
def _explained(source: str) -> Iterator[None]:
    """Turn the client's errors into one sentence."""
    try:
        yield
    except Exception as error:  # its own, those of its HTTP library, and of the disk
        name = type(error).__name__
        where = os.environ.get("HF_ENDPOINT") or "the hub"
        first = (str(error).strip().splitlines() or [name])[0]
        if name in ("RepositoryNotFoundError", "GatedRepoError", "RevisionNotFoundError"):
            raise ModelError(
                f"{where} has no {source} for you ({name}); check the name, or log in with: hf auth login"
            ) from error
        if name == "OfflineModeIsEnabled":
            raise ModelError(
                f"HF_HUB_OFFLINE is set, so {source} is not fetched; unset it, and run again."
            ) from error
        if isinstance(error, OSError) and error.errno is not None and not name.startswith("Connect"):
            raise
        raise ModelError(
            f"{source} could not be fetched from {where} ({name}: {first}); check the network and run the "
            "command again: whole files are kept."
        ) from error
